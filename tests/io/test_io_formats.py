"""Reading of files in threads, processes and under odd names; what a command says."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image as Pillow
from support.files import RNG, numbers, refused

from augreg import Grid, Image, io, read_image, read_labels, write_image

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


# eight threads read whole and broken images, another one says numbered lines on descriptor 2
TALK = """
import os, sys, threading
from pathlib import Path
from augreg import read_image, write_image

folder = Path(sys.argv[1])
files = sorted(folder.iterdir())
done, refusals = threading.Event(), []

def talk():
    number = 0
    while number < 500 or not done.is_set():
        os.write(2, b"line %d\\n" % number)
        number += 1
        done.wait(1e-4)
    os.write(2, b"last %d\\n" % number)

def read(mine):
    for turn in range(6):
        for path in files[mine:] + files[:mine]:
            try:
                image = read_image(path)
            except ValueError:
                refusals.append(path.name)
        write_image(image, folder.parent / f"{mine}.nii.gz")

talker = threading.Thread(target=talk)
readers = [threading.Thread(target=read, args=(mine,)) for mine in range(8)]
for thread in (talker, *readers):
    thread.start()
for thread in readers:
    thread.join()
done.set()
talker.join()
print(*sorted(set(refusals)))
"""


def test_what_others_say_on_standard_error_while_threads_read_arrives(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    image = Image(numbers(40, 30, dtype=np.float32), Grid((40, 30)))
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        write_image(image, folder / f"whole{suffix}")
        content = (folder / f"whole{suffix}").read_bytes()
        (folder / f"broken{suffix}").write_bytes(content[: len(content) // 2])
    # a quaternion that is none: read with a warning, and not as ITK would
    write_image(image, folder / "odd.nii")
    content = bytearray((folder / "odd.nii").read_bytes())
    content[123], content[252:256] = 7, (1).to_bytes(2, "little") + bytes(2)
    content[256:268] = np.array([3, 3, 3], "<f4").tobytes()
    (folder / "odd.nii").write_bytes(content)
    write_image(Image(numbers(40, 30), Grid((40, 30))), folder / "whole.jpg")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TALK, str(folder)], capture_output=True, encoding="utf-8", check=True
    )
    assert {"broken.mha", "broken.nii.gz", "broken.nrrd"} <= set(done.stdout.split())
    said = done.stderr.splitlines()
    count = int(next(line for line in said if line.startswith("last ")).removeprefix("last "))
    assert count >= 500
    assert [line for line in said if line.startswith("line ")] == [f"line {number}" for number in range(count)]


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


@pytest.mark.parametrize(("dtype", "least"), [("f2", 0), ("f4", 2**20), ("f8", 2**31), ("f8", -(2**52))])
def test_labels_in_any_floating_type_are_exact(dtype, least, tmp_path):
    values = np.arange(12).reshape(3, 4) + least
    tifffile.imwrite(tmp_path / "a.tif", values.astype(dtype))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").values, values.T)
    for wrong in (0.5, np.nan, np.inf):
        tifffile.imwrite(tmp_path / "a.tif", np.array([[1, wrong]], dtype=dtype))
        with pytest.raises(ValueError, match="whole numbers"):
            read_labels(tmp_path / "a.tif")
