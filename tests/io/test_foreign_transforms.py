"""Transforms of other tools are what these tools do with them: points by elastix and ANTs themselves, kept or made now."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from augreg import read_transform, write_transform
from augreg.cli import main
from augreg.io import read_ants

FOREIGN = Path(__file__).parent / "foreign"
ELASTIX = sorted(path.name for path in (FOREIGN / "elastix").iterdir())


def last_of(folder):
    return sorted(folder.glob("TransformParameters.*.txt"))[-1]


def agree(folder):
    points = json.loads((folder / "points.json").read_text(encoding="utf-8"))
    fixed, moving = np.array(points["fixed"]), np.array(points["moving"])
    # the transform does something
    assert np.linalg.norm(moving - fixed, axis=-1).max() > 0.5
    # transformix writes six decimals
    np.testing.assert_allclose(read_transform(last_of(folder))(fixed), moving, atol=2e-6)


@pytest.mark.parametrize("name", ELASTIX)
def test_transforms_of_elastix_map_points_as_transformix_does(name):
    agree(FOREIGN / "elastix" / name)


def made_by(name):
    found = importlib.util.spec_from_file_location(name, FOREIGN / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of SWIG
@pytest.mark.parametrize("name", ["chain2", "zyx3"])
def test_transforms_that_elastix_makes_now_are_read_as_it_means_them(name, tmp_path):
    pytest.importorskip("itk", reason="itk-elastix is not installed")
    agree(made_by("by_elastix").make(tmp_path, name))


CHAIN = FOREIGN / "elastix" / "chain2"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('"Compose"', '"Add"'), r"HowToCombineTransforms \"Add\"\): expected transforms that are composed"),
        (("BSplineTransformSplineOrder 3", "BSplineTransformSplineOrder 2"), "expected a B-spline of order 3"),
        (('"BSplineTransform"', '"SplineKernelTransform"'), "expected one of .*, got elastix' SplineKernelTransform"),
        (("NumberOfParameters 72", "NumberOfParameters 70"), "expected 70 numbers of TransformParameters"),
        (('UseDirectionCosines "true"', 'UseDirectionCosines "false"'), "expected a transform between points of the world"),
        (
            ("TransformParameters.1.txt", "TransformParameters.7.txt"),
            "expected this file, or TransformParameters.7.txt",
        ),
        (("TransformParameters.1.txt", "TransformParameters.2.txt"), "a chain of initial transforms that ends"),
        (("(GridSize 6 6)", ""), "expected 2 numbers of GridSize .* got 0 words: was it cut"),
        (("(GridSize 6 6)", "(GridSize 6 x)"), "expected 2 numbers of GridSize .* got other words"),
        (("(GridSize 6 6)", "(GridSize 6"), r"expected lines \(Key value ...\) of elastix, got '\(GridSize 6' in line"),
        (("(GridSize 6 6)", "(GridSize 6 6)\n(GridSize 6 7)"), "expected GridSize once"),
        (("FixedImageDimension 2", "FixedImageDimension 4"), "expected images of 2 or 3 dimensions"),
        ((r"(TransformParameters 2.58", '(TransformParameters "t.bin") //'), "parameters in a file of their own are not read"),
    ],
)
def test_files_of_elastix_that_cannot_be_used_are_one_line(change, told, tmp_path):
    for file in CHAIN.iterdir():
        shutil.copy(file, tmp_path)
    text = last_of(tmp_path).read_text(encoding="utf-8")
    assert change[0] in text
    last_of(tmp_path).write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(ValueError, match=told) as caught:
        read_transform(last_of(tmp_path))
    assert "\n" not in str(caught.value)


def test_indices_of_a_control_grid_move_its_origin(tmp_path):
    file = FOREIGN / "elastix" / "bspline3" / "TransformParameters.0.txt"
    text, whole = file.read_text(encoding="utf-8"), read_transform(file)
    start = " ".join(map(str, whole.grid.points_at([-2, 0, 3])))
    moved = re.sub(r"\(GridOrigin [^)]*\)", f"(GridOrigin {start})", text).replace("(GridIndex 0 0 0)", "(GridIndex 2 0 -3)")
    (tmp_path / "t.txt").write_text(moved, encoding="utf-8")
    assert read_transform(tmp_path / "t.txt").grid.matches(whole.grid, 1e-9)


@pytest.mark.parametrize("ndim", [2, 3])
def test_files_of_ants_map_points_as_ants_does(ndim):
    folder = FOREIGN / "ants" / f"{ndim}d"
    told = json.loads((folder / "points.json").read_text(encoding="utf-8"))
    points = np.array(told["points"])
    for case in told["cases"]:
        files = [f"[{folder / name},1]" if inverted else folder / name for name, inverted in case["files"]]
        # ANTs keeps points in single precision
        np.testing.assert_allclose(read_ants(files)(points), case["mapped"], atol=2e-5)
    forward, backward = (np.array(told["cases"][k]["mapped"]) for k in (2, 3))
    assert np.linalg.norm(forward - points, axis=-1).max() > 0.5
    # there and back, as files of one registration
    there = read_ants([folder / "1Warp.nii.gz", folder / "0GenericAffine.mat"])
    back = read_ants([f"[{folder / '0GenericAffine.mat'},1]", folder / "1InverseWarp.nii.gz"])
    assert np.linalg.norm(back(there(points)) - points, axis=-1).max() < 0.1
    assert not np.allclose(forward, backward, atol=0.1)


def test_lists_of_ants_that_mean_nothing_are_one_line():
    folder = FOREIGN / "ants" / "2d"
    with pytest.raises(ValueError, match=r"1Warp\.nii\.gz,1\]: expected an affine map to invert"):
        read_ants([f"[{folder / '1Warp.nii.gz'},1]"])
    with pytest.raises(TypeError, match="files: expected a list of files"):
        read_ants(str(folder / "1Warp.nii.gz"))
    with pytest.raises(ValueError, match="expected one or more files of ANTs, got none"):
        read_ants([])
    with pytest.raises(FileNotFoundError):
        read_ants([folder / "2Warp.nii.gz"])


def test_what_ants_makes_of_our_files_is_what_they_are(tmp_path):
    """`ours.tfm` was written by augreg; `ours.json` has points, and where ANTs took them by it as .tfm, .h5 and .nii.gz."""
    told = json.loads((FOREIGN / "ants" / "ours.json").read_text(encoding="utf-8"))
    phi = read_transform(FOREIGN / "ants" / "ours.tfm")
    assert len(phi.transforms) == 2
    for suffix, tolerance in ((".tfm", 2e-5), (".h5", 2e-5), (".nii.gz", 2e-2)):
        np.testing.assert_allclose(phi(told["points"]), told[suffix], atol=tolerance)
    # and what is written now is what ANTs was given
    write_transform(phi, tmp_path / "again.tfm")
    assert (tmp_path / "again.tfm").read_bytes() == (FOREIGN / "ants" / "ours.tfm").read_bytes()


def test_a_list_of_ants_becomes_one_file(tmp_path, capsys):
    folder, out = FOREIGN / "ants" / "2d", tmp_path / "phi.h5"
    case = json.loads((folder / "points.json").read_text(encoding="utf-8"))
    assert main(["transform", "ants", str(folder / "1Warp.nii.gz"), str(folder / "0GenericAffine.mat"), "-o", str(out)]) == 0
    np.testing.assert_allclose(read_transform(out)(case["points"]), case["cases"][2]["mapped"], atol=2e-5)
    assert main(["transform", "ants", f"[{folder / '1Warp.nii.gz'},1]", "-o", str(out)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "1InverseWarp.nii.gz" in told[0]
