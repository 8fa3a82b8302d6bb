"""Pictures: PNG, JPEG, BMP, PPM, judged by SimpleITK, Pillow and the libraries that wrote them."""

import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as Pillow
from PIL import ImageOps
from support.files import RNG, numbers, pixels, refused

from augreg import Grid, Image, read_image, read_labels, write_image
from augreg.io import FileWarning

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
