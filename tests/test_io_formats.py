"""Image files of other programs, judged by the libraries that wrote them: nibabel, tifffile, Pillow and SimpleITK."""

import gzip
import json
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk
import spaces
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from augreg import Grid, Image, Labels, io, read_image, read_labels, write_image
from augreg.io import FileWarning, read_plane

RNG = np.random.default_rng


def numbers(*shape, dtype=np.uint8, seed=0):
    top = 250 if np.dtype(dtype).itemsize == 1 else 60000
    return (RNG(seed).random(shape) * top - (top / 2 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)


def pixels(image):
    """An image's values as rows."""
    return np.moveaxis(image.values, (0, 1), (1, 0))


def refused(path, *words):
    with pytest.raises(ValueError, match=r".") as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    for word in words:
        assert word in message


# process-wide state


def test_reading_in_threads_leaves_the_descriptors_alone(tmp_path):
    for i in range(4):
        write_image(Image(numbers(60, 50, dtype=np.float32, seed=i), Grid((60, 50))), tmp_path / f"{i}.nii.gz")
        write_image(Image(numbers(60, 50, seed=i), Grid((60, 50))), tmp_path / f"{i}.jpg")
    before = [os.fstat(fd)[:3] for fd in (1, 2)]
    display = sitk.ProcessObject.GetGlobalWarningDisplay()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: read_image(tmp_path / f"{i % 4}.{('nii.gz', 'jpg')[i % 2]}"), range(400)))
    assert [os.fstat(fd)[:3] for fd in (1, 2)] == before
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == display


def test_reading_works_without_a_standard_error(tmp_path):
    write_image(Image(numbers(9, 8, dtype=np.float32), Grid((9, 8))), tmp_path / "a.nii.gz")
    code = f"import os; os.close(2); import augreg; print(augreg.read_image({str(tmp_path / 'a.nii.gz')!r}).grid.shape)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, encoding="utf-8", check=True)
    assert done.stdout == "(9, 8)\n"


