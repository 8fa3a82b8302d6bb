"""NIfTI, judged by nibabel and, where it places an image, by SimpleITK."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support import spaces
from support.files import refused
from support.volumes import RNG, SHAPE, affine, corners, nifti, numbers, off, patched

from augreg import Grid, Image, read_image, read_labels, write_image
from augreg.io import FileWarning

# places


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_geometry_of_ordinary_files_is_simpleitks_to_the_bit(ndim, name, suffix, tmp_path):
    grid = spaces.grid(ndim, name)
    path = tmp_path / f"i{suffix}"
    write_image(Image(numbers("f4", grid.shape), grid), path)
    theirs = sitk.ReadImage(str(path))
    ours = read_image(path)
    assert ours.grid.spacing == theirs.GetSpacing()
    assert ours.grid.origin == theirs.GetOrigin()
    direction = np.reshape(theirs.GetDirection(), (ndim, ndim))
    if np.allclose(direction.T @ direction, np.eye(ndim), atol=1e-6):
        np.testing.assert_array_equal(ours.grid.direction, direction)
    np.testing.assert_array_equal(ours.values, sitk.GetArrayFromImage(theirs).T)


def test_a_nifti_of_nibabel_lies_where_both_libraries_say(tmp_path):
    for suffix in (".nii", ".nii.gz"):
        path = nifti(tmp_path / f"a{suffix}")
        theirs, ours = sitk.ReadImage(str(path)), read_image(path)
        assert off(ours.grid, nibabel.load(path).affine) < 1e-4
        assert ours.grid.origin == theirs.GetOrigin()
        assert ours.grid.spacing == theirs.GetSpacing()


def test_good_sform_and_no_voxel_sizes(tmp_path):
    for bad in (0, np.nan, np.inf, -1):
        path = patched(nifti(tmp_path / "a.nii.gz"), 80, "<f", bad)
        with pytest.warns(FileWarning, match="pixdim"):
            grid = read_image(path).grid
        assert off(grid, affine()) < 1e-4


def test_voxel_sizes_that_nothing_else_gives_are_needed(tmp_path):
    for bad in (0, np.nan, np.inf, -1):
        refused(patched(nifti(tmp_path / "a.nii.gz", scode=0), 80, "<f", bad), "voxel sizes")


def test_voxel_sizes_left_at_1_beside_a_sform(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", qcode=0, pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    with pytest.warns(FileWarning, match="sform is taken"):
        grid = read_image(path).grid
    assert off(grid, affine()) < 1e-4


@pytest.mark.parametrize(("scode", "qcode"), [(2, 1), (4, 1), (1, 1), (1, 2)])
def test_sform_and_qform_that_disagree_are_told_with_how_far(scode, qcode, tmp_path):
    other = affine(0.0, origin=(-96, -96, -60))
    path = nifti(tmp_path / "a.nii.gz", sform=other, scode=scode, qcode=qcode)
    box = np.c_[corners(Grid(SHAPE)), np.ones(8)]
    apart = np.linalg.norm(box @ (affine() - other).T, axis=1).max()
    with pytest.warns(FileWarning, match=f"disagree by {apart:.3g} mm"):
        grid = read_image(path).grid
    assert min(off(grid, affine()), off(grid, other)) < 1e-4
    assert grid.origin == sitk.ReadImage(str(path)).GetOrigin()


def test_shear_is_refused_or_told(tmp_path):
    sheared = affine()
    sheared[:3, :3] = sheared[:3, :3] @ np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]])
    refused(nifti(tmp_path / "a.nii.gz", sform=sheared, qcode=0, pixdim=[1, 2, 2.5, 3, 0, 0, 0, 0]), "shear")
    with pytest.warns(FileWarning, match="disagree"):
        read_image(nifti(tmp_path / "b.nii.gz", sform=sheared, qform=sheared))


def test_a_sform_that_is_none(tmp_path):
    flat = affine()
    flat[:3, 2] = 0
    refused(nifti(tmp_path / "a.nii.gz", sform=flat, qcode=0), "column of zeros")
    with pytest.warns(FileWarning, match="qform is taken"):
        grid = read_image(nifti(tmp_path / "b.nii.gz", sform=flat)).grid
    assert off(grid, affine()) < 1e-4
    for bad in (np.nan, np.inf):
        refused(patched(nifti(tmp_path / "c.nii.gz", qcode=0), 288, "<f", bad), "not finite")


def test_a_header_without_a_place_is_told(tmp_path):
    with pytest.warns(FileWarning, match="where it lies"):
        grid = read_image(nifti(tmp_path / "a.nii.gz", scode=0, qcode=0)).grid
    np.testing.assert_allclose(grid.spacing, (2, 2.5, 3))


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("meter", 1e3), ("mm", 1)])
def test_units_are_millimetres(unit, factor, tmp_path):
    path = nifti(tmp_path / "a.nii.gz", xyzt_units={"meter": 1, "mm": 2, "micron": 3}[unit])
    grid = read_image(path).grid
    assert off(grid, np.diag([factor] * 3 + [1]) @ affine()) < 1e-4 * factor
    np.testing.assert_array_equal(grid.origin, sitk.ReadImage(str(path)).GetOrigin())


# values


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
def test_nifti_values_of_every_type_are_nibabels(dtype, order, suffix, tmp_path):
    kind = nibabel.Nifti1Pair if suffix == ".hdr" else nibabel.Nifti1Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    nibabel.save(kind(numbers(dtype), affine(), header), tmp_path / f"a{suffix}")
    for name in ("a.hdr", "a.img") if suffix == ".hdr" else (f"a{suffix}",):
        values = read_image(tmp_path / name).values
        assert values.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(values, numbers(dtype))


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize(("slope", "inter"), [(0.5, 0), (1, -1024), (2, 3), (0, 3), (np.nan, 3), (1e-20, 0)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_values_are_scaled_as_nibabel_does(dtype, slope, inter, suffix, tmp_path):
    path = patched(nifti(tmp_path / f"a{suffix}", numbers(dtype)), 112, "<ff", slope, inter)
    values = read_image(path).values
    np.testing.assert_allclose(values, np.asanyarray(nibabel.load(path).dataobj), rtol=1e-6)
    scaled = slope not in (0, np.nan) and np.isfinite(slope)
    assert values.dtype == (np.float32 if scaled and np.dtype(dtype).kind in "iu" else np.dtype(dtype))


def test_scaled_values_keep_nan(tmp_path):
    values = numbers("f4")
    values[1, 2], values[3, 0] = np.nan, -np.inf
    path = patched(nifti(tmp_path / "a.nii.gz", values), 112, "<ff", 2, 1)
    np.testing.assert_array_equal(read_image(path).values, values * 2 + 1)


def test_nifti_2_colours_and_vectors(tmp_path):
    nibabel.save(nibabel.Nifti2Image(numbers(), affine()), tmp_path / "two.nii.gz")
    ours = read_image(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(ours.values, numbers())
    assert off(ours.grid, affine()) < 1e-4
    colour = RNG(1).integers(0, 255, (*SHAPE, 3), dtype="u1")
    nifti(tmp_path / "rgb.nii.gz", colour.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.nii.gz").values, colour)
    vectors = numbers("f4", (*SHAPE, 1, 3))
    for code in (1006, 1007):
        path = nifti(tmp_path / "v.nii.gz", vectors, intent_code=code)
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(2, 1, 0, 3)
        np.testing.assert_array_equal(read_image(path).values, theirs)
    refused(nifti(tmp_path / "t.nii.gz", numbers("i2", (*SHAPE, 5))), "take one frame")
    refused(nifti(tmp_path / "c.nii.gz", numbers().astype("c8")), "complex")
    np.testing.assert_array_equal(read_image(nifti(tmp_path / "o.nii.gz", numbers()[..., None])).values, numbers())


def test_analyze_is_read_with_a_word(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(numbers(), np.diag([2.0, 2.5, 3, 1])), tmp_path / "a.img")
    with pytest.warns(FileWarning, match="Analyze"):
        image = read_image(tmp_path / "a.img")
    np.testing.assert_array_equal(image.values, numbers())
    theirs = sitk.ReadImage(str(tmp_path / "a.hdr"))
    assert (image.grid.spacing, image.grid.origin) == (theirs.GetSpacing(), theirs.GetOrigin())


# what is not whole


def test_short_nifti_files_are_refused(tmp_path, capfd):
    raw = nifti(tmp_path / "a.nii").read_bytes()
    half = len(raw) // 2
    head = bytearray(raw[:352])
    struct.pack_into("<8h", head, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    for name, content in {
        "short payload.nii.gz": gzip.compress(raw[:half]),
        "second member cut.nii.gz": gzip.compress(raw[:half]) + gzip.compress(raw[half:])[:-30],
        "second member gone.nii.gz": gzip.compress(raw[:half]),
        "no checksum.nii.gz": gzip.compress(raw)[:-8],
        "last bytes.nii": raw[:-4],
        "header only.nii": raw[:352],
        "half a header.nii": raw[:200],
        "declares more.nii": bytes(head) + raw[352:],
        "declares more.nii.gz": gzip.compress(bytes(head) + raw[352:]),
        "text.nii": b"hello" * 99,
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)
    for value in (1e9, -5, np.nan, 400, 100):
        refused(patched(nifti(tmp_path / "offset.nii"), 108, "<f", value))
        refused(patched(nifti(tmp_path / "offset.nii.gz"), 108, "<f", value))
    for size in (0, -3):
        refused(patched(nifti(tmp_path / "size.nii"), 42, "<h", size))
    nibabel.save(nibabel.Nifti1Pair(numbers(), affine()), tmp_path / "pair.hdr")
    content = (tmp_path / "pair.img").read_bytes()
    (tmp_path / "pair.img").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "pair.hdr")
    refused(tmp_path / "pair.img")
    (tmp_path / "pair.img").unlink()
    refused(tmp_path / "pair.hdr", "pair.img")
    assert capfd.readouterr() == ("", "")


def test_gzip_of_several_members_is_whole(tmp_path):
    raw = nifti(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw[:600]) + gzip.compress(raw[600:]))
    np.testing.assert_array_equal(read_image(tmp_path / "b.nii.gz").values, numbers())


def test_what_follows_the_pixels_is_told(tmp_path):
    path = nifti(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes() + bytes(100))
    with pytest.warns(FileWarning, match="100 bytes behind"):
        read_image(path)


@pytest.mark.parametrize("dtype", ["i4", "u4"])
def test_scaled_whole_numbers_beyond_float32_stay(dtype, tmp_path):
    values = np.arange(504, dtype=dtype).reshape(SHAPE) + np.array(2**31 - 600 if dtype == "i4" else 2**32 - 600, dtype=dtype)
    path = nifti(tmp_path / "a.nii", values)
    # scl_slope and scl_inter
    patched(path, 112, "<ff", 1.0, 1.0)
    theirs = np.asarray(nibabel.load(path).dataobj)
    assert theirs.max() > 2**24
    np.testing.assert_array_equal(read_image(path).values, theirs)
    np.testing.assert_array_equal(read_labels(path).values, theirs)
