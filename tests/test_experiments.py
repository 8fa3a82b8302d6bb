"""The experiment's runner and statistics: who may see whom, and what is counted."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import realdata, subjects

from augreg.geometry.transforms import Affine
from augreg.recipes import HEART, Turn
from benchmarks.experiments import people, run
from benchmarks.experiments.measures import measured
from benchmarks.experiments.people import Study, Subject
from benchmarks.experiments.settings import SETTINGS
from benchmarks.experiments.sources import LEARNED, source
from benchmarks.experiments.statistics import by_person, compared


def study(count: int = 5) -> Study:
    """People of two phases each; the second phase has another person's image, which no law below looks at."""
    images, labels, _ = subjects.people(2, 2 * count)
    both = zip(images, labels, strict=True)
    known = [Subject(f"p{i // 2}", ("ed", "es")[i % 2], image, label) for i, (image, label) in enumerate(both)]
    return Study("toy", tuple(known[:-4]), tuple(known[-4:]))


def test_no_person_is_learned_from_and_tested_and_settings_are_chosen_among_training_people():
    for name, folder in (("brain", "brain2d"), ("heart", "cardiac2d")):
        realdata.path(folder)
        whole = people.read_study(name)
        tested = {one.person for one in whole.test}
        assert not tested & set(whole.people)
        choosing = whole.choosing()
        assert not {one.person for one in choosing.test} & set(choosing.people)
        assert {one.person for one in (*choosing.training, *choosing.test)} == set(whole.people)
        assert set(whole.fewer(5).people) < set(whole.people)


def test_pairs_are_all_phases_of_a_person_and_all_first_phases_in_both_orders():
    pairs = study().pairs
    assert sum(pair.group == "phases" for pair in pairs) == 4
    assert sum(pair.group == "people" for pair in pairs) == 2
    for pair in pairs:
        assert (pair.fixed.person == pair.moving.person) == (pair.group == "phases")
        assert any((other.fixed, other.moving) == (pair.moving, pair.fixed) for other in pairs)


@pytest.mark.parametrize("method", LEARNED)
def test_every_source_gives_whole_batches_that_a_seed_determines(method, tmp_path):
    recipe = replace(HEART, batch=4, turns=(Turn("shared", 0.1), Turn("independent", 1.0)))
    settings = replace(SETTINGS["heart"], recipe=recipe, groups=("phases", "people"))
    known = study()
    first, again, other = (source(method, known, settings, seed, tmp_path).batches for seed in (0, 0, 1))
    for step in range(3):
        batch = first(step)
        assert batch.fixed.shape == (4, 1, *subjects.grid(2).shape)
        assert torch.equal(batch.fixed, again(step).fixed)
        assert not torch.equal(batch.fixed, other(step).fixed)
        # the second half is the first with its images exchanged
        assert torch.equal(batch.fixed[2:], batch.moving[:2])
        assert (
            torch.isnan(batch.flow).all()
            if method == "unsupervised"
            else torch.isfinite(batch.flow[batch.mask.expand(-1, 2, -1, -1)]).all()
        )


def test_runs_have_names_of_their_own_and_every_method_runs_once_before_seeds_are_repeated():
    listed = run.runs(study(8))
    keys = [one.key for one in listed]
    assert len(set(keys)) == len(keys)
    repeated = next(i for i, one in enumerate(listed) if one.seed > 0)
    assert set(LEARNED) <= {one.method for one in listed[:repeated]}
    full = run.runs(study(8), full=True)
    assert {one.method for one in full} == set(LEARNED)
    assert not {one.key for one in full} & set(keys)


def test_a_person_has_one_number_the_mean_over_the_pairs_it_is_fixed_in():
    rows = [{"fixed": f"{fixed} ed", "value": value} for fixed, value in (("a", 1.0), ("b", 5.0), ("a", 2.0))]
    assert by_person(rows, "value") == {"a": 1.5, "b": 5.0}


def test_comparison_agrees_with_counting_all_signs():
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(8)]
    for shift in (0.0, 0.3, 2.0):
        first = dict(zip(names, rng.normal(shift, 1, 8), strict=True))
        second = dict(zip(names, rng.normal(0, 1, 8), strict=True))
        found = compared(first, second)
        d = np.array([first[name] - second[name] for name in names])
        ranks = np.argsort(np.argsort(np.abs(d))) + 1
        sums = np.array([sum(s * r for s, r in zip(signs, ranks, strict=True)) for signs in itertools.product((-1, 1), repeat=8)])
        seen = (np.sign(d) * ranks).sum()
        assert found.p == pytest.approx(np.mean(np.abs(sums) >= abs(seen)))
        assert found.effect == pytest.approx(seen / ranks.sum())
        assert found.interval[0] <= found.difference <= found.interval[1]
        assert found.higher == (d > 0).sum()
    assert compared(first, first).p == 1.0
    with pytest.raises(ValueError, match="people"):
        compared(first, {"a": 1.0})


def test_measures_of_equal_and_of_shifted_labels():
    images, labels, _ = subjects.people(2, 2)
    one = Subject("a", "ed", images[0], labels[0])
    pair = people.Pair("people", one, one)
    same = measured(pair, Affine.identity(2), contours=True)
    assert same == pytest.approx({"jaccard": 1.0, "dice": 1.0, "folding": 0.0, "distance": 0.0})
    away = measured(pair, Affine(np.eye(2), np.array([3.0, 0.0])), contours=True)
    assert 0 < away["jaccard"] < away["dice"] < 1
    assert 0 < away["distance"] < 3