def test_solvers_say_nothing_on_standard_output():
    done = subprocess.run(
        [sys.executable, "-c", "from solvers.highs import _Quiet; h = _Quiet(); h.run()"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout == ""


# pictures


def png(kind, bits, width=8, height=5, extra=()):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    raw = b"".join(b"\0" + RNG(row).integers(0, 256, width * bits * channels // 8, dtype="u1").tobytes() for row in range(height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if kind == 3:
        chunks.append((b"PLTE", RNG(9).integers(0, 256, 3 << bits, dtype="u1").tobytes()))
    chunks += [*extra, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize(
    ("kind", "bits"),
    [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (6, 8), (6, 16)],
)
@pytest.mark.parametrize("clear", [False, True])
def test_png_of_every_kind_is_what_simpleitk_shows(kind, bits, clear, tmp_path):
    extra = [(b"tRNS", {0: b"\0\1", 2: bytes(6), 3: b"\0\x80"}[kind])] if clear and kind in (2, 3) else []
    (tmp_path / "a.png").write_bytes(png(kind, bits, extra=extra))
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png")))
    ours = pixels(read_image(tmp_path / "a.png"))
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_with_transparency_has_two_channels(bits, tmp_path):
    (tmp_path / "a.png").write_bytes(png(4, bits))
    ours = pixels(read_image(tmp_path / "a.png"))
    assert ours.shape == (5, 8, 2)
    if bits == 8:
        np.testing.assert_array_equal(ours, np.asarray(Pillow.open(tmp_path / "a.png")))


def test_the_labels_of_a_palette_are_its_indices(tmp_path):
    index = RNG(0).integers(0, 7, (12, 9), dtype="u1")
    picture = Pillow.new("P", (9, 12))
    picture.putdata(index.ravel().tolist())
    picture.putpalette(RNG(1).integers(0, 256, 768).tolist())
    for name in ("a.png", "a.bmp", "a.tif"):
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(read_labels(tmp_path / name).values.T, index)
        assert read_image(tmp_path / name).channels == 3
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "a.png")), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_orientation_that_a_camera_noted_is_applied(orientation, suffix, tmp_path):
    rows = np.kron(numbers(4, 3, 3), np.ones((16, 16, 1), dtype=np.uint8))
    exif = Pillow.Exif()
    exif[274] = orientation
    Pillow.fromarray(rows).save(tmp_path / f"a{suffix}", exif=exif)
    with Pillow.open(tmp_path / f"a{suffix}") as picture:
        expected = np.asarray(picture if suffix == ".tif" else ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(pixels(read_image(tmp_path / f"a{suffix}")), expected)


def test_the_orientation_in_xmp_is_applied(tmp_path):
    rows = np.kron(numbers(4, 3), np.ones((16, 16), dtype=np.uint8))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Pillow.fromarray(rows).save(tmp_path / "a.jpg", xmp=xmp)
    with Pillow.open(tmp_path / "a.jpg") as picture:
        np.testing.assert_array_equal(pixels(read_image(tmp_path / "a.jpg")), np.asarray(ImageOps.exif_transpose(picture)))


def test_jpeg_and_bmp_are_what_pillow_shows(tmp_path):
    grey, colour = np.kron(numbers(5, 4), np.ones((9, 9), np.uint8)), np.kron(numbers(5, 4, 3), np.ones((9, 9, 1), np.uint8))
    for rows in (grey, colour):
        for name, options in (
            ("a.jpg", {}),
            ("b.jpg", {"progressive": True}),
            ("c.jpg", {"restart_marker_rows": 1}),
            ("a.bmp", {}),
        ):
            Pillow.fromarray(rows).save(tmp_path / name, **options)
            np.testing.assert_array_equal(pixels(read_image(tmp_path / name)), np.asarray(Pillow.open(tmp_path / name)))
    Pillow.fromarray(np.dstack([colour, grey]), "CMYK").save(tmp_path / "k.jpg")
    np.testing.assert_array_equal(
        pixels(read_image(tmp_path / "k.jpg")), sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "k.jpg")))
    )


def test_a_damaged_jpeg_that_decodes_is_told_and_prints_nothing(tmp_path, capfd):
    rows = np.clip(128 + 60 * np.sin(np.arange(200) / 9)[:, None] + RNG(0).normal(0, 9, (200, 160)), 0, 255).astype("u1")
    Pillow.fromarray(rows).save(tmp_path / "a.jpg", quality=95)
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.warns(FileWarning, match="damaged"):
        read_image(tmp_path / "a.jpg")
    assert capfd.readouterr() == ("", "")


def test_every_flipped_bit_of_a_png_is_noticed(tmp_path):
    write_image(Image(numbers(20, 16), Grid((20, 16))), tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for at in range(0, len(whole) - 12, 7):
        content = bytearray(whole)
        content[at] ^= 4
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"b\.png"):
            read_image(tmp_path / "b.png")


def test_bombs_are_refused_in_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(_giant_png())
    refused(tmp_path / "a.png")
    (tmp_path / "a.bmp").write_bytes(
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 1 << 30, 1 << 30, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    refused(tmp_path / "a.bmp")
    (tmp_path / "a.ppm").write_bytes(b"P6\n100000 100000\n255\n" + bytes(99))
    refused(tmp_path / "a.ppm")


def _giant_png():
    head = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 6, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1 << 16))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


# TIFF


GREY16 = numbers(120, 90, dtype=np.uint16)
RGB = numbers(120, 90, 3)
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


# volumes of one slice


def turn(*angles):
    return np.reshape(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix(), (3, 3))


PLANES = {
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]]),
    "short axis": turn(0.5, 0.6, 0.4),
    "tilted by 1 degree": turn(np.deg2rad(1), 0, 0),
}


