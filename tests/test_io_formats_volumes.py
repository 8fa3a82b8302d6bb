"""NIfTI, MetaImage and NRRD of other programs: values by nibabel and numpy, places by SimpleITK, damage told."""

import bz2
import gzip
import struct
import subprocess
import sys
import warnings
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import spaces

from augreg import Grid, Image, read_image, read_labels, write_image
from augreg.io import FileWarning

RNG = np.random.default_rng
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (7, 8, 9)


def numbers(dtype="i2", shape=SHAPE):
    return (RNG(0).random(shape) * 100 - (50 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)


def turn(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def affine(angle=0.1, sizes=(2, 2.5, 3), origin=(-90, -100, -50)):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turn(angle) * np.array(sizes), origin
    return out


def nifti(path, values=None, sform=None, scode=1, qform=None, qcode=1, **fields):
    values = numbers() if values is None else values
    file = nibabel.Nifti1Image(values, affine(), dtype=values.dtype)
    file.set_sform(affine() if sform is None else sform, scode)
    file.set_qform(affine() if qform is None else qform, qcode, strip_shears=True)
    for key, value in fields.items():
        file.header[key] = value
    nibabel.save(file, path)
    return path


def patched(path, at, form, *what):
    """A file with numbers of its header replaced."""
    packed = path.suffix == ".gz"
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into(form, content, at, *what)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def corners(grid):
    return np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij")).reshape(grid.ndim, -1).T


def off(grid, matrix):
    """How far the corners lie from where a RAS matrix has them, mm."""
    at = corners(grid)
    return np.abs(grid.points_at(at) - (np.c_[at, np.ones(len(at))] @ (LPS @ matrix).T)[:, :3]).max()


def refused(path, *words):
    with pytest.raises(ValueError, match=r".") as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    for word in words:
        assert word in message


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
    refused(nifti(tmp_path / "t.nii.gz", numbers("i2", (*SHAPE, 5))), "extract one frame")
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


def packed(kind, tmp_path):
    grid = Grid(SHAPE)
    path = tmp_path / f"whole{kind}"
    write_image(Image(numbers("f4"), grid), path)
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_a_flipped_bit_in_compressed_pixels_is_noticed(suffix, tmp_path):
    whole = packed(suffix, tmp_path).read_bytes()
    path = tmp_path / f"a{suffix}"
    start = 20 if suffix == ".nii.gz" else len(whole) // 3
    for at in range(start, len(whole), 53):
        content = bytearray(whole)
        content[at] ^= 4
        path.write_bytes(content)
        refused(path)


# MetaImage and NRRD


def metaimage(path, content, **fields):
    lines = {"ObjectType": "Image", "NDims": 3, "DimSize": "7 8 9", "ElementSpacing": "1 2 3", "Offset": "4 5 6"}
    lines |= {"ElementType": "MET_SHORT", **fields}
    data = lines.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    path.write_bytes(text.encode() + f"ElementDataFile = {data}\n".encode() + content)
    return path


def nrrd(path, content, *more, **fields):
    lines = {"type": "short", "dimension": 3, "sizes": "7 8 9", "encoding": "raw", "endian": "little"} | fields
    path.write_bytes(
        ("NRRD0004\n" + "".join(f"{k.replace('_', ' ')}: {v}\n" for k, v in lines.items())).encode() + b"\n" + content
    )
    return path


def agrees_with_simpleitk(path):
    theirs, ours = sitk.ReadImage(str(path)), read_image(path)
    axes = (2, 1, 0, 3) if theirs.GetNumberOfComponentsPerPixel() > 1 else (2, 1, 0)
    np.testing.assert_array_equal(ours.values, sitk.GetArrayFromImage(theirs).transpose(axes))
    assert ours.values.dtype == sitk.GetArrayViewFromImage(theirs).dtype
    assert (ours.grid.spacing, ours.grid.origin) == (theirs.GetSpacing(), theirs.GetOrigin())
    np.testing.assert_array_equal(np.ravel(ours.grid.direction), theirs.GetDirection())


RAW = numbers().tobytes("F")


def test_metaimage_of_every_kind_is_what_simpleitk_reads(tmp_path):
    agrees_with_simpleitk(metaimage(tmp_path / "local.mha", RAW))
    agrees_with_simpleitk(
        metaimage(tmp_path / "zlib.mha", zlib.compress(RAW), CompressedData="True", CompressedDataSize=len(zlib.compress(RAW)))
    )
    swapped = numbers().astype(">i2").tobytes("F")
    agrees_with_simpleitk(metaimage(tmp_path / "big.mha", swapped, BinaryData="True", BinaryDataByteOrderMSB="True"))
    agrees_with_simpleitk(metaimage(tmp_path / "msb.mha", swapped, BinaryData="True", ElementByteOrderMSB="True"))
    turned = " ".join(map(str, turn(0.3).T.ravel()))
    agrees_with_simpleitk(metaimage(tmp_path / "turned.mha", RAW, TransformMatrix=turned, CenterOfRotation="0 0 0"))
    colour = RNG(0).integers(0, 255, (3, *SHAPE), dtype="u1").tobytes("F")
    agrees_with_simpleitk(metaimage(tmp_path / "rgb.mha", colour, ElementType="MET_UCHAR", ElementNumberOfChannels=3))
    agrees_with_simpleitk(
        metaimage(tmp_path / "text.mha", " ".join(map(str, numbers().ravel("F"))).encode() + b"\n", BinaryData="False")
    )
    (tmp_path / "pixels.raw").write_bytes(b"x" * 13 + RAW)
    for skip in (13, -1):
        agrees_with_simpleitk(metaimage(tmp_path / "raw.mhd", b"", HeaderSize=skip, ElementDataFile="pixels.raw"))
    for k in range(9):
        (tmp_path / f"s{k:02}.raw").write_bytes(RAW[k * 112 : (k + 1) * 112])
    names = "".join(f"s{k:02}.raw\n" for k in range(9)).encode()
    agrees_with_simpleitk(metaimage(tmp_path / "list.mhd", names, ElementDataFile="LIST"))
    agrees_with_simpleitk(metaimage(tmp_path / "pattern.mhd", b"", ElementDataFile="s%02d.raw 0 8 1"))
    for kind, dtype in (("CHAR", "i1"), ("UCHAR", "u1"), ("USHORT", "u2"), ("INT", "i4"), ("UINT", "u4"), ("FLOAT", "f4")):
        agrees_with_simpleitk(metaimage(tmp_path / "t.mha", numbers(dtype).tobytes("F"), ElementType=f"MET_{kind}"))
    for kind, dtype in (("DOUBLE", "f8"), ("LONG_LONG", "i8"), ("ULONG_LONG", "u8")):
        agrees_with_simpleitk(metaimage(tmp_path / "t.mha", numbers(dtype).tobytes("F"), ElementType=f"MET_{kind}"))


def test_metaimages_that_lie_are_refused(tmp_path, capfd):
    path = tmp_path / "a.mha"
    for content, fields in (
        (RAW[:-1], {}),
        (zlib.compress(RAW[:-2]), {"CompressedData": "True"}),
        (zlib.compress(RAW + b"more"), {"CompressedData": "True"}),
        (zlib.compress(RAW)[:-3], {"CompressedData": "True"}),
        (zlib.compress(bytes(1 << 22)), {"CompressedData": "True"}),
        (RAW, {"DimSize": "90000 90000 90000"}),
        (RAW, {"DimSize": "7 8"}),
        (RAW, {"DimSize": "7 8 -9"}),
        (RAW, {"DimSize": "7 8 x"}),
        (RAW, {"NDims": 99}),
        (RAW, {"ElementType": "MET_OTHER"}),
        (RAW, {"ElementSpacing": "1 0 3"}),
        (RAW, {"ElementSpacing": "1 nan 3"}),
        (RAW, {"ElementSpacing": "1 2"}),
        (RAW, {"TransformMatrix": "1 0 0 0 1 0 0 0 0"}),
        (RAW, {"Offset": "1e999 0 0"}),
        (RAW, {"ElementDataFile": "absent.raw"}),
        (RAW, {"ElementNumberOfChannels": 1 << 40}),
    ):
        refused(metaimage(path, content, **fields))
    path.write_bytes(b"ObjectType = Image\nNDims = 3\n")
    refused(path, "truncated")
    path.write_bytes(b"\0" * 5000)
    refused(path)
    assert capfd.readouterr() == ("", "")


def test_nrrd_of_every_kind_is_what_simpleitk_reads(tmp_path):
    place = {"space": "left-posterior-superior", "space_origin": "(4,5,6)", "space_directions": "(1,0,0) (0,2,0) (0,0,3)"}
    agrees_with_simpleitk(nrrd(tmp_path / "raw.nrrd", RAW, **place))
    agrees_with_simpleitk(nrrd(tmp_path / "ras.nrrd", RAW, **{**place, "space": "right-anterior-superior"}))
    agrees_with_simpleitk(nrrd(tmp_path / "gzip.nrrd", gzip.compress(RAW), **place, encoding="gzip"))
    agrees_with_simpleitk(nrrd(tmp_path / "text.nrrd", " ".join(map(str, numbers().ravel("F"))).encode(), encoding="ascii"))
    agrees_with_simpleitk(nrrd(tmp_path / "hex.nrrd", RAW.hex().encode(), encoding="hex"))
    agrees_with_simpleitk(nrrd(tmp_path / "big.nrrd", numbers().astype(">i2").tobytes("F"), endian="big"))
    agrees_with_simpleitk(nrrd(tmp_path / "spacings.nrrd", RAW, spacings="1 2 3", axis_mins="4 5 6"))
    (tmp_path / "pixels.raw").write_bytes(b"line\n" + RAW)
    agrees_with_simpleitk(nrrd(tmp_path / "apart.nhdr", b"", data_file="pixels.raw", line_skip=1))
    agrees_with_simpleitk(nrrd(tmp_path / "end.nhdr", b"", data_file="pixels.raw", byte_skip=-1))
    vectors = {"type": "float", "dimension": 4, "kinds": "vector domain domain domain", "sizes": "3 7 8 9"}
    components = numbers("f4", (3, *SHAPE))
    directions = {"space": "left-posterior-superior", "space_origin": "(4,5,6)"}
    first = {**vectors, **directions, "space_directions": "none (1,0,0) (0,2,0) (0,0,3)"}
    agrees_with_simpleitk(nrrd(tmp_path / "first.nrrd", components.tobytes("F"), **first))
    last = {**vectors, **directions, "kinds": "domain domain domain list", "sizes": "7 8 9 3"}
    last["space_directions"] = "(1,0,0) (0,2,0) (0,0,3) none"
    agrees_with_simpleitk(nrrd(tmp_path / "last.nrrd", np.moveaxis(components, 0, -1).tobytes("F"), **last))
    (tmp_path / "bz.nrrd").write_bytes(nrrd(tmp_path / "b.nrrd", bz2.compress(RAW), encoding="bzip2").read_bytes())
    np.testing.assert_array_equal(read_image(tmp_path / "bz.nrrd").values, numbers())


def test_nrrd_files_that_lie_are_refused(tmp_path, capfd):
    path = tmp_path / "a.nrrd"
    for content, fields in (
        (RAW[:-1], {}),
        (gzip.compress(RAW[:-2]), {"encoding": "gzip"}),
        (gzip.compress(RAW)[:-3], {"encoding": "gzip"}),
        (RAW, {"sizes": "90000 90000 90000"}),
        (gzip.compress(RAW), {"encoding": "gzip", "sizes": "90000 90000 90000"}),
        (RAW, {"sizes": "7 8"}),
        (RAW, {"sizes": "7 8 0"}),
        (RAW, {"type": "block"}),
        (RAW, {"encoding": "other"}),
        (RAW, {"endian": "middle"}),
        (RAW, {"spacings": "1 nan 1"}),
        (RAW, {"spacings": "1 1"}),
        (RAW, {"space": "left-posterior-superior", "space_directions": "(1,0,0) (1,0,0) (0,0,3)"}),
        (RAW, {"data_file": "absent.raw"}),
    ):
        refused(nrrd(path, content, **fields))
    path.write_bytes(b"NRRD0004\ntype: short\n")
    refused(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_headers_that_declare_more_cost_neither_memory_nor_time(tmp_path):
    head = bytearray(nifti(tmp_path / "a.nii").read_bytes()[:352])
    struct.pack_into("<8h", head, 40, 3, 1500, 1500, 1000, 1, 1, 1, 1)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(head)) + gzip.compress(RNG(0).bytes(1 << 23)))
    code = (
        "import resource, sys, augreg as ar\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "try:\n    ar.read_image(sys.argv[1])\n"
        "except ValueError as error:\n    print('refused', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.nii.gz"], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert done.stdout.startswith("refused")


def test_minc_is_in_ras(tmp_path):
    file = sitk.GetImageFromArray(numbers("i2", (5, 6, 7)))
    file.SetOrigin((10, 20, 30))
    file.SetSpacing((1, 2, 3))
    try:
        sitk.WriteImage(file, str(tmp_path / "a.mnc"))
    except RuntimeError:
        pytest.skip("this SimpleITK writes no MINC")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(tmp_path / "a.mnc")
    # ITK writes and reads MINC's x and y as they are: the file says 10 mm to the right and 20 mm to the front
    assert image.grid.origin == (-10.0, -20.0, 30.0)
    np.testing.assert_array_equal(image.grid.direction, np.diag([-1.0, -1.0, 1.0]))


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_bytes_behind_the_pixels_are_told(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(numbers()), path, False)
    payload = path.with_suffix(".raw") if suffix in (".mhd", ".nhdr") else path
    payload.write_bytes(payload.read_bytes() + b"a slice more")
    with pytest.warns(FileWarning, match="12 bytes behind its pixels"):
        image = read_image(path)
    np.testing.assert_array_equal(image.values, numbers().T)


@pytest.mark.parametrize("centers", ["node node node", "cell cell cell", "cell node ???"])
@pytest.mark.parametrize("name", ["centers", "centerings"])
def test_axis_mins_of_nrrd_belong_to_nodes_or_cells(name, centers, tmp_path):
    path = nrrd(tmp_path / "a.nrrd", numbers().tobytes(order="F"), spacings="1 2 3", axis_mins="5 6 7", **{name: centers})
    np.testing.assert_array_equal(read_image(path).grid.origin, sitk.ReadImage(path).GetOrigin())


@pytest.mark.parametrize("field", ["space_units", "units"])
@pytest.mark.parametrize("unit", ["cm", "um", "mm"])
def test_lengths_of_nrrd_other_than_mm_are_told(field, unit, tmp_path):
    units = " ".join([f'"{unit}"'] * 3)
    place = {"space": "left-posterior-superior", "space_directions": "(1,0,0) (0,2,0) (0,0,3)"}
    place = place if field == "space_units" else {"spacings": "1 2 3"}
    path = nrrd(tmp_path / "a.nrrd", numbers().tobytes(order="F"), **place, **{field: units})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(path).grid.spacing == (1, 2, 3)
    assert [f"lengths in {unit}" in str(warning.message) for warning in caught] == ([] if unit == "mm" else [True])


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
