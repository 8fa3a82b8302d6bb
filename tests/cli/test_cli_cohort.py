"""`augreg cohort` and `augreg template` from files; the page in a browser; Dask workers, one of which is killed."""

import base64
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from support.browser import ask
from support.dask import cluster
from support.labelled import scene

import augreg as ar
from augreg import cli
from augreg.cohort import Line
from augreg.registration import Pair
from augreg.report import cohort_page, cohort_picture
from augreg.report.small import planes

SHIFTS = [(0, 0), (3, -2), (-2, 2), (2, 3), (1, -3)]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    for i, shift in enumerate(SHIFTS):
        image, labels = scene((64, 52), i, 0.05, shift)
        ar.write_image(image, folder / f"p{i}.nii.gz")
        ar.write_image(labels.with_values(labels.values.astype(np.int16)), folder / f"p{i}_labels.nii.gz")
    return folder


def paths(folder, who, end=""):
    return [str(folder / f"p{i}{end}.nii.gz") for i in who]


def cohort(folder, who, *more, out="out"):
    return ["cohort", *paths(folder, who), "-o", str(folder / out), "--transform", "rigid", *more]


def test_a_cohort_has_a_folder_a_table_and_a_page_and_goes_on(people, capsys):
    labels = paths(people, range(4), "_labels")
    assert cli.main(cohort(people, range(4), "--labels", *labels, "--report", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["failed"], told["kept"]) == (3, 0, 0)
    assert min(one["dice"] for one in told["members"]) > 0.9
    text = Path(told["report"]).read_text(encoding="utf-8")
    assert text.count("<article") == text.count("data:image/webp;base64,") == 3
    assert cli.main(cohort(people, range(5), "--report")) == 0
    out = capsys.readouterr().out
    assert "4 of 4 images aligned, 0 failed (0 were there)" in out
    assert cli.main(cohort(people, range(5), "--report", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 4


def test_bad_images_are_counted_and_said_with_exit_status_0(people, capsys):
    bad = people / "bad.nii.gz"
    bad.write_bytes(b"nothing of an image")
    fixed, image = paths(people, (0, 1))
    line = ["cohort", fixed, image, str(bad), "-o", str(people / "some"), "--transform", "rigid", "--report", "--json"]
    assert cli.main(line) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["images"], told["failed"]) == (2, 1)
    assert told["members"][1]["failed"]
    assert "bad.nii.gz: failed: " in err
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert page.index("bad</b>") < page.index("p1</b>")
    # the path stands above the reason, once
    assert page.count(f">{bad}<") == 1
    assert f">failed: {bad}" not in page
    assert cli.main(["cohort", fixed, str(bad), "-o", str(people / "nobody"), "--transform", "rigid"]) == 2
    assert "expected an image that can be aligned, got none of 1; see cohort.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--labels", "p0_labels.nii.gz"], "--labels: expected FIXED's and one for each of the 2 images, 3 in all, got 1"),
        (["--preset", "quick"], "--transform: expected no --preset"),
        (["-o", "."], "expected a file of its own"),
        (["-o", "p0.nii.gz"], "expected a folder to write to, got a file"),
        (["-o", "no/where"], "expected an existing folder"),
        (["--scheduler", "127.0.0.1:9"], "127.0.0.1:9"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_written(more, told, people, capsys, monkeypatch):
    monkeypatch.chdir(people)
    assert cli.main([*cohort(people, range(3), out="wrong"), *more]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (people / "wrong").exists()


def test_a_fixed_image_that_cannot_be_read_ends_all(people, capsys):
    assert cli.main(["cohort", str(people / "gone.nii.gz"), *paths(people, (1,)), "-o", str(people / "none")]) == 2
    assert "gone.nii.gz" in capsys.readouterr().err
    assert not (people / "none").exists()


def test_a_template_of_files(people, capsys):
    out = people / "template.nii.gz"
    labels = paths(people, range(4), "_labels")
    line = [
        "template",
        *paths(people, range(4)),
        "--labels",
        *labels,
        "-o",
        str(out),
        "--transform",
        "rigid",
        "--rounds",
        "2",
        "--json",
    ]
    assert cli.main(line) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["rounds"], told["labels"]) == (4, 2, str(people / "template_labels.nii.gz"))
    found, fused = ar.read_image(out), ar.read_labels(told["labels"])
    # amid the shifts of the four
    x = [np.stack(np.nonzero(fused.values), axis=-1).mean(axis=0)]
    x += [np.stack(np.nonzero(ar.read_labels(one).values), axis=-1).mean(axis=0) for one in labels]
    np.testing.assert_allclose(x[0], np.mean(x[1:], axis=0), atol=0.3)
    assert found.values.dtype == np.float32
    assert told["shift"] < 0.3


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("template p0.nii.gz -o t.nii.gz", "IMAGES: expected two or more, got one"),
        ("template p0.nii.gz p1.nii.gz -o t.png", "-o: expected .nii"),
        ("template p0.nii.gz p1.nii.gz -o p0.nii.gz", "expected a file of its own"),
        ("template p0.nii.gz p1.nii.gz -o t.nii.gz --labels p0_labels.nii.gz", "--labels: expected a label map for each"),
        ("template p0.nii.gz p1.nii.gz -o t.nii.gz --preset quick --transform rigid", "--transform: expected no --preset"),
    ],
)
def test_what_is_no_template_is_one_line(line, told, people, capsys, monkeypatch):
    monkeypatch.chdir(people)
    assert cli.main(line.split()) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert told in said
    assert not (people / "t.nii.gz").exists()