@pytest.mark.parametrize("case", PLANES)
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_one_slice_that_is_not_axial_keeps_its_place(case, suffix, tmp_path):
    file = sitk.GetImageFromArray(numbers(1, 40, 30, dtype=np.int16))
    file.SetSpacing((1.5, 1.25, 8))
    file.SetOrigin((10, -77, 30))
    file.SetDirection(PLANES[case].ravel().tolist())
    path = tmp_path / f"s{suffix}"
    sitk.WriteImage(file, str(path))
    refused(path, "?plane=own")
    image, plane = read_image(f"{path}?plane=own"), read_plane(f"{path}?plane=own")
    assert plane == read_plane(path)
    np.testing.assert_allclose(image.grid.spacing, (1.5, 1.25), rtol=1e-6)
    np.testing.assert_array_equal(image.grid.direction, np.eye(2))
    np.testing.assert_array_equal(read_labels(f"{path}?plane=own").values, image.values)
    for voxel in ((0, 0), (29, 39), (7, 21)):
        where = file.TransformIndexToPhysicalPoint((*voxel, 0))
        np.testing.assert_allclose(plane.points_3d(image.grid.points_at(voxel)), where, atol=1e-4)
        np.testing.assert_allclose(plane.points_2d(where), image.grid.points_at(voxel), atol=1e-4)
        assert image.values[voxel] == file[(*voxel, 0)]


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([1, -1, -1]), turn(0, 0, 0.5), turn(5e-4, 0, 0.2)])
def test_one_axial_slice_keeps_x_and_y(direction, tmp_path):
    file = sitk.GetImageFromArray(numbers(1, 40, 30, dtype=np.int16))
    file.SetOrigin((10, 20, 30))
    file.SetDirection(np.ravel(direction).tolist())
    sitk.WriteImage(file, str(tmp_path / "s.mha"))
    image, plane = read_image(tmp_path / "s.mha"), read_plane(tmp_path / "s.mha")
    for voxel in ((0, 0), (29, 39)):
        where = file.TransformIndexToPhysicalPoint((*voxel, 0))
        np.testing.assert_allclose(image.grid.points_at(voxel), where[:2], atol=1e-3)
        np.testing.assert_allclose(plane.points_3d(image.grid.points_at(voxel)), where, atol=0.03)


@pytest.mark.parametrize("shape", [(30, 1, 20), (1, 30, 20)])
def test_one_voxel_along_another_axis_stays_a_volume(shape, tmp_path):
    grid = Grid(shape, (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), spaces.grid(3).direction)
    write_image(Image(numbers(*shape, dtype=np.int16), grid), tmp_path / "v.mha")
    volume = read_image(tmp_path / "v.mha")
    assert volume.grid.matches(grid)
    flat, plane = read_image(f"{tmp_path / 'v.mha'}?plane=own"), read_plane(tmp_path / "v.mha")
    thin = shape.index(1)
    np.testing.assert_allclose(plane.points_3d(flat.grid.points()), np.take(grid.points(), 0, axis=thin), atol=1e-9)
    np.testing.assert_array_equal(flat.values, np.take(volume.values, 0, axis=thin))


def test_a_whole_volume_has_no_plane(tmp_path):
    write_image(Image(numbers(5, 6, 7), Grid((5, 6, 7))), tmp_path / "v.mha")
    for read in (read_image, read_plane):
        with pytest.raises(ValueError, match="one slice"):
            read(f"{tmp_path / 'v.mha'}?plane=own")


# writing


@pytest.mark.parametrize("suffix", [s for s in io.IMAGE_SUFFIXES if s not in (".jpg", ".jpeg")])
@pytest.mark.parametrize("layout", ["F", "reversed", "every second", "big-endian", "read-only"])
def test_arrays_in_any_order_are_written_alike(suffix, layout, tmp_path):
    plain = (
        numbers(20, 16, 3) if suffix == ".ppm" else numbers(20, 16, dtype=np.uint8 if suffix in (".jpg", ".bmp") else np.uint16)
    )
    other = {
        "F": np.asfortranarray(plain),
        "reversed": np.flip(np.flip(plain, 0).copy(), 0),
        "every second": np.repeat(plain, 2, axis=1)[:, ::2],
        "big-endian": plain.astype(plain.dtype.newbyteorder(">")),
        "read-only": plain.copy(),
    }[layout]
    other.setflags(write=layout != "read-only")
    write_image(Image(plain, Grid((20, 16))), tmp_path / f"a{suffix}")
    write_image(Image(other, Grid((20, 16))), tmp_path / f"b{suffix}")
    assert gunzipped(tmp_path / f"a{suffix}") == gunzipped(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"b{suffix}").values, plain)


