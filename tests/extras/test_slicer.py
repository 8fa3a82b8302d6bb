"""The Slicer module without Slicer: its process is augreg's real command, what it writes is read back."""

import ast
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from support.phantoms import blobs

from augreg import Affine, Grid, read_image, read_transform, warp, write_image

MODULE = Path(__file__).resolve().parents[2] / "extras" / "slicer-augreg" / "Augreg"
found = importlib.util.spec_from_file_location("augreg_command", MODULE / "AugregLib" / "command.py")
command = importlib.util.module_from_spec(found)
found.loader.exec_module(command)
TRUTH = Affine(np.eye(2), [5.0, -4.0])


@pytest.fixture
def augreg(tmp_path):
    """The command, as an executable file."""
    script = tmp_path / "augreg"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m augreg "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


def environment():
    # the one that the tests have, as Slicer's own is cleaned
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": root}


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for the command is a shell script")
def test_two_volumes_are_registered_by_a_process(augreg, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "clean", dict)
    grid = Grid((64, 52), (1.0, 1.4), (10.0, -3.0))
    moving = blobs(grid, seed=5)
    fixed = warp(moving, TRUTH, grid)
    for image, name in ((fixed, "fixed"), (moving, "moving")):
        write_image(image, tmp_path / f"{name}.nrrd")
    points = np.array([[30.0, 20.0], [50.0, 30.0], [40.0, 50.0]])
    words = command.command(augreg, tmp_path, tmp_path / "fixed.nrrd", tmp_path / "moving.nrrd", kind="rigid", threads=1)
    told = []
    answer = command.run(words, told.append, environment())
    assert answer["seconds"] > 0
    assert command.summary(answer).startswith(f"{answer['seconds']:.1f} s")
    np.testing.assert_allclose(read_transform(tmp_path / command.TRANSFORM)(points), TRUTH(points), atol=0.5)
    assert read_image(tmp_path / command.WARPED).grid.matches(grid)
    with pytest.raises(RuntimeError, match=r"gone\.nrrd: expected a file, got nothing"):
        command.run([*words[:2], str(tmp_path / "gone.nrrd"), *words[3:]], told.append, environment())
    assert "gone.nrrd" in told[-1]


def test_a_command_that_is_not_there_is_one_line():
    with pytest.raises(RuntimeError, match="/nowhere/augreg: expected the command of augreg") as caught:
        command.run(["/nowhere/augreg", "register"], print)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="transform: expected one of rigid"):
        command.command("augreg", Path("x"), Path("f"), Path("m"), kind="elastic")


def test_points_become_options_and_slicer_s_python_stays_out():
    words = command.command("augreg", Path("d"), Path("f.nrrd"), Path("m.nrrd"), points=(Path("f.mrk.json"), Path("m.mrk.json")))
    assert words[-4:] == ["--fixed-points", "f.mrk.json", "--moving-points", "m.mrk.json"]
    assert command.clean({"PYTHONHOME": "slicer", "PATH": "/bin", "LD_LIBRARY_PATH": "slicer"}) == {"PATH": "/bin"}


def test_the_module_has_the_classes_that_slicer_looks_for():
    tree = ast.parse((MODULE / "Augreg.py").read_text(encoding="utf-8"))
    classes = {node.name: [ast.unparse(base) for base in node.bases] for node in tree.body if isinstance(node, ast.ClassDef)}
    for suffix in ("", "Widget", "Logic"):
        assert classes[f"Augreg{suffix}"] == [f"ScriptedLoadableModule{suffix}"]
