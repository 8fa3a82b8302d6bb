"""TIFF of every kind, judged by tifffile and Pillow."""

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from support.files import RGB, numbers, pixels, refused

from augreg import Grid, read_image, read_labels
from augreg.io import FileWarning

# TIFF


GREY16 = numbers(120, 90, dtype=np.uint16)
TIFFS = {
    "tiled": (GREY16, {"tile": (64, 64)}),
    "tiled deflate": (GREY16, {"tile": (64, 64), "compression": "zlib"}),
    "lzw with predictor": (GREY16, {"compression": "lzw", "predictor": True}),
    "zstd": (GREY16, {"compression": "zstd"}),
    "big-endian": (GREY16, {"byteorder": ">"}),
    "BigTIFF": (GREY16, {"bigtiff": True}),
    "float16": (numbers(120, 90, dtype=np.float16), {}),
    "float32 tiled": (numbers(120, 90, dtype=np.float32), {"tile": (32, 32)}),
    "float64": (numbers(120, 90, dtype=np.float64), {}),
    "int8": (numbers(120, 90, dtype=np.int8), {}),
    "int16": (numbers(120, 90, dtype=np.int16), {}),
    "int32": (numbers(120, 90, dtype=np.int32), {}),
    "uint32": (numbers(120, 90, dtype=np.uint32), {}),
    "RGB": (RGB, {"photometric": "rgb"}),
    "RGB 16": (RGB.astype(np.uint16) * 257, {"photometric": "rgb", "tile": (32, 32)}),
    "RGB planar": (RGB.transpose(2, 0, 1).copy(), {"photometric": "rgb", "planarconfig": "separate"}),
    "RGB float planar": (
        numbers(3, 120, 90, dtype=np.float32),
        {"photometric": "rgb", "planarconfig": "separate", "tile": (32, 32)},
    ),
    "RGB in JPEG tiles": (RGB, {"photometric": "rgb", "compression": "jpeg", "tile": (64, 64)}),
    "RGBA": (np.dstack([RGB, RGB[..., :1]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "grey and alpha": (RGB[..., :2], {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}),
    "five samples": (numbers(40, 30, 5, dtype=np.uint16), {"photometric": "minisblack", "planarconfig": "contig"}),
    "OME channels": (
        numbers(4, 40, 30, dtype=np.uint16),
        {"ome": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"},
    ),
    "OME slices": (numbers(4, 40, 30, dtype=np.uint16), {"ome": True, "metadata": {"axes": "ZYX"}, "photometric": "minisblack"}),
    "OME both": (numbers(2, 5, 40, 30), {"ome": True, "metadata": {"axes": "CZYX"}, "photometric": "minisblack"}),
    "ImageJ": (numbers(5, 2, 40, 30), {"imagej": True, "metadata": {"axes": "ZCYX"}}),
    "pages": (numbers(7, 40, 30), {"photometric": "minisblack"}),
    "pages of RGB": (numbers(7, 40, 30, 3), {"photometric": "rgb"}),
}


@pytest.mark.parametrize("case", TIFFS)
def test_tiff_of_every_kind_is_what_tifffile_reads(case, tmp_path):
    data, options = TIFFS[case]
    path = tmp_path / ("a.ome.tif" if options.get("ome") else "a.tif")
    tifffile.imwrite(path, data, **options)
    with tifffile.TiffFile(path) as file:
        theirs, axes = file.series[0].asarray(), file.series[0].axes
    order = (
        [axes.index(a) for a in "XY"]
        + [i for i, a in enumerate(axes) if a in "ZQI"]
        + [i for i, a in enumerate(axes) if a in "CS"]
    )
    theirs = theirs.transpose(order)
    image = read_image(path)
    assert image.values.dtype == theirs.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image.values, theirs)
    assert image.grid == Grid(theirs.shape[: 2 + sum(a in "ZQI" for a in axes)])


@pytest.mark.parametrize("suffix", [".svs", ".ndpi", ".scn", ".btf", ".tf8", ".qptiff", ".lsm", ".TIFF", ".dat", ""])
def test_the_same_pixels_have_the_same_geometry_under_every_suffix(suffix, tmp_path):
    tifffile.imwrite(tmp_path / f"s{suffix}", RGB, photometric="rgb", resolution=(40000, 40000), resolutionunit="CENTIMETER")
    image = read_image(tmp_path / f"s{suffix}")
    assert image.grid == Grid((90, 120))
    np.testing.assert_array_equal(pixels(image), RGB)


def test_a_pyramid_is_read_at_full_resolution_without_a_word(tmp_path):
    with tifffile.TiffWriter(tmp_path / "sub.ome.tif") as file:
        file.write(RGB, photometric="rgb", subifds=1)
        file.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        file.write(RGB, photometric="rgb", tile=(64, 64))
        file.write(RGB[::2, ::2], photometric="rgb", tile=(64, 64), subfiletype=1)
    for name in ("sub.ome.tif", "pages.tif"):
        np.testing.assert_array_equal(pixels(read_image(tmp_path / name)), RGB)


def test_pages_of_unequal_size_are_no_volume(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB[::4, ::4], photometric="rgb")
        file.write(RGB, photometric="rgb")
    with pytest.warns(FileWarning, match="2 images"):
        image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels(image), RGB)


def test_points_of_time_are_refused_with_what_there_is(tmp_path):
    tifffile.imwrite(tmp_path / "t.ome.tif", numbers(3, 4, 40, 30), ome=True, photometric="minisblack", metadata={"axes": "TZYX"})
    refused(tmp_path / "t.ome.tif", "T 3", "Z 4")


def test_white_is_zero_and_one_bit_are_what_pillow_shows(tmp_path):
    tifffile.imwrite(tmp_path / "w.tif", RGB[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "w.tif")), np.asarray(Pillow.open(tmp_path / "w.tif")))
    np.testing.assert_array_equal(read_labels(tmp_path / "w.tif").values.T, RGB[..., 0])
    for shown in ("miniswhite", "minisblack"):
        tifffile.imwrite(tmp_path / "b.tif", RGB[..., 0] > 127, photometric=shown)
        np.testing.assert_array_equal(pixels(read_image(tmp_path / "b.tif")), np.asarray(Pillow.open(tmp_path / "b.tif")) * 255)
        np.testing.assert_array_equal(read_labels(tmp_path / "b.tif").values.T, RGB[..., 0] > 127)


def test_a_truncated_tiff_is_refused(tmp_path):
    for compression in (None, "zlib", "lzw"):
        tifffile.imwrite(tmp_path / "a.tif", GREY16, compression=compression)
        whole = (tmp_path / "a.tif").read_bytes()
        for share in (0.1, 0.5, 0.98):
            (tmp_path / "b.tif").write_bytes(whole[: int(len(whole) * share)])
            refused(tmp_path / "b.tif")


@pytest.mark.parametrize("apart", [0.5, 3.0])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_slices_farther_apart_than_pixels_are_told(name, apart, tmp_path, recwarn):
    values = numbers(5, 7, 9, dtype=np.uint16)
    if "ome" in name:
        notes = {"metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": apart}}
    else:
        notes = {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"axes": "ZYX", "spacing": apart, "unit": "um"}}
    tifffile.imwrite(tmp_path / name, values, **notes)
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.values, values.T)
    assert image.grid.spacing == (1, 1, 1)
    said = [str(warning.message) for warning in recwarn]
    assert ["6 times as far apart" in text for text in said] == ([True] if apart == 3.0 else [])
