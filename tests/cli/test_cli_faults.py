"""What a command must not do in silence: faults found in use, each with its kind; right values are SimpleITK's."""

import errno
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

import augreg as ar
from augreg import cli, io
from augreg.cli.commands import register

GRID = ar.Grid((60, 50), (1.0, 1.5), (-20.0, 150.0), ((0.8, -0.6), (0.6, 0.8)))
RNG = np.random.default_rng


def picture(grid, shift=0.0, background=0.0):
    x, y = np.moveaxis(grid.points() - grid.center, -1, 0)
    values = 900 * np.exp(-((x - shift) ** 2 / 90 + y**2 / 50)) + 300 * np.exp(-((x - shift - 12) ** 2 + (y + 12) ** 2) / 30)
    return np.where(values > 20, values, background)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    for name, shift in (("fixed", 0.0), ("moving", 3.0)):
        ar.write_image(ar.Image(picture(GRID, shift).astype(np.float32), GRID), folder / f"{name}.nii.gz")
    ar.write_transform(ar.Affine(np.eye(2), [3.0, 1.0]), folder / "shift.tfm")
    return folder


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def json_of(capsys):
    out, err = capsys.readouterr()
    return json.loads(out), err


# landmarks


POINTS = GRID.points_at([[10, 10], [40, 20], [30, 45.0]])


@pytest.mark.parametrize(
    ("points", "word"),
    [(POINTS, None), (-POINTS, "RAS"), (GRID.indices_at(POINTS), "voxel indices"), (POINTS + 500, "3 of 3 outside")],
)
def test_landmarks_outside_the_image_are_said(folder, tmp_path, capsys, points, word):
    ar.write_points(points, tmp_path / "f.csv")
    ar.write_points(POINTS, tmp_path / "m.csv")
    line = ["evaluate", folder / "fixed.nii.gz", "-t", folder / "shift.tfm", "--json"]
    assert run(*line, "--fixed-points", tmp_path / "f.csv", "--moving-points", tmp_path / "m.csv") == 0
    result, err = json_of(capsys)
    assert (
        run("points", tmp_path / "f.csv", "-t", folder / "shift.tfm", "-r", folder / "fixed.nii.gz", "-o", tmp_path / "o.csv")
        == 0
    )
    alone = capsys.readouterr().err
    np.testing.assert_allclose(ar.read_points(tmp_path / "o.csv"), points + np.array([3.0, 1.0]))
    if word is None:
        assert result["warnings"] == []
        assert "warning" not in err + alone
    else:
        assert word in result["warnings"][0]
        for text in (err, alone):
            assert text.count("warning") == 1
            assert word in text
            assert "of 3 outside" in text


def test_points_outside_the_domain_of_a_field_are_said(folder, tmp_path, capsys):
    field = ar.DisplacementField(np.full((*GRID.shape, 2), 2.0), GRID)
    ar.write_points(np.vstack([POINTS, POINTS[:1] + np.array([900.0, 0])]), tmp_path / "p.csv")
    for name in ("u.nii.gz", "u.tfm"):
        ar.write_transform(field, tmp_path / name)
        assert run("points", tmp_path / "p.csv", "-t", tmp_path / name, "-o", tmp_path / "o.csv") == 0
        assert "1 of 4 outside" in capsys.readouterr().err
    ar.write_transform(ar.Affine.identity(2) @ field @ ar.Affine(np.eye(2), [0.5, 0]), tmp_path / "c.tfm")
    assert run("points", tmp_path / "p.csv", "-t", tmp_path / "c.tfm", "-o", tmp_path / "o.csv") == 0
    assert "1 of 4 outside its B-spline or field" in capsys.readouterr().err


def test_landmarks_outside_are_refused_as_constraints(folder, tmp_path, capsys):
    ar.write_points(-POINTS, tmp_path / "f.csv")
    ar.write_points(POINTS, tmp_path / "m.csv")
    given = ["--fixed-points", tmp_path / "f.csv", "--moving-points", tmp_path / "m.csv"]
    assert run("register", folder / "fixed.nii.gz", folder / "moving.nii.gz", "-o", tmp_path / "t.tfm", *given) == 2
    err = capsys.readouterr().err
    assert "fixed_points" in err
    assert "RAS" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "t.tfm").exists()


