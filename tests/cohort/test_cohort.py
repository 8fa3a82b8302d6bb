"""Folders of images aligned to one: what is done, kept, doubted and said."""

import csv
import json
import math
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.labelled import ByMass, scene

import augreg as ar
from augreg.cohort import Line, doubts_of, files_of, off_in, write_cohort
from augreg.cohort.lines import table
from augreg.cohort.names import bids

SHAPE = (40, 34)
SHIFTS = [(0, 0), (3, -2), (-2, 2), (2, 3)]


def people(folder, shape=SHAPE):
    """Paths of images and of their label maps; the first is the fixed one."""
    found = []
    for i, shift in enumerate(SHIFTS):
        image, labels = scene(shape, i, 0.05, (*shift, 0))
        paths = [str(folder / f"p{i}.nii.gz"), str(folder / f"p{i}_labels.nii.gz")]
        ar.write_image(image, paths[0])
        ar.write_image(labels.with_values(labels.values.astype(np.int16)), paths[1])
        found.append(paths)
    images, labels = zip(*found, strict=True)
    return list(images), list(labels)


def last(states):
    *_, state = states
    return state


def aligned(folder, images, labels, registration=None, **how):
    fixed, fixed_labels = ar.read_image(images[0]), ar.read_labels(labels[0])
    method = registration or ByMass()
    return write_cohort(fixed, images[1:], method, folder, fixed_labels=fixed_labels, labels=labels[1:], **how)


def contents(folder, *suffixes):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.name.endswith(suffixes)}


def rows(folder):
    with open(folder / "cohort.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("shape", [SHAPE, (22, 18, 12)])
def test_every_image_has_its_transform_its_warped_image_and_a_line(shape, tmp_path):
    images, labels = people(tmp_path, shape)
    state = last(aligned(tmp_path / "out", images, labels))
    assert (len(state.lines), state.total, state.failed, state.kept) == (3, 3, 0, 0)
    fixed = ar.read_image(images[0])
    for number, (line, row) in enumerate(zip(state.lines, rows(tmp_path / "out"), strict=True), 1):
        assert row["name"] == line.name == f"p{number}"
        assert row["done"] == "yes"
        moving = ar.read_image(images[number])
        phi = ByMass()(fixed, moving)
        # ITK reads the transform, and the files agree with it
        read = sitk.ReadTransform(str(tmp_path / "out" / f"p{number}.h5"))
        x = fixed.grid.center + 3.0
        np.testing.assert_allclose(read.TransformPoint(x.tolist()), phi(x), atol=1e-6)
        warped = ar.read_image(tmp_path / "out" / f"p{number}.nii.gz")
        assert warped.grid.matches(fixed.grid)
        np.testing.assert_array_equal(warped.values, ar.warp(moving, phi, fixed.grid, fill=moving.values.min()).values)
        moved = ar.read_labels(tmp_path / "out" / f"p{number}_labels.nii.gz")
        dice = ar.metrics.mean_overlap(ar.dice(ar.read_labels(labels[0]), moved))
        assert float(row["dice"]) == pytest.approx(dice, rel=1e-4)
        assert float(row["dice"]) > float(row["dice_before"]) + 0.05
        assert float(row["similarity"]) > float(row["similarity_before"])
        assert float(row["growth"]) == pytest.approx(abs(np.linalg.det(phi.matrix)), rel=1e-4)
        assert float(row["seconds"]) >= 0


def test_what_is_there_is_kept_and_what_joins_or_is_damaged_is_done(tmp_path):
    images, labels = people(tmp_path)
    out = tmp_path / "out"
    assert last(aligned(out, images[:3], labels[:3])).kept == 0
    before = contents(out, ".h5", ".nii.gz", ".json")
    assert last(aligned(out, images, labels)).kept == 2
    (out / "p1.h5").write_bytes(b"nothing")
    (out / "p3.nii.gz").unlink()
    state = last(aligned(out, images, labels))
    assert [line.kept for line in state.lines] == [False, True, False]
    after = contents(out, ".h5", ".nii.gz")
    assert {name: after[name] for name in before if not name.endswith(".json")} == {
        name: part for name, part in before.items() if not name.endswith(".json")
    }
    # another image under the same name, another registration, another fixed image: nothing of before is taken for it
    image = ar.read_image(images[2])
    ar.write_image(image.with_values(image.values + np.float32(1)), images[2])
    assert [line.kept for line in last(aligned(out, images, labels)).lines] == [True, False, True]
    assert last(aligned(out, images, labels, ByMass(0.1))).kept == 0
    other = ar.read_image(images[0])
    again = write_cohort(other.with_values(other.values * 2), images[1:], ByMass(0.1), out)
    assert last(again).kept == 0


@dataclass(frozen=True)
class Stopped:
    """A registration that ends the process at one image, once, when another one is done."""

    out: str

    def __call__(self, fixed, moving):
        flag = Path(self.out).parent / "flag"
        if moving.values.max() > 40 and not flag.exists():
            while not list(Path(self.out).glob("records/*.json")):
                time.sleep(0.02)
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ByMass()(fixed, moving)


def test_a_killed_worker_costs_no_image_and_changes_no_byte(tmp_path):
    images, labels = people(tmp_path)
    deadly = ar.read_image(images[2])
    ar.write_image(deadly.with_values(deadly.values * 20), images[2])
    stopping = Stopped(str(tmp_path / "two"))
    state = last(aligned(tmp_path / "two", images, labels, stopping, workers=2))
    assert (state.failed, len(state.lines)) == (0, 3)
    assert (tmp_path / "flag").exists()
    last(aligned(tmp_path / "one", images, labels, stopping))
    wanted = contents(tmp_path / "one", ".h5", ".nii.gz", ".webp")
    assert len(wanted) == 9
    assert contents(tmp_path / "two", ".h5", ".nii.gz", ".webp") == wanted
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / "one")]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / "two")] == kept
    assert list((tmp_path / "two").rglob(".*")) == []


