"""Series: frames that were moved come back, whatever they are aligned to; what is lost is said; a stopped run goes on."""

import csv
import json

import nibabel
import numpy as np
import pytest
import tifffile
from support.files import numbers

import augreg as ar
from augreg import cli
from augreg.datasets import hearts
from augreg.io import Series, read_series, write_series
from augreg.series import align_series, moved_of, write_aligned

GRID = ar.Grid((96, 88), (1.5, 1.2), (-20.0, 14.0))
RIGID = ar.LPRegistration(transform="rigid")


def truth(k):
    """Rotation about the middle and translation of a frame: it drifts, and shakes."""
    angle, shift = np.deg2rad(0.8 * k), np.array([0.9 * k, -0.5 * k + (k % 2)])
    R, c = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), GRID.center
    return ar.Affine(R, c - R @ c + shift)


def scene(count=6, lost=()):
    """A heart in motion: the pull-back of frame k by truth(k) is the heart."""
    heart = hearts().images[0]
    spacing = (1.6, 1.6)
    heart = ar.Image(heart.values, ar.Grid(heart.grid.shape, spacing, tuple(GRID.center - np.array(spacing) * 127.5)))
    frames = [ar.warp(heart, truth(k).inverse(), GRID).values.astype(np.float32) for k in range(count)]
    for k in lost:
        frames[k] = np.full(GRID.shape, 7.0 if k % 2 else np.nan, np.float32)
    return Series(np.stack(frames), GRID, 2.5)


def errors(series, found, skipped=()):
    """Mean distance from the truth, voxels, frame by frame, against the first that shows something."""
    first = truth(min(set(range(len(series))) - set(skipped)))
    x = GRID.lattice([5, 5])
    return [np.linalg.norm(found[k](x) - truth(k)(first.solve(x)), axis=1).mean() for k in range(len(series)) if k not in skipped]


@pytest.mark.parametrize("to", ["mean", "first", "previous"])
def test_moved_frames_come_back(to):
    series = scene()
    states = list(align_series(series, RIGID, to))
    assert len(states) == len(series) * (2 if to == "mean" else 1)
    found = {state.number: state.aligned.transform for state in states}
    assert max(errors(series, found)) < 0.15
    last = states[-1].aligned
    assert last.similarity > 0.95 > last.similarity_before
    if to == "mean":
        # where the mean is not known, nothing is compared
        assert min(state.aligned.similarity for state in states[len(series) :]) > 0.99


