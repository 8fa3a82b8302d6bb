"""Commands on images and transforms, on real images."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import skimage.data

import augreg as ar
from augreg import cli
from augreg.geometry.transforms import Composition

GRID = ar.Grid((128, 96), (0.7, 1.1), (-20.0, 35.0), ((0.0, -1.0), (1.0, 0.0)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two views of one photograph on an odd grid, landmarks, label maps; registered once, by an affine map and by a B-spline."""
    folder = tmp_path_factory.mktemp("images")
    photograph = ar.Image(skimage.data.camera()[:480, :480].T.astype(np.float32), ar.Grid((480, 480), (0.25, 0.25)))
    fixed_grid = GRID
    center = photograph.grid.center
    onto = ar.Affine.about(np.eye(2), GRID.center, center - GRID.center)
    turn = ar.Affine.about([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]], GRID.center, [2.0, -3.0])
    fixed = ar.warp(photograph, onto @ turn, fixed_grid)
    moving = ar.warp(photograph, onto, fixed_grid)
    ar.write_image(fixed, folder / "fixed.mha")
    ar.write_image(moving.with_values(moving.values.astype(np.int16)), folder / "moving.mha")
    points = GRID.points_at([[30, 30], [90, 40], [60, 70.5]])
    ar.write_points(points, folder / "fixed.csv")
    ar.write_points(turn(points), folder / "moving.csv")
    for name, image in (("fixed", fixed), ("moving", moving)):
        ar.write_image(ar.Labels((image.values > 100).astype(np.uint8) + 1, GRID), folder / f"{name}_labels.mha")
    run(folder, "register fixed.mha moving.mha -o affine.tfm --transform affine")
    run(folder, "register fixed.mha moving.mha -o elastic.h5 --grid-spacing 15")
    return folder


def run(folder, line):
    """The command on the files of a folder."""
    return cli.main([str(folder / part) if "." in part and not part[0].isdigit() else part for part in line.split()])


def reference(path, points):
    """What SimpleITK makes of a transform file."""
    if path.suffix in (".tfm", ".h5"):
        transform = sitk.ReadTransform(str(path))
    else:
        transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


def test_registration_recovers_the_landmarks(folder, capsys):
    for name in ("affine.tfm", "elastic.h5"):
        assert run(folder, f"evaluate fixed.mha -t {name} --fixed-points fixed.csv --moving-points moving.csv --json") == 0
        result = json.loads(capsys.readouterr().out)
        assert result["tre"]["mean"] < 0.3
        assert result["robustness"] == 1
        assert result["folding"] == 0


def test_classes_need_no_label_maps_and_masks_may_be_rigid(folder, capsys):
    assert run(folder, "register fixed.mha moving.mha -o classes.tfm --transform affine --criterion classes --json") == 0
    assert json.loads(capsys.readouterr().out)["keypoints"] > 50
    values = np.zeros(GRID.shape, dtype=np.uint8)
    values[40:80, 30:60] = 1
    ar.write_image(ar.Labels(values, GRID), folder / "bone.mha")
    assert run(folder, "register fixed.mha moving.mha -o rigid.h5 --grid-spacing 15 --rigid-mask bone.mha") == 0
    phi = ar.read_transform(folder / "rigid.h5")
    stretch = np.linalg.svd(phi.jacobian(GRID.points_at(np.argwhere(values))), compute_uv=False)
    assert np.abs(stretch - 1).max() < 0.02


@pytest.mark.parametrize("name", ["elastic.h5", "copy.tfm", "copy.nii.gz", "copy.mha"])
def test_simpleitk_maps_points_as_the_command_does(folder, name, capsys):
    if name != "elastic.h5":
        assert run(folder, f"transform convert elastic.h5 -r fixed.mha -o {name}") == 0
    assert run(folder, f"points fixed.csv -t {name} -o mapped.csv") == 0
    points = ar.read_points(folder / "fixed.csv")
    mapped = ar.read_points(folder / "mapped.csv")
    np.testing.assert_allclose(mapped, reference(folder / name, points), atol=1e-5)
    exact = ar.read_transform(folder / "elastic.h5")(points)
    # fields are linear between their nodes
    np.testing.assert_allclose(mapped, exact, atol=1e-5 if name.endswith((".h5", ".tfm")) else 0.05)
    assert np.abs(exact - points).max() > 1
    capsys.readouterr()