def gunzipped(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize("suffix", io.IMAGE_SUFFIXES)
def test_what_is_offered_is_written_and_others_read_it(suffix, tmp_path):
    values = np.kron(
        numbers(5, 4, 3) if suffix == ".ppm" else numbers(5, 4), np.ones((8, 8) + (1,) * (suffix == ".ppm"), np.uint8)
    )
    write_image(Image(values, Grid(values.shape[:2])), tmp_path / f"a{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]
    if suffix in (".ppm", ".pgm", ".bmp"):
        theirs = np.asarray(Pillow.open(tmp_path / f"a{suffix}"))
    else:
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{suffix}")))
    np.testing.assert_allclose(theirs.swapaxes(0, 1), values, atol=12 if suffix in (".jpg", ".jpeg") else 0)


def test_volumes_in_tiff_are_stacks_for_simpleitk_and_tifffile(tmp_path):
    values = numbers(9, 8, 7, dtype=np.float32)
    write_image(Image(values, Grid(values.shape)), tmp_path / "a.tif")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.tif"))).T, values)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").T, values)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").values, values)


def test_outputs_that_lose_labels_or_need_two_files_are_refused(tmp_path):
    labels = Labels(numbers(9, 8), Grid((9, 8)))
    for name, word in (("l.jpg", "png"), ("l.nhdr", "nrrd"), ("l.mhd", "mha")):
        with pytest.raises(ValueError, match=word):
            write_image(labels, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    write_image(labels, tmp_path / "l.bmp")
    np.testing.assert_array_equal(read_labels(tmp_path / "l.bmp").values, labels.values)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are POSIX")
@pytest.mark.parametrize("suffix", [s for s in io.IMAGE_SUFFIXES if s != ".ppm"])
def test_a_full_disk_costs_no_older_file(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_image(Image(numbers(9, 8), Grid((9, 8))), path)
    before = path.read_bytes()
    code = (
        "import resource, numpy as np, augreg as ar\n"
        "v = np.random.default_rng(0).integers(0, 255, (90, 80)).astype('u1')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, resource.RLIM_INFINITY))\n"
        f"ar.write_image(ar.Image(v, ar.Grid((90, 80))), {str(path)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "OSError" in done.stderr
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", io.IMAGE_SUFFIXES)
def test_suffixes_in_upper_case_are_the_same(suffix, tmp_path):
    image = Image(numbers(9, 8, 3) if suffix == ".ppm" else numbers(9, 8), Grid((9, 8)))
    path = tmp_path / f"A{suffix.upper()}"
    write_image(image, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert read_image(path).values.shape == image.values.shape


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_a_picture_is_not_taken_for_what_its_name_promises(suffix, tmp_path):
    write_image(Image(numbers(9, 8), Grid((9, 8))), tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / f"a{suffix}")
    refused(tmp_path / f"a{suffix}")


def test_names_that_are_not_utf8_are_read_or_refused(tmp_path):
    write_image(Image(numbers(9, 8), Grid((9, 8))), tmp_path / "a.nii.gz")
    for suffix in (".nii.gz", ".mha", ".nrrd", ".png", ".tif", ".vtk"):
        if suffix != ".vtk":
            write_image(Image(numbers(9, 8), Grid((9, 8))), tmp_path / f"a{suffix}")
        else:
            sitk.WriteImage(sitk.GetImageFromArray(numbers(8, 9)), str(tmp_path / "a.vtk"))
        name = os.fsencode(tmp_path) + b"/M\xfcller" + suffix.encode()
        try:
            os.rename(tmp_path / f"a{suffix}", name)
        except OSError:
            pytest.skip("the file system wants UTF-8")
        if suffix == ".vtk":
            with pytest.raises(ValueError, match="UTF-8"):
                read_image(os.fsdecode(name))
        else:
            np.testing.assert_array_equal(read_image(os.fsdecode(name)).values, numbers(9, 8))


# other formats, in a child process


def test_other_formats_of_itk_are_read_in_a_child(tmp_path):
    file = sitk.GetImageFromArray(numbers(5, 6, 7, dtype=np.int16))
    file.SetSpacing((1, 2, 3))
    file.SetOrigin((4, 5, 6))
    for suffix in (".vtk", ".gipl", ".mrc"):
        sitk.WriteImage(file, str(tmp_path / f"a{suffix}"))
        theirs, ours = sitk.ReadImage(str(tmp_path / f"a{suffix}")), read_image(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(ours.values, sitk.GetArrayFromImage(theirs).T)
        assert ours.grid.spacing == theirs.GetSpacing()
        assert ours.grid.origin == theirs.GetOrigin()


def test_a_reader_that_dies_is_a_sentence(tmp_path):
    (tmp_path / "a.vtk").write_bytes(
        b"# vtk DataFile Version 3.0\nx\nBINARY\nDATASET STRUCTURED_POINTS\nDIMENSIONS 90000 90000 90000\n"
        b"SPACING 1 1 1\nORIGIN 0 0 0\nPOINT_DATA 729000000000000\nSCALARS s float 1\nLOOKUP_TABLE default\n" + bytes(99)
    )
    refused(tmp_path / "a.vtk")


def test_the_outcome_of_a_command_is_json_alone(tmp_path):
    rows = np.clip(128 + 60 * np.sin(np.arange(200) / 9)[:, None] + RNG(0).normal(0, 9, (200, 160)), 0, 255).astype("u1")
    Pillow.fromarray(rows).save(tmp_path / "a.jpg", quality=95)
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    (tmp_path / "a.jpg").write_bytes(content)
    (tmp_path / "t.tfm").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: TranslationTransform_double_2_2\n"
        "Parameters: 1 0\nFixedParameters: \n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "augreg", "evaluate", str(tmp_path / "a.jpg"), "-t", str(tmp_path / "t.tfm"), "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout)["folding"] == 0.0
    assert "damaged" in done.stderr


@pytest.mark.parametrize("most", [255, 1023, 65535])
@pytest.mark.parametrize("text", [False, True])
def test_colours_of_ppm_keep_their_bits(most, text, tmp_path):
    rows = RNG(1).integers(0, most + 1, (7, 9, 3))
    body = " ".join(map(str, rows.ravel())).encode() if text else rows.astype(">u2" if most > 255 else "u1").tobytes()
    (tmp_path / "a.ppm").write_bytes(f"P{3 if text else 6}\n# by hand\n9 7\n# most\n{most}\n".encode() + body)
    ours = pixels(read_image(tmp_path / "a.ppm"))
    assert ours.dtype == (np.uint8 if most == 255 else np.uint16)
    # grey of as many bits is what Pillow keeps
    for k in range(3):
        (tmp_path / "g.pgm").write_bytes(
            f"P5\n9 7\n{most}\n".encode() + rows[..., k].astype(">u2" if most > 255 else "u1").tobytes()
        )
        np.testing.assert_allclose(ours[..., k], np.asarray(Pillow.open(tmp_path / "g.pgm")), atol=0.51)
    (tmp_path / "a.ppm").write_bytes((tmp_path / "a.ppm").read_bytes()[:-9])
    refused(tmp_path / "a.ppm")


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


@pytest.mark.parametrize(("dtype", "least"), [("f2", 0), ("f4", 2**20), ("f8", 2**31), ("f8", -(2**52))])
def test_labels_in_any_floating_type_are_exact(dtype, least, tmp_path):
    values = np.arange(12).reshape(3, 4) + least
    tifffile.imwrite(tmp_path / "a.tif", values.astype(dtype))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").values, values.T)
    for wrong in (0.5, np.nan, np.inf):
        tifffile.imwrite(tmp_path / "a.tif", np.array([[1, wrong]], dtype=dtype))
        with pytest.raises(ValueError, match="whole numbers"):
            read_labels(tmp_path / "a.tif")