def test_frames_that_show_nothing_keep_the_last_transform_and_are_not_in_the_mean(tmp_path):
    series = scene(lost=(0, 3))
    states = [state for state in write_aligned(series, RIGID, tmp_path / "a") if state.round == 1]
    lost = [state.number for state in states if state.aligned.lost]
    assert lost == [0, 3]
    found = [state.aligned.transform for state in states]
    x = GRID.lattice([3, 3])
    assert max(errors(series, found, skipped=(0, 3))) < 0.15
    assert np.isfinite(found[3](x)).all()
    with open(tmp_path / "a" / "motion.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["lost"] for line in lines] == ["1", "0", "0", "1", "0", "0"]
    assert "constant" in lines[3]["warnings"]
    assert "no finite voxel" in lines[0]["warnings"]
    assert lines[4]["time_s"] == "10"
    mean = ar.read_image(tmp_path / "a" / "mean.nii.gz")
    moved = read_series(tmp_path / "a" / "moved.nii.gz")
    assert moved.grid.matches(GRID)
    assert moved.step == 2.5
    shown = [moved.values[k] for k in (1, 2, 4, 5)]
    middle = (slice(20, 70), slice(20, 70))
    np.testing.assert_allclose(mean.values[middle], np.mean(shown, axis=0)[middle], atol=1e-3)


def test_the_frame_after_a_lost_one_goes_by_the_last_that_was_found():
    series = scene(lost=(3,))
    states = list(align_series(series, RIGID, "previous"))
    assert [state.number for state in states if state.aligned.lost] == [3]
    found = {state.number: state.aligned.transform for state in states}
    assert max(errors(series, found, skipped=(3,))) < 0.15
    # it is kept at the place of the one before
    x = GRID.lattice([3, 3])
    np.testing.assert_array_equal(found[3](x), found[2](x))


def test_against_the_mean_every_frame_begins_where_it_was_found():
    asked = []

    def registration(fixed, moving, *, initial=None, fixed_mask=None):
        asked.append(initial)
        return RIGID(fixed, moving, initial=initial, fixed_mask=fixed_mask)

    series = scene(count=4)
    states = list(align_series(series, registration))
    first, x = states[:4], GRID.lattice([3, 3])
    for start, state in zip(asked[-4:], first, strict=True):
        np.testing.assert_allclose(start(x), state.aligned.transform(x), atol=1e-9)


def test_a_curve_says_what_the_motion_was():
    x = GRID.center
    for k in (1, 4):
        moved = moved_of(truth(k), truth(k - 1), GRID)
        np.testing.assert_allclose(moved.translation, truth(k)(x) - x, atol=1e-9)
        np.testing.assert_allclose(moved.rotation, [0.8 * k], atol=1e-9)
        points = GRID.lattice([9, 9])
        assert moved.step == pytest.approx(np.linalg.norm(truth(k)(points) - truth(k - 1)(points), axis=1).mean())
    # about each axis of space, with its sign
    grid, angle = ar.Grid((20, 24, 18), (2.0, 1.0, 3.0)), np.deg2rad(5)
    for axis in range(3):
        R = np.eye(3)
        a, b = [d for d in range(3) if d != axis]
        R[a, a] = R[b, b] = np.cos(angle)
        R[b, a], R[a, b] = (np.sin(angle), -np.sin(angle)) if axis != 1 else (-np.sin(angle), np.sin(angle))
        wanted = np.zeros(3)
        wanted[axis] = 5
        np.testing.assert_allclose(moved_of(ar.Affine(R), None, grid).rotation, wanted, atol=1e-9)


def test_a_stopped_run_goes_on_and_another_series_begins_anew(tmp_path):
    series = scene(count=4)
    for count, _ in enumerate(write_aligned(series, RIGID, tmp_path / "a"), 1):
        if count == 6:
            break
    states = list(write_aligned(series, RIGID, tmp_path / "a"))
    assert [state.kept for state in states] == [True] * 6 + [False] * 2
    list(write_aligned(series, RIGID, tmp_path / "b"))
    for name in ("moved.nii.gz", "transforms/0003.tfm"):
        one, two = (tmp_path / folder / name for folder in ("a", "b"))
        if name.endswith("gz"):
            np.testing.assert_allclose(read_series(one).values, read_series(two).values, atol=1e-4)
        else:
            x = GRID.lattice([3, 3])
            np.testing.assert_allclose(ar.read_transform(one)(x), ar.read_transform(two)(x), atol=1e-9)
    other = Series(series.values + 1, GRID)
    assert not any(state.kept for state in write_aligned(other, RIGID, tmp_path / "a"))


def test_series_are_what_nibabel_and_tifffile_read(tmp_path):
    values = numbers(9, 8, 5, 4, dtype=np.int16)
    affine = np.diag([-2.0, -1.5, 3.0, 1.0])
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_zooms((2.0, 1.5, 3.0, 1.2))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "a.nii.gz")
    series = read_series(tmp_path / "a.nii.gz")
    assert (len(series), series.grid, series.step) == (4, ar.Grid((9, 8, 5), (2.0, 1.5, 3.0)), pytest.approx(1.2))
    np.testing.assert_array_equal(series.values, np.moveaxis(values, -1, 0))
    write_series(series, tmp_path / "b.nii")
    theirs = nibabel.load(tmp_path / "b.nii")
    np.testing.assert_array_equal(np.asarray(theirs.dataobj), values)
    np.testing.assert_allclose(theirs.affine, affine)
    pages = numbers(6, 30, 40, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", pages, photometric="minisblack")
    series = read_series(tmp_path / "p.tif")
    np.testing.assert_array_equal(series.values, pages.swapaxes(1, 2))
    tifffile.imwrite(tmp_path / "t.ome.tif", numbers(3, 4, 30, 40), ome=True, photometric="minisblack", metadata={"axes": "TZYX"})
    assert read_series(tmp_path / "t.ome.tif").grid.shape == (40, 30, 4)
    write_series(series, tmp_path / "q.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "q.tif"), pages)
    np.testing.assert_array_equal(read_series(tmp_path / "q.tif").values, series.values)


def test_what_is_no_series_is_told_in_a_line(tmp_path):
    nibabel.save(nibabel.Nifti1Image(numbers(4, 4, 4, dtype=np.int16), np.eye(4)), tmp_path / "3d.nii.gz")
    tifffile.imwrite(tmp_path / "one.tif", numbers(30, 40))
    (tmp_path / "x.dat").write_bytes(b"no image at all")
    write_series(scene(count=2), tmp_path / "s.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "s.nii.gz").read_bytes()[:3000])
    for name in ("3d.nii.gz", "one.tif", "x.dat", "cut.nii.gz"):
        with pytest.raises(ValueError, match=r"expected") as caught:
            read_series(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    blank = Series(np.ones((3, *GRID.shape), np.float32), GRID)
    with pytest.raises(ValueError, match="shows something"):
        list(align_series(blank, RIGID))
    with pytest.raises(ValueError, match="mean, first, previous"):
        list(align_series(blank, RIGID, "last"))


def test_the_command_writes_a_folder_and_a_page(tmp_path, capsys):
    write_series(scene(count=3, lost=(1,)), tmp_path / "s.nii.gz")
    words = ["series", str(tmp_path / "s.nii.gz"), "-o", str(tmp_path / "out"), "--to", "first", "--report", "--json"]
    assert cli.main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["frames"], result["lost"], result["kept"]) == (3, [1], 0)
    assert result["similarity"] > result["similarity_before"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"moved.nii.gz", "mean.nii.gz", "motion.csv", "index.html", "transforms", "records"}
    assert "1 lost" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 3
    assert cli.main(["series", str(tmp_path / "s.nii.gz"), "-o", str(tmp_path / "s.nii.gz")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