@pytest.mark.slow
def test_two_dask_workers_one_of_which_is_killed_make_the_bytes_of_one_process(tmp_path):
    for i in range(23):
        rng = np.random.default_rng(i)
        ar.write_image(scene((48, 40), i, 0.05, rng.uniform(-3, 3, 2))[0], tmp_path / f"p{i}.nii.gz")
    assert cli.main(cohort(tmp_path, range(23), out="one")) == 0
    from threading import Thread

    with cluster(tmp_path / "dask", 2) as (address, _, workers):
        done = []
        work = Thread(target=lambda: done.append(cli.main(cohort(tmp_path, range(23), "--scheduler", address, out="two"))))
        work.start()
        while work.is_alive() and not list((tmp_path / "two").glob("*.h5")):
            work.join(0.02)
        early = len(list((tmp_path / "two" / "records").glob("*.json")))
        workers[0].kill()
        work.join()
    assert done == [0]
    assert early < 22

    def contents(name):
        return {p.name: p.read_bytes() for p in (tmp_path / name).iterdir() if p.name.endswith((".h5", ".nii.gz"))}

    assert len(contents("one")) == 44
    assert contents("two") == contents("one")


def lines():
    found = [
        Line(f"n{i}", f"n{i}.nii", 1.0 + i, 0.2, 0.3, 0.9 - 0.01 * i, 0.0, 1.0, 0.4, 0.5 + 0.01 * (i * 7 % 30)) for i in range(29)
    ]
    return [*found, Line("lost <b>", "lost.nii", failed="expected a volume & got none")]