def test_a_bad_image_is_a_line_and_the_others_go_on(tmp_path):
    images, _ = people(tmp_path)
    broken, volume, gone = (str(tmp_path / name) for name in ("broken.nii.gz", "volume.nii.gz", "gone.nii.gz"))
    Path(broken).write_bytes(Path(images[1]).read_bytes()[:200])
    ar.write_image(scene((20, 18, 12))[0], volume)
    out = tmp_path / "out"
    state = last(write_cohort(ar.read_image(images[0]), [broken, images[1], volume, gone], ByMass(), out))
    assert [bool(line.failed) for line in state.lines] == [True, False, True, True]
    found = rows(out)
    assert [row["done"] for row in found] == ["no", "yes", "no", "no"]
    assert all(row["warnings"].startswith("failed: ") for row in found if row["done"] == "no")
    assert "2-D and 3-D" in found[2]["warnings"]
    assert "gone.nii.gz" in found[3]["warnings"]
    assert sorted(p.name for p in out.iterdir()) == ["cohort.csv", "p1.h5", "p1.nii.gz", "records"]
    # mended, it is done
    ar.write_image(ar.read_image(images[2]), gone)
    assert [line.kept for line in last(write_cohort(ar.read_image(images[0]), [images[1], gone], ByMass(), out)).lines] == [
        True,
        False,
    ]


def test_what_files_leave_open_is_said_on_the_line(tmp_path):
    images, labels = people(tmp_path)
    plain = tmp_path / "no_place.nii.gz"
    picture = sitk.ReadImage(images[1])
    picture.SetSpacing((1.0, 1.3))
    sitk.WriteImage(picture, str(plain))
    state = last(aligned(tmp_path / "out", [images[0], str(plain)], [labels[0], labels[2]]))
    [line] = state.lines
    assert not line.failed
    # label maps on another grid are no label maps of this image
    image = ar.read_image(images[2])
    smaller = ar.Image(image.values[:-1], ar.Grid((39, 34), image.grid.spacing))
    ar.write_image(smaller, images[2])
    [line] = last(aligned(tmp_path / "out", [images[0], images[2]], [labels[0], labels[2]])).lines
    assert "expected labels on the grid" in line.failed


def test_doubt_is_how_far_the_worst_number_is_off():
    same = [
        Line(f"n{i}", "", objective=1 + 0.01 * i, similarity=0.9 + 0.01 * (i % 3), growth=1.0 + 0.01 * (i % 2)) for i in range(9)
    ]
    low = replace(same[4], name="low", similarity=0.5)
    small, large = (replace(same[4], name="size", growth=growth) for growth in (0.4, 2.5))
    warned = replace(same[4], name="warned", warnings=("x", "y"))
    found = doubts_of([*same, low, small, large, warned, Line("lost", "", failed="why")])
    assert max(found[:9]) < 3
    assert min(found[9:12]) > 10
    assert found[12] == pytest.approx(found[4] + 3)
    assert found[13] == math.inf
    assert off_in(large, [*same, low, small, large, Line("lost", "", failed="why")]) == "growth 2.5, the median is 1"
    assert off_in(low, [*same, low, small, large]) == "similarity 0.5, the median is 0.91"
    # of few nothing is known but warnings
    assert doubts_of([same[0], low, warned]) == [0, 0, 3]


