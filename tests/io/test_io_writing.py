"""What is written is whole, and others read it."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image as Pillow
from support.files import numbers

from augreg import Grid, Image, Labels, io, read_image, read_labels, write_image

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
