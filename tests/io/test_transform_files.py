"""Transform files of other programs, damaged ones, and what is unsaid in them: judged by SimpleITK and by numbers known."""

import errno
import os
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support import spaces
from support.maps import affine, bspline, field, points

from augreg import Affine, DisplacementField, Grid, cli, read_transform, write_transform
from augreg.geometry.velocity import Exponential
from augreg.io import FileWarning
from augreg.io.hdf5 import lookup3
from augreg.io.transforms import to_sitk_transform

HEADER = "#Insight Transform File V1.0\n"


def block(kind, parameters, fixed, number=0):
    numbers = [" ".join(map(repr, map(float, values))) for values in (parameters, fixed)]
    return f"#Transform {number}\nTransform: {kind}\nParameters: {numbers[0]}\nFixedParameters: {numbers[1]}\n"


@pytest.mark.parametrize(("ndim", "precision"), [(2, "double"), (3, "double"), (3, "float")])
def test_a_matrix_with_offset_turns_about_its_centre(ndim, precision, tmp_path):
    matrix, center, shift = affine(ndim).matrix, np.arange(1.0, ndim + 1), np.linspace(3, 5, ndim)
    kind = f"MatrixOffsetTransformBase_{precision}_{ndim}_{ndim}"
    (tmp_path / "m.tfm").write_text(HEADER + block(kind, [*matrix.ravel(), *shift], center), encoding="utf-8")
    x = points(ndim, 30)
    np.testing.assert_allclose(read_transform(tmp_path / "m.tfm")(x), (x - center) @ matrix.T + center + shift, atol=1e-9)


def test_every_matrix_kind_of_itk_is_read_as_simpleitk_applies_it(tmp_path):
    rng = np.random.default_rng(0)
    versor, center = [0.1, -0.2, 0.15], [4.0, -3.0, 2.0]
    kinds = {
        "AffineTransform_float_3_3": ([*rng.normal(size=12)], center),
        "Euler3DTransform_double_3_3": ([0.1, 0.2, -0.3, 1, 2, 3], [*center, 1]),
        "VersorTransform_double_3_3": (versor, center),
        "VersorRigid3DTransform_double_3_3": ([*versor, 1, 2, 3], center),
        "Similarity3DTransform_double_3_3": ([*versor, 1, 2, 3, 1.2], center),
        "ScaleVersor3DTransform_double_3_3": ([*versor, 1, 2, 3, 1.1, 0.9, 1.3], center),
        "ScaleSkewVersor3DTransform_double_3_3": ([*versor, 1, 2, 3, 1.1, 0.9, 1.3, *rng.normal(0, 0.1, 6)], center),
        "ComposeScaleSkewVersor3DTransform_double_3_3": ([*versor, 1, 2, 3, 1.1, 0.9, 1.3, 0.1, 0.2, -0.1], center),
        "ScaleTransform_double_3_3": ([1.1, 0.9, 1.3], center),
        "TranslationTransform_double_3_3": ([1, 2, 3], []),
        "Euler2DTransform_double_2_2": ([0.3, 1, 2], [5, -6]),
        "Similarity2DTransform_double_2_2": ([1.2, 0.3, 1, 2], [5, -6]),
    }
    for kind, (parameters, fixed) in kinds.items():
        path = tmp_path / f"{kind}.tfm"
        path.write_text(HEADER + block(kind, parameters, fixed), encoding="utf-8")
        x = points(int(kind[-1]), 20)
        if kind.startswith("Compose"):
            theirs = sitk.ComposeScaleSkewVersor3DTransform()  # SimpleITK does not read its own
            theirs.SetFixedParameters(fixed)
            theirs.SetParameters(parameters)
        else:
            theirs = sitk.ReadTransform(str(path))
        np.testing.assert_allclose(read_transform(path)(x), [theirs.TransformPoint(p.tolist()) for p in x], atol=1e-9)
        cut = tmp_path / "cut.tfm"
        cut.write_text(HEADER + block(kind, parameters[:-1], fixed), encoding="utf-8")
        with pytest.raises(ValueError, match=r"cut\.tfm: expected \d+ parameters"):
            read_transform(cut)