def test_the_page_sorts_and_filters_in_a_browser():
    doubts = [0.1 * (i * 11 % 29) for i in range(26)] + [3.5, 4.5, 2.9, math.inf]
    picture = cohort_picture(*_pair(2))
    text = cohort_page(lines(), doubts, [picture] * 29 + [None], "fixed.nii.gz")
    script = """
      const names = () => [...document.querySelectorAll("article:not([hidden]) b")].map((b) => b.textContent);
      const set = async (id, value) => {
        const control = document.getElementById(id);
        if (control.type === "checkbox") control.checked = value; else control.value = value;
        control.dispatchEvent(new Event("input", { bubbles: true }));
        await next();
        return names();
      };
      const first = names(), count = document.getElementById("count").textContent;
      const last = Math.max(...[...document.querySelectorAll("article")].map((card) => card.getBoundingClientRect().bottom));
      const byName = await set("order", "name"), similar = await set("order", "similarity"), dice = await set("order", "dice");
      const doubt = await set("order", "doubt"), only = await set("only", true);
      await set("only", false);
      const words = await set("words", "volume");
      const shown = document.getElementById("count").textContent;
      await set("words", "");
      const card = document.querySelector("article"), before = card.getBoundingClientRect().width;
      card.click();
      await next();
      const grown = card.getBoundingClientRect().width / before;
      return { first, count, last, byName, similar, dice, doubt, only, words, shown, grown };
    """
    told = ask(text, script)
    ranked = sorted(range(30), key=lambda i: -doubts[i])
    assert told["first"] == told["doubt"] == [lines()[i].name for i in ranked]
    assert told["count"] == "30 of 30 shown"
    # thirty people in one look: the browser's window is 1600 high
    assert told["last"] < 1600
    assert told["byName"][:4] == ["lost <b>", "n0", "n1", "n2"]
    assert told["similar"][:3] == ["lost <b>", "n28", "n27"]
    assert told["dice"][1] == min(lines()[:29], key=lambda line: line.dice).name
    assert told["only"] == ["lost <b>", "n27", "n26"]
    assert told["words"] == ["lost <b>"]
    assert told["shown"] == "1 of 30 shown"
    assert told["grown"] > 3


def _pair(ndim, labelled=False):
    shape = (64, 52, 30)[:ndim]
    (fixed, fixed_labels), (moving, moving_labels) = scene(shape, 0, 0.02), scene(shape, 1, 0.02, (9, -6, 3))
    known = {"fixed_labels": fixed_labels, "moving_labels": moving_labels} if labelled else {}
    pair = Pair(fixed=fixed, moving=moving, **known)
    return pair, pair.start, ar.Affine(np.eye(ndim), np.array((9.0, -6 * 1.3, 3 * 0.8)[:ndim]))


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_picture_has_outlines_where_the_fixed_image_ends_before_and_after(ndim, labelled):
    rgb = np.asarray(PIL.Image.open(io.BytesIO(cohort_picture(*_pair(ndim, labelled)))).convert("RGB")).astype(int)
    height, width, _ = rgb.shape
    before, after = (rgb[:, : width // 2], rgb[:, width // 2 :]) if ndim == 2 else (rgb[: height // 2], rgb[height // 2 :])
    yellow = [(one[..., 0] > 150) & (one[..., 1] > 130) & (one[..., 2] < 110) for one in (before, after)]
    # the outline is the fixed image's, which stays where it is
    assert min(mask.sum() for mask in yellow) > 100
    assert np.mean(yellow[0] == yellow[1]) > 0.93
    green = [((one[..., 1] - one[..., 0]) > 50).sum() for one in (before, after)]
    # the own outlines of the image lie below those once aligned
    assert (green[0] > 100) == labelled
    assert green[1] < 0.4 * green[0] or not labelled


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1.0, 1, 1]), np.eye(3)[[2, 0, 1]]])
def test_planes_show_the_patient_the_same_way_whatever_the_axes_of_the_file(direction):
    grid = ar.Grid((20, 30, 40), (1.0, 2.0, 0.5), (3.0, 4.0, 5.0), direction)
    axial, coronal, sagittal = planes(grid, grid.center + 1)
    for plane, axes in ((axial, np.eye(3)), (coronal, np.eye(3)[[0, 2, 1]]), (sagittal, np.eye(3)[[1, 2, 0]])):
        sign = -1.0 if plane is not axial else 1.0
        np.testing.assert_allclose(plane.axes[:, 0], axes[0], atol=1e-12)
        np.testing.assert_allclose(plane.axes[:, 1], sign * axes[1], atol=1e-12)
        assert (grid.center + 1 - plane.center) @ plane.axes[:, 2] == pytest.approx(0)
        assert plane.spacing[0] == plane.spacing[1]


def test_pictures_of_one_pair_are_the_same_bytes():
    assert cohort_picture(*_pair(3)) == cohort_picture(*_pair(3))
    text = cohort_page(lines()[:1], [0.0], [cohort_picture(*_pair(2))], "f")
    [uri] = re.findall(r"base64,([^\"]+)", text)
    assert base64.b64decode(uri).startswith(b"RIFF")
    assert "http" not in text
