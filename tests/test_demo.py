import itertools
import re
import time

import numpy as np
import pytest
from realdata import path

from augreg import demo, write_image
from augreg.datasets import hearts
from augreg.sam import fit_appearance_model
from augreg.training import pairs_from_model

LANDMARKS = np.array([[60.0, 60.0], [60.0, 150.0], [130.0, 60.0], [130.0, 150.0], [95.0, 105.0]])


def test_phases_are_paired_within_subjects_and_others_between_them():
    known, pairs, phases = demo._split(["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "f", "f"])
    assert phases
    assert known == [0, 1, 2, 3, 4, 5, 6, 7]
    assert pairs == [(8, 9), (10, 11)]
    known, pairs, phases = demo._split([f"{i:02d}" for i in range(12)])
    assert not phases
    assert known == list(range(8))
    assert pairs == [(8, 9), (9, 10), (10, 11)]
    # enough is enough
    assert len(demo._split([f"{i:03d}" for i in range(100)])[0]) == 32


def test_the_whole_story_on_a_few_hearts(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_SIDE", 48)
    images = sorted(str(p) for phase in ("ed", "es") for p in path("cardiac2d").glob(f"SC-HF-I-0[1-8]_{phase}.png"))
    events = list(demo.run(tmp_path / "out", images=images, seconds=3.0))
    assert all(b.done >= a.done for a, b in itertools.pairwise(events))
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["index.html"]
    assert not re.search(r'(src|href)="(?!data:)', text)
    summary = events[-1].summary
    assert summary["measure"] == "Dice"
    assert set(summary["results"]) == {"before", "linear program", "network", "network, then linear program"}
    assert summary["results"]["linear program"]["mean"] > summary["results"]["before"]["mean"]
    for name, row in summary["results"].items():
        assert name in text
        assert f"{row['mean']:.3f}" in text
        assert f"{row['mean']:.3f}" in events[-1].message


def test_images_without_labels_are_registered_and_measured_by_correlation(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_SIDE", 48)
    data = hearts()
    names = [tmp_path / f"{subject}.nii.gz" for subject in data.subjects[:12:2]]
    for image, name in zip(data.images[:12:2], names, strict=True):
        write_image(image, name)
    *_, last = demo.run(tmp_path / "out", images=[str(name) for name in names], seconds=1.0)
    assert last.summary["measure"] == "NCC"
    assert np.isfinite([row["mean"] for row in last.summary["results"].values()]).all()


def test_a_busy_machine_does_not_make_the_demo_long(monkeypatch):
    images = hearts()
    rng = np.random.default_rng(0)
    marks = [LANDMARKS + rng.normal(0, 2, LANDMARKS.shape) for _ in range(4)]
    model = fit_appearance_model([demo._working(image) for image in images.images[:4]], landmarks=marks)
    draw = pairs_from_model(model, 2)
    monkeypatch.setattr(demo, "_affordable", lambda *_: 100_000)
    begin = time.perf_counter()
    *_, last = demo._trained(draw, draw(0), model.template.spacing, 1.0)
    # up to 0.35 is drawing, to 0.8 training; each step beyond the time is the last
    assert last.done < 0.4
    assert time.perf_counter() - begin < 10


def test_too_few_images_are_said(tmp_path):
    image = hearts().images[0]
    write_image(image, tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="at least 4 subjects"):
        list(demo.run(tmp_path / "out", images=[str(tmp_path / "a.nii.gz")]))