def test_kinds_with_the_centre_among_their_parameters_are_those_without(tmp_path):
    # SimpleITK does not read them: ITK's own definition, the centre before the translation
    matrix, center = np.random.default_rng(0).normal(size=9), [4.0, -3.0, 2.0]
    pairs = [
        (("CenteredAffineTransform_double_3_3", [*matrix, *center, 1, 2, 3]), ("AffineTransform_double_3_3", [*matrix, 1, 2, 3])),
        (
            ("CenteredEuler3DTransform_double_3_3", [0.1, 0.2, 0.3, *center, 1, 2, 3]),
            ("Euler3DTransform_double_3_3", [0.1, 0.2, 0.3, 1, 2, 3]),
        ),
        (("CenteredRigid2DTransform_double_2_2", [0.3, *center[:2], 1, 2]), ("Euler2DTransform_double_2_2", [0.3, 1, 2])),
        (
            ("CenteredSimilarity2DTransform_double_2_2", [1.2, 0.3, *center[:2], 1, 2]),
            ("Similarity2DTransform_double_2_2", [1.2, 0.3, 1, 2]),
        ),
    ]
    for (centred, numbers), (plain, fewer) in pairs:
        ndim = int(plain[-1])
        (tmp_path / "c.tfm").write_text(HEADER + block(centred, numbers, []), encoding="utf-8")
        (tmp_path / "p.tfm").write_text(HEADER + block(plain, fewer, center[:ndim]), encoding="utf-8")
        theirs = sitk.ReadTransform(str(tmp_path / "p.tfm"))
        x = points(ndim, 20)
        np.testing.assert_allclose(
            read_transform(tmp_path / "c.tfm")(x), [theirs.TransformPoint(p.tolist()) for p in x], atol=1e-9
        )


def test_several_transforms_and_composites_without_any_are_refused(tmp_path):
    a, b = (block("AffineTransform_double_2_2", [1, 0, 0, 1, shift, 0], [0, 0]) for shift in (5, 7))
    composite = HEADER + "#Transform 0\nTransform: CompositeTransform_double_2_2\n"
    cases = {
        "two": (HEADER + a + b, "2 transforms side by side"),
        "cut": (composite, "cut after its header"),
        "late": (HEADER + a + composite.removeprefix(HEADER) + b, "composite after other"),
        "no fixed": (HEADER + a.rsplit("FixedParameters", 1)[0], "FixedParameters of the AffineTransform"),
        "no end": (HEADER + a[:-1], "truncated"),
        "words": (HEADER + a.replace("5.0", "five"), "numbers"),
        "infinite": (HEADER + a.replace("5.0", "inf"), "finite"),
        "giant": (
            HEADER + block("BSplineTransform_double_2_2", [1, 2, 3], [1e5, 1e5, 0, 0, 1, 1, 1, 0, 0, 1]),
            "20000000000 parameters",
        ),
        "part": (HEADER + block("BSplineTransform_double_2_2", [1] * 50, [5.5, 5, 0, 0, 1, 1, 1, 0, 0, 1]), "whole sizes"),
        "flat": (HEADER + block("BSplineTransform_double_2_2", [1] * 50, [5, 5, 0, 0, 0, 1, 1, 0, 0, 1]), "positive mm"),
        "endless": (HEADER + "Parameters: " + "1 " * 10**6 + "\n", "Transform before Parameters"),
        "4-D": (HEADER + block("AffineTransform_double_4_4", [1] * 20, [0] * 4), "2-D or 3-D"),
        "order": (HEADER + block("BSplineTransform_double_2_2_2", [1] * 50, [5, 5, 0, 0, 1, 1, 1, 0, 0, 1]), "order 3"),
    }
    for name, (text, word) in cases.items():
        (tmp_path / "t.tfm").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=word) as caught:
            read_transform(tmp_path / "t.tfm")
        assert "t.tfm" in str(caught.value), name
        assert "\n" not in str(caught.value)
    (tmp_path / "t.tfm").write_text(composite + a + b, encoding="utf-8")
    assert read_transform(tmp_path / "t.tfm")(np.zeros((1, 2))).tolist() == [[12.0, 0.0]]