def test_a_structure_that_is_lost_counts_nothing(folder, tmp_path, capsys):
    values = np.zeros(GRID.shape, dtype=np.uint8)
    values[5:15, 20:30], values[40:55, 20:30], values[28:32, 2:6] = 1, 2, 3
    ar.write_image(ar.Labels(values, GRID), tmp_path / "f.nii.gz")
    ar.write_image(ar.Labels(np.where(values == 3, 0, values), GRID), tmp_path / "m.nii.gz")
    shift = GRID.index_to_world @ [17.0, 0.0]
    ar.write_transform(ar.Affine(np.eye(2), shift), tmp_path / "t.tfm")
    line = ["evaluate", folder / "fixed.nii.gz", "-t", tmp_path / "t.tfm"]
    line += ["--fixed-labels", tmp_path / "f.nii.gz", "--moving-labels", tmp_path / "m.nii.gz"]
    assert run(*line, "--json") == 0
    result, err = json_of(capsys)
    images = [sitk.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in "fm"]
    moved = sitk.Resample(images[1], images[0], sitk.ReadTransform(str(tmp_path / "t.tfm")), sitk.sitkNearestNeighbor, 0.0)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(images[0], moved)
    assert not (sitk.GetArrayFromImage(moved) == 1).any()
    assert result["dice"]["1"] == result["jaccard"]["1"] == 0
    assert result["dice"]["3"] is None
    assert result["dice"]["2"] == pytest.approx(measures.GetDiceCoefficient(2))
    assert result["dice"]["mean"] == pytest.approx(measures.GetDiceCoefficient(2) / 2)
    assert result["lost"] == [1]
    assert result["surface_distance"]["1"] is None
    assert "moved out of the image: 1;" in err
    assert run(*line) == 0
    out, _ = capsys.readouterr()
    assert "lost: 1\n" in out
    assert "dice 1: 0\n" in out


# inverses


def itk_points(path, points):
    if path.suffix in (".tfm", ".h5"):
        transform = sitk.ReadTransform(str(path))
    else:
        transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


@pytest.mark.parametrize("offset", [(0.0, 0.0), (40.0, 0.0), (80.0, -60.0), (5000.0, 300.0)])
@pytest.mark.parametrize("kind", ["composite", "spline", "field"])
def test_inverses_live_in_moving_space(tmp_path, capsys, offset, kind):
    fixed = ar.Image(picture(GRID).astype(np.float32), GRID)
    ar.write_image(fixed, tmp_path / "f.nii.gz")
    spline = ar.BSpline.zeros(GRID, 14.0)
    coefficients = spline.coefficients + RNG(0).normal(scale=0.8, size=spline.coefficients.shape)
    if kind == "composite":
        phi = ar.Affine(np.eye(2), offset) @ ar.BSpline(coefficients, spline.grid)
    elif kind == "spline":
        phi = ar.BSpline(coefficients + offset, spline.grid)
    else:
        phi = ar.DisplacementField(ar.BSpline(coefficients, spline.grid).displacement(GRID) + offset, GRID)
    ar.write_transform(phi, tmp_path / "t.h5")
    points = GRID.points_at(RNG(1).uniform(0, np.array(GRID.shape) - 1, (200, 2)))
    moving = itk_points(tmp_path / "t.h5", points)
    for name in ("i.nii.gz", "i.h5"):
        assert run("transform", "invert", tmp_path / "t.h5", "-r", tmp_path / "f.nii.gz", "-o", tmp_path / name) == 0
        assert "warning" not in capsys.readouterr().err
        np.testing.assert_allclose(itk_points(tmp_path / name, moving), points, atol=0.05)


def test_an_inverse_on_a_grid_of_ones_own_says_what_it_misses(tmp_path, capsys):
    ar.write_image(ar.Image(picture(GRID).astype(np.float32), GRID), tmp_path / "f.nii.gz")
    step = GRID.index_to_world @ [30.0, 0.0]
    ar.write_transform(ar.Affine(np.eye(2), step), tmp_path / "t.tfm")
    half = ar.Grid((60, 50), GRID.spacing, tuple(GRID.origin + 2 * step), GRID.direction)
    ar.write_image(ar.Image(picture(GRID).astype(np.float32), half), tmp_path / "m.nii.gz")
    line = ["transform", "invert", tmp_path / "t.tfm", "-r", tmp_path / "f.nii.gz", "-o", tmp_path / "i.mha"]
    assert run(*line, "--moving", tmp_path / "m.nii.gz") == 0
    err = capsys.readouterr().err
    assert "of the fixed points are mapped outside the grid" in err
    share = float(err.split("warning: ")[1].split("%")[0])
    assert share == pytest.approx(50, abs=2)
    assert ar.read_image(tmp_path / "i.mha").grid.matches(half)


# what stands outside the moving image


