"""MetaImage, NRRD and MINC, judged by SimpleITK and nibabel."""

import bz2
import gzip
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from support.files import refused
from support.volumes import RNG, SHAPE, nifti, numbers, packed, turn

from augreg import read_image
from augreg.io import FileWarning


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