def test_warped_images_keep_the_moving_type_and_the_fixed_grid(folder, capsys):
    assert run(folder, "register fixed.mha moving.mha -o again.tfm --transform rigid --warped moved.mha --report page.html") == 0
    moved = ar.read_image(folder / "moved.mha")
    assert moved.values.dtype == np.int16
    assert moved.grid.matches(GRID)
    fixed = ar.read_image(folder / "fixed.mha").values
    inside = moved.values > 0
    assert np.corrcoef(fixed[inside], moved.values[inside])[0, 1] > 0.98
    assert (folder / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    # the same pixels through SimpleITK, which cuts fractions off instead of rounding
    images = [sitk.ReadImage(str(folder / f"{name}.mha")) for name in ("moving", "fixed")]
    peer = sitk.Resample(images[0], images[1], sitk.ReadTransform(str(folder / "again.tfm")), sitk.sitkLinear, 0.0)
    assert np.mean(np.abs(moved.values - sitk.GetArrayFromImage(peer).T) > 1) < 0.005
    capsys.readouterr()


def test_json_is_all_there_is_on_stdout(folder, capsys):
    assert run(folder, "register fixed.mha moving.mha -o again.h5 --transform similarity --json --budget 60 --threads 1") == 0
    result = json.loads(capsys.readouterr().out)
    wanted = {"seconds", "solve_seconds", "objective", "gap", "keypoints", "levels", "folding", "warnings"}
    assert wanted <= set(result)
    assert 0 < result["solve_seconds"] < result["seconds"]
    assert result["keypoints"] > 50
    assert result["warnings"] == []


def test_labels_alone_and_landmarks_steer_the_registration(folder, capsys):
    labels = "--criterion labels --fixed-labels fixed_labels.mha --moving-labels moving_labels.mha"
    assert run(folder, f"register fixed.mha moving.mha -o labels.tfm --transform affine {labels}") == 0
    points = "--fixed-points fixed.csv --moving-points moving.csv"
    assert run(folder, f"register fixed.mha moving.mha -o points.tfm --transform affine {points} --tolerance 0.05") == 0
    given, wanted = ar.read_points(folder / "fixed.csv"), ar.read_points(folder / "moving.csv")
    assert np.abs(ar.read_transform(folder / "labels.tfm")(given) - wanted).max() < 1
    assert np.abs(ar.read_transform(folder / "points.tfm")(given) - wanted).max() < 0.06
    capsys.readouterr()


def test_initial_transforms_are_refined(folder, capsys):
    assert run(folder, "register fixed.mha moving.mha -o later.h5 --grid-spacing 15 --initial affine.tfm") == 0
    first = ar.read_transform(folder / "later.h5").transforms[0]
    np.testing.assert_allclose(first.matrix, ar.read_transform(folder / "affine.tfm").matrix, atol=0.005)
    capsys.readouterr()


def test_masks_choose_where_to_look(folder, capsys):
    half = np.zeros(GRID.shape, dtype=np.uint8)
    half[:64] = 1
    ar.write_image(ar.Labels(half, GRID), folder / "half.mha")
    counts = []
    for more in ("", "--fixed-mask half.mha"):
        assert run(folder, f"register fixed.mha moving.mha -o again.tfm --transform affine --json {more}") == 0
        counts.append(json.loads(capsys.readouterr().out)["keypoints"])
    assert counts[1] < counts[0]


def test_transforms_compose_invert_and_have_a_jacobian(folder, capsys):
    assert run(folder, "transform compose affine.tfm elastic.h5 -o both.h5") == 0
    assert run(folder, "transform invert elastic.h5 -r fixed.mha -o inverse.mha") == 0
    assert run(folder, "transform jacobian elastic.h5 -r fixed.mha -o det.nii.gz") == 0
    points = ar.read_points(folder / "fixed.csv")
    affine, elastic = (ar.read_transform(folder / name) for name in ("affine.tfm", "elastic.h5"))
    np.testing.assert_allclose(ar.read_transform(folder / "both.h5")(points), affine(elastic(points)), atol=1e-6)
    np.testing.assert_allclose(elastic(ar.read_transform(folder / "inverse.mha")(points)), points, atol=0.05)
    determinant = ar.read_image(folder / "det.nii.gz")
    np.testing.assert_allclose(determinant.values, ar.jacobian_determinant(elastic, GRID), atol=1e-4)
    assert determinant.values.min() > 0
    capsys.readouterr()


def test_label_maps_are_warped_by_the_nearest(folder, capsys):
    assert run(folder, "warp moving_labels.mha -t affine.tfm -r fixed.mha -o moved_labels.mha --labels --fill 7") == 0
    moved = ar.read_labels(folder / "moved_labels.mha")
    assert set(moved.unique()) <= {1, 2, 7}
    assert 7 in moved.unique()
    fixed = ar.read_labels(folder / "fixed_labels.mha")
    assert ar.dice(fixed, moved)[2] > 0.93
    line = "evaluate fixed.mha -t affine.tfm --fixed-labels fixed_labels.mha --moving-labels moving_labels.mha --json"
    assert run(folder, line) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["dice"]) == {"1", "2", "mean"}
    assert result["surface_distance"]
    # without a transform as they lie
    assert run(folder, "evaluate fixed.mha --fixed-labels fixed_labels.mha --moving-labels moved_labels.mha --json") == 0
    assert json.loads(capsys.readouterr().out)["dice"]["2"] == ar.dice(fixed, moved)[2]


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ("", ar.LPRegistration()),
        ("--preset default --no-dense", ar.LPRegistration(dense=None)),
        ("--preset people", ar.LPRegistration.for_people()),
        ("--preset quick --transform affine", replace(ar.LPRegistration.quick(), transform="affine")),
        ("--transform rigid --dense", ar.LPRegistration(transform="rigid", dense=ar.DenseRegistration())),
    ],
)
def test_presets_and_the_dense_stage_are_those_of_python(folder, capsys, options, method):
    fixed, moving = (ar.read_image(folder / f"{name}.mha") for name in ("fixed", "moving"))
    assert run(folder, f"register fixed.mha moving.mha -o preset.h5 --json {options}") == 0
    told = json.loads(capsys.readouterr().out)
    found, expected = ar.read_transform(folder / "preset.h5"), method(fixed, moving)
    np.testing.assert_allclose(found(GRID.points()), expected(GRID.points()), atol=1e-6)
    ends = (found.transforms if isinstance(found, Composition) else [found])[-1]
    assert isinstance(ends, ar.DisplacementField) == (options in ("", "--preset people", "--transform rigid --dense"))
    assert told["folding"] == 0
    assert told["keypoints"] > 50
    assert told["warnings"] == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--dense --criterion mi", "--dense: expected --criterion ncc"),
        ("--preset people --criterion labels", "--preset people: expected --criterion ncc"),
        ("--preset people --transform rigid --grid-spacing 9", "--preset people: expected no --transform, --grid-spacing"),
        ("--preset people --no-dense", "--preset people: expected no --no-dense"),
        ("--preset quick --dense", "--preset quick: expected no --dense"),
        ("--preset persons", "--preset: "),
    ],
)
def test_presets_do_not_contradict_other_options(folder, capsys, options, line):
    capsys.readouterr()
    assert run(folder, f"register fixed.mha moving.mha -o no.h5 {options}") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert line in said[-1]
    assert len(said) == 1 or "usage" in said[0]
    assert not (folder / "no.h5").exists()


