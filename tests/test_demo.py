import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from support.subjects import people

from augreg import demo, write_image
from augreg.datasets import hearts
from augreg.recipes import DEMO
from augreg.report.scores import Scores, compared, learned

HEARTS = resources.files("augreg") / "data" / "hearts"
FEW = sorted(str(HEARTS / f"SC-HF-I-0{number}_{phase}.png") for number in (1, 2, 4, 5, 6, 7, 8) for phase in ("ed", "es"))
TINY = demo.Lesson(side=48, recipe=replace(DEMO, pool=32, steps=12))

# the same in a process of its own, whose hashes are others and whose clock says that the machine is busy
SLOW = """
import itertools, sys, time
from pathlib import Path
clock = itertools.count(0, 1000)
time.perf_counter = time.monotonic = time.time = lambda: float(next(clock))
from augreg import demo, recipes
from dataclasses import replace
recipe = replace(recipes.DEMO, pool=32, steps=12)
*_, last = demo.run(Path(sys.argv[1]), images=sys.argv[2:], lesson=demo.Lesson(side=48, recipe=recipe))
print(last.summary["results"]["network"]["milliseconds"])
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The events of a small demo, and its folder."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    return list(demo.run(folder, images=FEW, lesson=TINY)), folder


@pytest.mark.parametrize("count", [4, 5, 12, 100])
@pytest.mark.parametrize("images", [1, 2])
def test_phases_are_paired_within_subjects_and_others_between_them(count, images):
    subjects = [f"{number:03d}" for number in range(count) for _ in range(images)]
    known, pairs, phases = demo.split(subjects)
    assert phases == (images == 2)
    for fixed, moving in pairs:
        assert fixed != moving
        assert (subjects[fixed] == subjects[moving]) == phases
    # nobody is learned from and tested; nobody is left out, but enough is enough
    tested = {subjects[number] for pair in pairs for number in pair}
    assert len(tested) >= 2
    assert not tested & {subjects[number] for number in known}
    assert len(known) == min(32, images * (count - len(tested)))
    assert known == sorted(set(known))


def test_the_whole_story_on_a_few_hearts(story):
    events, folder = story
    assert all(b.done >= a.done for a, b in itertools.pairwise(events))
    # every pair that is drawn and every step say so
    assert sum(event.message.endswith("pairs with exact truth") for event in events) == 32 / 8
    assert sum(event.message.startswith("step ") for event in events) == 12
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert [p.name for p in folder.iterdir()] == ["index.html"]
    assert not re.search(r'(src|href)="(?!data:)', text)
    summary = events[-1].summary
    assert summary["measure"] == "Dice"
    assert set(summary["results"]) == {"before", "linear program", "network", "network, then linear program"}
    assert summary["results"]["linear program"]["mean"] > summary["results"]["before"]["mean"]
    for name, row in summary["results"].items():
        assert name in text
        assert f"{row['mean']:.3f}" in text
        assert f"{row['mean']:.3f}" in events[-1].message


def test_the_page_opens_with_the_picture_and_the_figures(story):
    events, folder = story
    text = (folder / "index.html").read_text(encoding="utf-8")
    first = text[: text.index("<img")]
    assert first.count("<h2>") == 1
    for name in ("before", "network", "linear program"):
        assert f"{events[-1].summary['results'][name]['mean']:.2f}" in first
    assert re.search(r"The (network alone|linear program) gains", first)
    # and the terminal says the same
    assert re.search(r"<p>(Mean Dice.*?)</p>", first)[1] in events[-1].message


def test_the_same_seed_gives_the_same_page_however_busy_the_machine_is(story, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", SLOW, str(tmp_path / "out"), *FEW]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    # its clock has told it of seconds for what takes milliseconds
    assert float(done.stdout) >= 1e6
    assert (tmp_path / "out" / "index.html").read_bytes() == (story[1] / "index.html").read_bytes()


def test_another_seed_gives_another_network(story, tmp_path):
    *_, last = demo.run(tmp_path / "out", images=FEW, lesson=replace(TINY, seed=1))
    first = story[0][-1].summary
    assert last.summary["results"]["linear program"]["mean"] == first["results"]["linear program"]["mean"]
    # other pairs, and another network
    for name in ("without", "network"):
        assert last.summary["error"][name] != first["error"][name]


@pytest.mark.slow
def test_the_demo_shows_what_it_promises(tmp_path):
    command = [sys.executable, "-m", "augreg", "demo", "-o", str(tmp_path), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "AUGREG_DATA"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    summary = json.loads(done.stdout)
    assert summary["error"]["network"] < 0.5 * summary["error"]["without"]
    before, network, program = (summary["results"][name]["mean"] for name in ("before", "network", "linear program"))
    assert program - before > 0.1
    assert network - before > 0.5 * (program - before)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.search(r"The network alone gains (\d\d% of what|as much as) the linear program", text)


@pytest.mark.slow
def test_volumes_are_shown_too(tmp_path):
    images, labels, _ = people(3)
    for number in range(6):
        write_image(images[number], tmp_path / f"{number}.nii.gz")
        write_image(labels[number], tmp_path / f"{number}_labels.nii.gz")
    names = [str(tmp_path / f"{number}.nii.gz") for number in range(6)]
    *_, last = demo.run(tmp_path / "out", images=names, lesson=demo.Lesson(side=36, recipe=replace(DEMO, pool=16, steps=3)))
    assert last.summary["measure"] == "Dice"
    assert last.summary["results"]["linear program"]["mean"] > last.summary["results"]["before"]["mean"]
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8").count("<img") == 7


def test_a_lesson_of_volumes_has_as_many_voxels_as_one_of_images():
    lesson = demo.Lesson()
    assert lesson.of(hearts().images[0].grid.with_shape((128, 120))) == lesson
    grid = people(3)[0][0].grid.with_shape((64, 64, 32))
    smaller = lesson.of(grid)
    assert (smaller.recipe.batch, smaller.pairs, smaller.recipe.steps) == (1, 64, lesson.recipe.steps)
    assert lesson.of(grid.with_shape((640, 640, 320))).pairs == 4


def test_images_without_labels_are_registered_and_measured_by_correlation(tmp_path):
    data = hearts()
    names = [tmp_path / f"{subject}.nii.gz" for subject in data.subjects[:12:2]]
    for image, name in zip(data.images[:12:2], names, strict=True):
        write_image(image, name)
    *_, last = demo.run(tmp_path / "out", images=[str(name) for name in names], lesson=TINY)
    assert last.summary["measure"] == "NCC"
    assert np.isfinite([row["mean"] for row in last.summary["results"].values()]).all()


def test_too_few_images_are_said(tmp_path):
    write_image(hearts().images[0], tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="at least 4 subjects"):
        list(demo.run(tmp_path / "out", images=[str(tmp_path / "a.nii.gz")]))


@pytest.mark.parametrize(
    ("network", "program", "words"),
    [
        (0.12, 0.1, "as much as the linear program, or more"),
        (0.0751, 0.1, "gains 75% of what"),
        (0.05, 0.1, "gains 50% of what"),
        (0.04, 0.1, "only 40% of what the linear program gains, less than half"),
        (-0.02, 0.1, "The network alone gains nothing here"),
        (0.1, -0.02, "The linear program gains nothing here; the network gains 0.10"),
        (-0.1, 0.001, "The linear program gains nothing here; the network also gains nothing"),
    ],
)
def test_words_follow_the_figures(network, program, words):
    assert words in compared(network, program)
    scores = Scores("Dice", {"before": [0.5, 0.7], "network": [0.6 + network] * 2, "linear program": [0.6 + program] * 2})
    assert words in scores.verdict
    for mean in (0.6, 0.6 + network, 0.6 + program):
        assert f"{mean:.2f}" in scores.verdict
    assert ("only" in scores.verdict or "nothing" in scores.verdict) == (network < 0.05 or program < 0.05)


def test_a_network_that_has_not_halved_the_error_is_said_not_to_have():
    assert learned(0.25, 1.0).endswith("25% of that of doing nothing.")
    assert learned(0.6, 1.0).endswith("60% of that of doing nothing, not half of it.")
    assert learned(1.2, 1.0).endswith("it has learned nothing.")