@pytest.mark.parametrize(
    ("measure", "better", "usual", "worse"),
    [("similarity", 0.95, 0.8, 0.6), ("dice", 0.95, 0.8, 0.6), ("objective", 0.05, 0.1, 0.2), ("folding", 0.0, 0.01, 0.05)],
)
def test_what_is_worse_than_the_others_is_doubted_and_what_is_better_is_not(measure, better, usual, worse):
    lines = [replace(Line(str(i), ""), growth=1.0, **{measure: usual}) for i in range(6)]
    good, bad = (replace(lines[0], **{measure: value}) for value in (better, worse))
    *_, first, second = doubts_of([*lines, good, bad])
    assert first == 0
    assert second > 5


def test_the_table_leaves_out_what_nobody_knows():
    lines = [Line("a", "x,y.nii", 1.5, 0.25, warnings=("one", "two")), Line("b", "b.nii", failed="no, file")]
    found = list(csv.DictReader(table(lines, [0.0, math.inf]).splitlines()))
    assert list(found[0]) == ["name", "image", "done", "doubt", "seconds", "objective", "warnings"]
    assert list(found[0].values()) == ["a", "x,y.nii", "yes", "0", "1.5", "0.25", "one; two"]
    assert (found[1]["doubt"], found[1]["warnings"]) == ("", "failed: no, file")


def test_names_of_bids_derivatives():
    images = ["/in/sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz", "/in/other person.nii.gz"]
    first, second = bids(images, "/x/tpl-MNI152.nii.gz")
    assert first.transform == "sub-01/ses-b/anat/sub-01_ses-b_from-T1w_to-MNI152_mode-image_xfm.h5"
    assert first.warped == "sub-01/ses-b/anat/sub-01_ses-b_space-MNI152_T1w.nii.gz"
    assert first.labels == "sub-01/ses-b/anat/sub-01_ses-b_space-MNI152_desc-T1w_dseg.nii.gz"
    assert second.warped == "sub-otherperson/anat/sub-otherperson_space-MNI152_image.nii.gz"
    with pytest.raises(ValueError, match="names of their own"):
        bids(["a b.nii", "ab.nii"], "f.nii")


def test_a_folder_of_bids_derivatives_says_so(tmp_path):
    images, labels = people(tmp_path)
    last(aligned(tmp_path / "out", images, labels, space="/x/fixed.nii.gz"))
    about = json.loads((tmp_path / "out" / "dataset_description.json").read_text(encoding="utf-8"))
    assert (about["DatasetType"], about["GeneratedBy"]) == ("derivative", [{"Name": "augreg"}])
    for names in files_of(images[1:], "/x/fixed.nii.gz"):
        assert all((tmp_path / "out" / name).is_file() for name in (names.transform, names.warped, names.labels, names.record))
    assert "records/" in (tmp_path / "out" / ".bidsignore").read_text(encoding="utf-8").splitlines()


def test_what_is_no_cohort_is_refused(tmp_path):
    images, labels = people(tmp_path)
    fixed, out = ar.read_image(images[0]), tmp_path / "out"
    for wrong, told in (
        ({"images": []}, "images: expected at least one"),
        ({"images": [images[1]] * 2}, "images: expected each once"),
        ({"labels": labels[:1]}, "labels: expected one label map per image, 2, got 1"),
        ({"fixed_labels": ar.Labels(np.ones((3, 3), int), ar.Grid((3, 3)))}, "fixed_labels: expected labels on the grid"),
        ({"scheduler": "127.0.0.1:9"}, "scheduler: expected the address"),
        ({"workers": 0}, "workers: expected at least 1"),
    ):
        how = {"images": images[1:3], "registration": ByMass(), "directory": out} | wrong
        with pytest.raises(ValueError, match=told):
            list(write_cohort(fixed, **how))
    with pytest.raises(TypeError, match="nobody can know"):
        list(write_cohort(fixed, images[1:], lambda f, m: ByMass()(f, m), out))
    assert not out.exists()