def test_a_dense_stage_that_is_there_anyway_is_said(folder, capsys):
    assert run(folder, "register fixed.mha moving.mha -o dense.nii.gz --dense") == 0
    told = capsys.readouterr()
    assert "--preset people" in told.err
    assert "keypoints at the last that has any" in told.out


def test_a_report_tells_how_far_a_budget_has_gone(folder, capsys):
    line = "register fixed.mha moving.mha -o dense.h5 --json"
    for budget, completed in (("", True), ("--budget 60", True), ("--budget 1e-9", False)):
        capsys.readouterr()
        assert run(folder, f"{line} {budget}") == 0
        told = json.loads(capsys.readouterr().out)
        assert told["completed"] is completed
        assert told["stage"].startswith("dense, level" if completed else "start")
        assert told["budget_met"] is (True if "60" in budget else None if not budget else told["budget_met"])
        assert any("the budget of 1e-09 s" in text for text in told["warnings"]) is not completed


def test_register_loads_neither_torch_nor_matplotlib(folder):
    code = (
        "import sys; from augreg import cli\n"
        "assert cli.main(['register', 'fixed.mha', 'moving.mha', '-o', 'new.tfm']) == 0\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, encoding="utf-8", check=True
    ).stdout.split()
    assert "augreg.lp" in loaded
    assert not {"torch", "matplotlib"} & set(loaded)


def test_a_folder_with_several_series_is_asked_about(tmp_path, capsys):
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for series in (1, 2):
        for position in range(3):
            image = sitk.Image([16, 16], sitk.sitkInt16)
            tags = {
                "0008|0060": "MR",
                "0020|000e": f"1.2.3.{series}",
                "0020|0013": str(position),
                "0020|0032": f"0\\0\\{position}",
                "0020|0037": "1\\0\\0\\0\\1\\0",
                "0008|0018": f"1.2.3.{series}.{position}",
                "0008|103e": f"scan {series}",
            }
            for tag, value in tags.items():
                image.SetMetaData(tag, value)
            writer.SetFileName(str(tmp_path / f"{series}{position}.dcm"))
            writer.Execute(image)
    assert cli.main(["register", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "t.tfm")]) == 2
    line = capsys.readouterr().err
    assert "1.2.3.1" in line
    assert "1.2.3.2" in line
    assert line.count("\n") == 1