@pytest.mark.parametrize(
    ("background", "kind", "fill"), [(-1024, np.int16, -1024), (0, np.int16, 0), (0, np.uint8, 0), (-3.5, np.float32, -3.5)]
)
def test_outside_the_moving_image_stands_its_background(tmp_path, capsys, background, kind, fill):
    small = ar.Grid((40, 34), GRID.spacing, tuple(GRID.points_at([12, 9])), GRID.direction)
    for name, grid, shift in (("fixed", GRID, 0.0), ("moving", small, 1.0)):
        values = picture(grid, shift, background)
        ar.write_image(ar.Image((values / 4 if kind is np.uint8 else values).astype(kind), grid), tmp_path / f"{name}.mha")
    line = ["register", tmp_path / "fixed.mha", tmp_path / "moving.mha", "-o", tmp_path / "t.tfm", "--transform", "rigid"]
    for options, expected in (([], fill), (["--fill", "7"], 7)):
        assert run(*line, "--warped", tmp_path / "w.mha", *options) == 0
        images = {name: sitk.ReadImage(str(tmp_path / f"{name}.mha")) for name in ("fixed", "moving", "w")}
        phi = sitk.ReadTransform(str(tmp_path / "t.tfm"))
        seen = sitk.Resample(images["moving"] * 0 + 1, images["fixed"], phi, sitk.sitkNearestNeighbor, 0.0)
        outside = sitk.GetArrayFromImage(seen) == 0
        assert outside.mean() > 0.3
        values = sitk.GetArrayFromImage(images["w"])
        assert values.dtype == kind
        assert set(np.unique(values[outside])) == {expected}
    assert run(*line, "--warped", tmp_path / "w.mha", "--fill", "1e9") == (0 if kind is np.float32 else 2)
    assert run(*line, "--fill", "0") == 2
    capsys.readouterr()


def test_how_far_to_turn_is_an_option(tmp_path, capsys):
    grid = ar.Grid((64, 64))
    x, y = np.moveaxis(grid.points() - grid.center, -1, 0)
    values = 100 * np.exp(-((x - 8) ** 2 / 150 + y**2 / 40)) + 60 * np.exp(-((x + 12) ** 2 + (y - 14) ** 2) / 20)
    fixed = ar.Image(values.astype(np.float32), grid)
    truth = ar.Affine.about([[0, -1], [1, 0]], grid.center)
    ar.write_image(fixed, tmp_path / "f.mha")
    ar.write_image(ar.warp(fixed, truth.inverse(), grid), tmp_path / "m.mha")
    line = ["register", tmp_path / "f.mha", tmp_path / "m.mha", "-o", tmp_path / "t.tfm", "--transform", "rigid"]
    assert run(*line, "--rotation", "180") == 0
    points = grid.points_at([[20, 20], [50, 30], [32, 50.0]])
    np.testing.assert_allclose(itk_points(tmp_path / "t.tfm", points), truth(points), atol=0.5)
    assert run(*line, "--rotation", "181") == 2
    assert run(*line, "--rotation", "nan") == 2
    capsys.readouterr()


# all or none


def test_a_failure_after_the_work_writes_nothing(folder, tmp_path, capsys, monkeypatch):
    def fails(*_):
        raise MemoryError("Unable to allocate 9.00 GiB")

    line = ["register", folder / "fixed.nii.gz", folder / "moving.nii.gz", "-o", tmp_path / "t.tfm", "--transform", "rigid"]
    for place, name in ((ar.metrics, "folding"), (ar, "warp"), (register, "_page"), (ar, "write_image")):
        with monkeypatch.context() as patch:
            # the last one fails while it writes, the transform is already there
            patch.setattr(place, name, lambda *a, **k: fails())
            if name == "write_image":
                patch.setattr(register, "rehearse", lambda *_: None)
            assert run(*line, "--warped", tmp_path / "w.mha", "--report", tmp_path / "p.html") == 2
        err = capsys.readouterr().err
        assert err.count("augreg: not enough memory: Unable to allocate 9.00 GiB; ") == 1
        assert list(tmp_path.iterdir()) == []


def test_a_format_that_cannot_hold_the_pixels_is_refused_before_the_work(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ar.LPRegistration, "steps", None)
    line = ["register", folder / "fixed.nii.gz", folder / "moving.nii.gz", "-o", tmp_path / "t.tfm"]
    assert run(*line, "--warped", tmp_path / "w.png") == 2
    err = capsys.readouterr().err
    assert str(tmp_path / "w.png") in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FloatingPointError("underflow"), 2),
        (OverflowError("too large"), 2),
        (ZeroDivisionError("division by zero"), 2),
        (np.linalg.LinAlgError("Singular matrix"), 2),
        (zlib.error("Error -3"), 2),
        (zipfile.BadZipFile("no zip"), 2),
        (struct.error("unpack requires"), 2),
        (EOFError(), 2),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2),
        (RecursionError("maximum recursion depth exceeded"), 2),
        (MemoryError(), 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), 2),
        (OSError(errno.EROFS, "Read-only file system", "x"), 2),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1),
        (OSError(errno.EIO, "Input/output error", "x"), 1),
        (KeyError("inner"), 1),
        (AssertionError("inner"), 1),
        (RuntimeError("inner"), 1),
    ],
)
def test_every_error_has_a_status_and_one_line(folder, tmp_path, capsys, monkeypatch, error, status):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(ar.LPRegistration, "steps", fails)
    assert run("register", folder / "fixed.nii.gz", folder / "moving.nii.gz", "-o", tmp_path / "t.tfm") == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("augreg: ")
    assert err.count("\n") == 1
    assert ("AUGREG_DEBUG" in err) == (status == 1 and getattr(error, "errno", None) != errno.ENOSPC)