@pytest.mark.parametrize("suffix", [".h5", ".mat"])
def test_files_of_itk_in_binary_are_read_and_damaged_ones_end_in_one_line(suffix, tmp_path):
    theirs = (
        to_sitk_transform(affine(3))
        if suffix == ".mat"
        else sitk.CompositeTransform(list(map(to_sitk_transform, (affine(3), bspline(3)))))
    )
    path = tmp_path / f"t{suffix}"
    sitk.WriteTransform(theirs, str(path))
    x = points(3, 20)
    np.testing.assert_allclose(read_transform(path)(x), [theirs.TransformPoint(p.tolist()) for p in x], atol=1e-9)
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", whole[:20], b"\0" * len(whole)):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            read_transform(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_any_changed_byte_of_what_we_write_is_told(suffix, tmp_path):
    path = tmp_path / f"t{suffix}"
    write_transform(affine(2) @ bspline(2), path)
    whole = path.read_bytes()
    for at in np.random.default_rng(0).integers(30, len(whole), 25):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if b"#augreg crc32" not in path.read_bytes() and suffix == ".tfm":
            continue  # the checksum itself
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_transform(path)
    for length in (0.3, 0.7):
        path.write_bytes(whole[: int(length * len(whole))])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_transform(path)


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".nii", ".nii.gz", ".mha", ".nrrd"])
def test_on_a_full_disk_the_old_file_stays_and_an_error_is_raised(suffix, tmp_path):
    path, transform = tmp_path / f"t{suffix}", field(2)
    write_transform(transform, path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises((OSError, ValueError)):
            write_transform(transform, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_disk_without_room_for_hdf5_is_an_error_not_the_end_of_the_process(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no space"):
        write_transform(affine(2), tmp_path / "t.h5")
    assert os.listdir(tmp_path) == []


LPS = np.array([3.0, -2.0, 1.0])
RAS = LPS * [-1, -1, 1]
PLACE = np.diag([-2.0, -2.0, 2.5, 1.0])
PLACE[:3, 3] = 10, 20, -5


def nifti(path, values, intent, affine_ras=PLACE):
    image = nibabel.Nifti1Image(np.asarray(values, dtype=np.float32), affine_ras)
    if intent:
        image.header.set_intent(intent)
    nibabel.save(image, path)
    return path


def everywhere(vector, shape):
    return np.broadcast_to(vector, (*shape, len(vector)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_fields_that_say_what_they_are_move_points_so(suffix, tmp_path):
    path, shape, x = tmp_path / f"u{suffix}", (12, 14, 10), np.array([[0.0, 0.0, 5.0]])
    for vector, intent in ((LPS, 1007), (RAS, 1006)):
        for values in (everywhere(vector, (*shape, 1)), everywhere(vector, shape)):
            np.testing.assert_allclose(read_transform(nifti(path, values, intent))(x), x + LPS, atol=1e-6)


@pytest.mark.parametrize("fifth", [True, False])
def test_fields_that_do_not_say_are_read_by_a_convention_only(fifth, tmp_path):
    path, shape, x = tmp_path / "u.nii.gz", (12, 14, 10), np.array([[0.0, 0.0, 5.0]])
    voxels = LPS / np.diag(PLACE)[:3] / [-1, -1, 1]
    shape = (*shape, 1) if fifth else shape
    for vector, convention in ((LPS, "lps"), (RAS, "ras"), (voxels, "voxel")):
        nifti(path, everywhere(vector, shape), 0)
        with pytest.raises(ValueError, match=r"LPS.*RAS.*voxels.*--convention"):
            read_transform(path)
        np.testing.assert_allclose(read_transform(path, convention=convention)(x), x + LPS, atol=1e-6)
        (tmp_path / "p.csv").write_text("x,y,z\n0,0,5\n", encoding="utf-8")
        command = ["points", str(tmp_path / "p.csv"), "-t", str(path), "-o", str(tmp_path / "q.csv")]
        assert cli.main(command) == 2
        assert cli.main([*command, "--convention", convention]) == 0
        mapped = np.loadtxt(tmp_path / "q.csv", delimiter=",", skiprows=1)
        np.testing.assert_allclose(mapped, x[0] + LPS, atol=1e-6)
    with pytest.raises(ValueError, match="convention"):
        read_transform(path, convention="fsl")


def test_voxels_follow_the_index_axes_of_an_oblique_field(tmp_path):
    grid = spaces.grid(3, "oblique")
    ras = np.eye(4)
    ras[:3, :3] = np.diag([-1, -1, 1]) @ grid.index_to_world
    ras[:3, 3] = np.array(grid.origin) * [-1, -1, 1]
    flow = np.random.default_rng(0).normal(size=(*grid.shape, 3))
    read = read_transform(nifti(tmp_path / "u.nii", flow, 0, ras), convention="voxel")
    index = np.array([2, 3, 1])
    there = grid.points_at(index + flow[2, 3, 1].astype(np.float32))
    np.testing.assert_allclose(read(grid.points_at(index)), there, atol=1e-4)


def test_a_convention_against_the_file_counts_and_is_said(tmp_path):
    path, x = nifti(tmp_path / "u.nii", everywhere(RAS, (12, 14, 10, 1)), 1007), np.array([[0.0, 0.0, 5.0]])
    with pytest.warns(FileWarning, match=r"u\.nii: read as ras.*although such a file holds lps"):
        np.testing.assert_allclose(read_transform(path, convention="ras")(x), x + LPS, atol=1e-6)


def test_fields_of_one_slice_are_two_dimensional_unless_they_leave_it(tmp_path):
    place, x = np.diag([-1.0, -1.0, 1.0, 1.0]), np.array([[3.0, 4.0]])
    flat = [*LPS[:2], 0.0]
    for vector in (LPS[:2], flat):
        read = read_transform(nifti(tmp_path / "u.nii.gz", everywhere(vector, (30, 40, 1, 1)), 1007, place))
        np.testing.assert_allclose(read(x), x + LPS[:2], atol=1e-6)
        unsaid = nifti(tmp_path / "v.nii.gz", everywhere(vector, (30, 40, 1)), 0, place)
        np.testing.assert_allclose(read_transform(unsaid, convention="lps")(x), x + LPS[:2], atol=1e-6)
    with pytest.raises(ValueError, match="out of it"):
        read_transform(nifti(tmp_path / "u.nii.gz", everywhere(LPS, (30, 40, 1, 1)), 1007, place))


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".nii.gz"])
@pytest.mark.parametrize("composed", [False, True])
def test_flows_of_velocities_are_written_as_fields(suffix, composed, tmp_path):
    velocity = bspline(2)
    flow = Exponential(velocity)
    transform = affine(2) @ flow if composed else flow
    inner = velocity.grid.padded(-1)
    grid = None if suffix != ".nii.gz" else inner.with_shape(tuple(8 * n for n in inner.shape))
    path = tmp_path / f"t{suffix}"
    write_transform(transform, path, grid)
    nodes = inner.with_shape(tuple(8 * n for n in inner.shape)).points().reshape(-1, 2)[::17]
    reach = np.abs(flow(nodes) - nodes).max()
    assert reach > 0.5
    np.testing.assert_allclose(read_transform(path)(nodes), transform(nodes), atol=1e-3 * reach)


def test_a_field_through_files_stays_the_same_numbers(tmp_path):
    grid = Grid((7, 5), (0.7, 1.3), (3.0, -2.0))
    ours = DisplacementField(np.random.default_rng(0).normal(size=(7, 5, 2)), grid)
    for suffix in (".tfm", ".h5"):
        write_transform(Affine.identity(2) @ ours, tmp_path / f"t{suffix}")
        np.testing.assert_array_equal(read_transform(tmp_path / f"t{suffix}").transforms[1].values, ours.values)


def test_matrices_of_fsl_are_named(tmp_path):
    (tmp_path / "t.mat").write_text("1 0 0 2.5\n0 1 0 -1e-3\n0 0 1 0\n0 0 0 1  \n", encoding="utf-8")
    with pytest.raises(ValueError, match="FSL") as caught:
        read_transform(tmp_path / "t.mat")
    assert "\n" not in str(caught.value)


def test_equal_transforms_are_equal_bytes_whenever_they_are_written(tmp_path):
    # what looks like a header of HDF5 among the numbers stays what it is
    header = np.frombuffer(b"OHDR\x02\x20" + bytes(18), dtype=np.float64)
    values = np.zeros((4, 5, 2))
    values[1, :3, 0] = header
    phi = Affine([[1.0, 0.1], [0.0, 0.9]], [3.0, 4.0]) @ DisplacementField(values, Grid((4, 5)))
    write_transform(phi, tmp_path / "a.h5")
    time.sleep(1.1)
    write_transform(phi, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    np.testing.assert_array_equal(read_transform(tmp_path / "a.h5").transforms[1].values, values)


# a thread more or less ends the process where HDF5 is not guarded: in a process of its own
_BESIDE_IMAGES = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import augreg as ar
folder, grid = sys.argv[1], ar.Grid((20, 20))
field, image = ar.DisplacementField(np.ones((20, 20, 2)), grid), ar.Image(np.eye(20, dtype=np.float32), grid)

def work(i):
    if i % 2:
        ar.write_transform(field, f"{folder}/{i}.h5")
        return np.array_equal(ar.read_transform(f"{folder}/{i}.h5").values, field.values)
    name = f"{folder}/{i}." + ("nii.gz", "mha", "nrrd")[i // 2 % 3]
    ar.write_image(image, name)
    return np.array_equal(ar.read_image(name).values, image.values)

with ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(work, range(600))))
"""


def test_transforms_are_written_beside_images(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", _BESIDE_IMAGES, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    assert (run.returncode, run.stdout.strip()) == (0, "600")


def test_several_threads_write_and_read_at_once(tmp_path):
    fields = [DisplacementField(np.full((40, 30, 2), float(i)), Grid((40, 30))) for i in range(40)]

    def there_and_back(i):
        write_transform(Affine.identity(2) @ fields[i], tmp_path / f"{i}.h5")
        return read_transform(tmp_path / f"{i}.h5").transforms[1].values

    with ThreadPoolExecutor(4) as pool:
        for i, values in enumerate(pool.map(there_and_back, range(40))):
            np.testing.assert_array_equal(values, fields[i].values)


def test_the_checksum_of_headers_is_that_of_its_author():
    assert lookup3(b"Four score and seven years ago") == 0x17770551
