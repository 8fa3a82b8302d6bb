"""The experiments with labels: who may see whom, and what their tables count."""

import numpy as np
import pytest
import torch
from support import realdata

from augreg import Affine
from augreg.registration import Centred
from augreg.training import FlowRegistration, real_pairs
from benchmarks.experiments import glands, hearts_lessons, hearts_table, prostate_lessons, prostate_table, sections
from benchmarks.experiments.lessons import learned, one_by_one

ABOUT = {"machine": {"processor": "p", "cores": 2, "system": "s", "python": "3"}, "date": "2026-11-27"}


def test_no_patient_is_learned_from_and_tested():
    whole = glands.read_glands(realdata.path("prostate"))
    for study in (whole, whole.choosing()):
        assert not {scan.patient for scan in study.training} & {scan.patient for scan in study.test}
    assert len(whole.training) + len(whole.test) == 69
    assert {scan.name for scan in (*whole.choosing().training, *whole.choosing().test)} == {scan.name for scan in whole.training}
    # patients with several scans are whole
    assert len({scan.patient for scan in whole.test}) == 16


def test_hearts_of_each_diagnosis_are_tested_and_pairs_are_of_test_people():
    realdata.path("hearts3d")
    for choosing in (False, True):
        found = sections.read_sections("hearts3d", choosing=choosing)
        names = {one.person for one in found.test}
        assert not {one.person for one in found.training} & names
        assert all({pair.fixed.person, pair.moving.person} <= names and pair.fixed is not pair.moving for pair in found.pairs)
        assert len({(pair.fixed.name, pair.moving.name) for pair in found.pairs}) == len(found.pairs) >= 2 * len(found.test)
        if not choosing:
            assert np.bincount([(int(name) - 1) // 20 for name in names]).tolist() == [4] * 5


def test_the_oracle_puts_centroids_together_and_measures_say_so():
    scan = glands.read_glands(realdata.path("prostate")).training[0]
    oracle = Centred()(scan.fixed, scan.moving, fixed_labels=scan.fixed_gland, moving_labels=scan.moving_gland)
    known, apart = glands.measured(scan, oracle), glands.measured(scan, Centred()(scan.fixed, scan.moving))
    assert known["centroid"] < 1e-6 < apart["centroid"]
    assert known["dice"] > apart["dice"]
    away = Affine(np.eye(3), oracle.translation + np.array([1000.0, 0, 0]))
    assert glands.measured(scan, away)["dice"] == 0.0


def test_lessons_with_prostates_can_be_taken_one_after_the_other(tmp_path, monkeypatch):
    folder = realdata.path("prostate")
    scans = glands.read_glands(folder).training[:3]
    for name, value in (("STEPS", 2), ("LATER_STEPS", 1), ("_FIELDS", 4)):
        monkeypatch.setattr(prostate_lessons, name, value)
    pairs = real_pairs(glands.lines(scans, folder), [4.0], before=Centred())

    def taught(method, seed=0):
        lesson = prostate_lessons.lesson(method, seed, pairs, tmp_path)
        return learned(lesson, pairs.spacing, tmp_path / f"{method}-s{seed}")

    flow, seconds = taught("marked")
    again, same = taught("marked")
    assert same == pytest.approx(seconds, abs=0.2)
    assert again.network.description == flow.network.description
    taught("marked", 1)
    both = FlowRegistration.from_file(prostate_lessons.together(2, pairs.spacing, tmp_path))
    assert np.isfinite(glands.measured(scans[0], both(scans[0].fixed, scans[0].moving))["tre"])
    first, _ = taught("affine")
    for method in ("cascade", "frozen"):
        whole, _ = taught(method)
        assert np.isfinite(glands.measured(scans[0], whole(scans[0].fixed, scans[0].moving))["tre"])
    kept, before = whole.network.networks[0].state_dict(), first.network.state_dict()
    assert all(torch.equal(before[name], kept[name]) for name in before)
    for method in ("bending", "critic"):
        found, _ = taught(method)
        # the marks stay as they are
        before, after = flow.network.markers.state_dict(), found.network.markers.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert np.isfinite(glands.measured(scans[0], found(scans[0].fixed, scans[0].moving))["tre"])


def test_shapes_of_glands_and_elastic_fields_lie_on_the_lattice_of_the_pairs(monkeypatch):
    folder = realdata.path("prostate")
    monkeypatch.setattr(prostate_lessons, "_FIELDS", 2)
    pairs = real_pairs(glands.lines(glands.read_glands(folder).training[:4], folder), [4.0], before=Centred())
    assert prostate_lessons.shapes(pairs).template.shape == pairs.shape
    flows = prostate_lessons.elastic(pairs)
    assert flows.shape == (2, 3, *pairs.shape)
    assert 0.2 < flows.abs().max() < 4


def test_tables_are_means_over_pairs_and_comparisons_are_by_patient():
    rows = [
        {
            "method": m,
            "seed": s,
            "scan": f"{p}{k}",
            "patient": p,
            "dice": d,
            "tre": t + k,
            "centroid": 1.0,
            "folding": 0.0,
            "cpu_ms": 2.0,
        }
        for m, s, d, t in (
            ("none", 0, 0.5, 9.0),
            ("marked", 0, 0.7, 7.0),
            ("marked", 1, 0.9, 5.0),
            ("bending", 0, 0.9, 6.0),
            ("bending", 2, 0.9, 4.0),
        )
        for p in "ab"
        for k in range(2)
    ]
    text = prostate_table.rendered({**ABOUT, "rows": rows, "trainings": [{"method": "marked", "seed": 0, "cpu_seconds": 120}]})
    assert "| marks of each image, moments | 2 | 0.800 ± 0.141 | 6.5 ± 1.4 | 1.0 ± 0.0 | 0.000 ± 0.000 | 2 | 2.0 |" in text
    assert "| centres of the images | -4.00 | -4.00 to -4.00 | 0.500 | 2 of 2 |" in text
    # networks by the seeds that both have
    assert "| marks of each image, moments | -1.00 | -1.00 to -1.00 | 0.500 | 2 of 2 |" in text
    assert "4 pairs of 2 patients" in text


def test_rows_of_a_run_that_was_cut_off_are_kept_and_the_next_pair_goes_on(tmp_path):
    seen = []

    def row(pair):
        seen.append(pair)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return {"pair": pair}

    with pytest.raises(KeyboardInterrupt):
        one_by_one(tmp_path / "run", "abcd", row)
    assert one_by_one(tmp_path / "run", "abcd", row) == [{"pair": one} for one in "abcd"]
    assert seen == list("abccd")


def test_tables_of_hearts_say_for_how_many_people_a_method_is_better():
    rows = [
        {
            "study": "hearts3d",
            "method": m,
            "seed": 0,
            "fixed": f,
            "moving": g,
            "dice": d,
            "jaccard": d,
            "folding": 0.01,
            "cpu_ms": 3.0,
        }
        for m, d in (("none", 0.5), ("marked", 0.75))
        for f, g in ("ab", "ba", "ca")
    ]
    text = hearts_table.rendered({**ABOUT, "rows": rows, "trainings": []})
    assert "| no registration |  | 0.500 | 0.500 | 1.000 |  | 3 |  |" in text
    assert "| no registration | +0.250 | +0.250 to +0.250 | 0.250 | 3 of 3 |" in text
    assert "3 pairs of 3 people" in text


@pytest.mark.parametrize("method", hearts_lessons.SEEDS)
def test_lessons_with_hearts_can_be_taken(method, tmp_path, monkeypatch):
    study = sections.read_sections("cardiac2d", choosing=True)
    monkeypatch.setattr(hearts_lessons, "STEPS", {"cardiac2d": 1})
    monkeypatch.setattr(hearts_lessons, "_MATCHED", 2)
    monkeypatch.setattr(hearts_lessons, "LATER_STEPS", {"cardiac2d": 1})
    for seed in range(3 * (method == "together")):
        learned(hearts_lessons.lesson("marks", seed, study, tmp_path), (2.0, 2.0), tmp_path / f"cardiac2d-marks-s{seed}")
    flow, _ = learned(hearts_lessons.lesson(method, 0, study, tmp_path), (2.0, 2.0), tmp_path / method)
    pair = study.pairs[0]
    phi, psi = flow(pair.fixed.image, pair.moving.image), flow(pair.moving.image, pair.fixed.image)
    points = pair.fixed.image.grid.points()[::9, ::9]
    # both directions are inverses of each other
    np.testing.assert_allclose(psi(phi(points)), points, atol=0.02)


@pytest.mark.parametrize("method", ["unsupervised", "marked"])
def test_lessons_with_volumes_of_hearts_can_be_taken(method, tmp_path, monkeypatch):
    study = sections.read_sections("volumes", choosing=True)
    assert {one.image.grid.shape for one in study.test} == {(128, 128, 12)}
    assert {one.labels.grid for one in study.training} == {one.image.grid for one in study.test}
    monkeypatch.setattr(hearts_lessons, "STEPS", {"volumes": 1})
    flow, _ = learned(hearts_lessons.lesson(method, 0, study, tmp_path), hearts_lessons.SPACING["volumes"], tmp_path / method)
    pair = study.pairs[0]
    phi, psi = flow(pair.fixed.image, pair.moving.image), flow(pair.moving.image, pair.fixed.image)
    points = pair.fixed.image.grid.points()[::9, ::9]
    np.testing.assert_allclose(psi(phi(points)), points, atol=0.05)