# streams and names


def shell(folder, line, **options):
    """`augreg` as a process of its own, started by a shell in the folder."""
    command = f"{sys.executable} -m augreg {line}"
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, check=False, **options)


def test_closed_streams_cost_neither_the_result_nor_the_exit_status(folder):
    line = "evaluate fixed.nii.gz -t shift.tfm --json"
    done = shell(folder, f"{line} 2>&-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["folding"] == 0
    done = shell(folder, "evaluate missing.nii.gz -t shift.tfm --json 2>&-")
    assert (done.returncode, done.stdout) == (2, b"")
    done = shell(folder, "transform convert shift.tfm -r fixed.nii.gz -o closed.nii.gz 0<&- 1>&- 2>&-")
    assert done.returncode == 0
    np.testing.assert_allclose(
        itk_points(folder / "closed.nii.gz", GRID.points_at([[9, 9]])), GRID.points_at([[9, 9]]) + np.array([3, 1]), atol=1e-4
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_standard_output_is_told(folder):
    done = shell(folder, "evaluate fixed.nii.gz -t shift.tfm --json > /dev/full")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"room" in done.stderr


def test_what_libraries_print_is_no_part_of_the_result(folder):
    code = (
        "import os, sys\n"
        "from augreg import cli, io\n"
        "read = io.read_image\n"
        "def loud(path):\n"
        "    os.write(1, b'from a library\\n'); print('from Python'); return read(path)\n"
        "io.read_image = loud\n"
        "sys.exit(cli.main(['evaluate', 'fixed.nii.gz', '-t', 'shift.tfm', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=True)
    assert json.loads(done.stdout)["folding"] == 0
    assert b"from a library" in done.stderr
    assert b"from Python" in done.stderr


def test_names_that_are_not_utf8_are_refused_in_one_line_for_every_path(folder):
    bad = os.fsdecode(b"M\xfcller.nii.gz")
    lines = [
        ["register", bad, "moving.nii.gz", "-o", "t.tfm"],
        ["register", "fixed.nii.gz", "moving.nii.gz", "-o", bad],
        ["register", "fixed.nii.gz", "moving.nii.gz", "-o", "t.tfm", "--warped", bad],
        ["register", "fixed.nii.gz", "moving.nii.gz", "-o", "t.tfm", "--initial", bad],
        ["evaluate", "fixed.nii.gz", "-t", bad],
        ["points", bad, "-t", "shift.tfm", "-o", "o.csv"],
        ["sam", "fit", "fixed.nii.gz", bad, "moving.nii.gz", "-o", "model.npz"],
    ]
    for line in lines:
        done = subprocess.run([sys.executable, "-m", "augreg", *line], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 2, line
        assert done.stderr.count(b"\n") == 1
        assert b"UTF-8" in done.stderr
        assert done.stdout == b""
    assert not (folder / "t.tfm").exists()


def test_warnings_of_files_are_in_the_json_once(folder, tmp_path, capsys, monkeypatch):
    read = io.read_image

    def warned(path):
        warnings.warn(f"{os.path.basename(path)}: something was settled", io.FileWarning, stacklevel=2)
        return read(path)

    monkeypatch.setattr(ar, "read_image", warned)
    line = ["register", folder / "fixed.nii.gz", folder / "moving.nii.gz", "-o", tmp_path / "t.tfm", "--transform", "rigid"]
    assert run(*line, "--json") == 0
    result, err = json_of(capsys)
    for name in ("fixed", "moving"):
        assert sum(name in text for text in result["warnings"]) == 1
        assert err.count(f"warning: {name}.nii.gz: something was settled") == 1


def test_a_backend_of_a_notebook_does_not_break_the_page(folder, tmp_path):
    line = f"register fixed.nii.gz moving.nii.gz -o {tmp_path}/t.tfm --transform rigid --report {tmp_path}/p.html"
    done = shell(folder, line, env=os.environ | {"MPLBACKEND": "module://not_there.backend"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.html").stat().st_size > 1000
