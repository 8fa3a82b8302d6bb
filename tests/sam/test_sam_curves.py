import json
from dataclasses import asdict

import numpy as np
import pytest
from support.subjects import model, people

from augreg import fit_appearance_model
from augreg.sam import Locality, evaluate, find_landmarks, rank_curve, size_curve


def unseen():
    images, labels, _ = people(2, count=4, seed=9)
    return images, labels


def test_generalisation_falls_with_rank_to_that_of_the_whole_model():
    m = model()
    images, labels = unseen()
    points = find_landmarks(m, images, labels)
    curve = rank_curve(m, images, points, np.random.default_rng(0), samples=40)
    assert curve.ranks[:3] == (1, 2, 4)
    assert curve.ranks[-1] == max(m.shape.rank, m.appearance.rank)
    for errors in (curve.shape_generalisation, curve.appearance_generalisation):
        assert len(errors) == len(curve.ranks)
        assert errors[-1].mean < 0.9 * errors[0].mean
    whole = evaluate(m, images, points, np.random.default_rng(0), samples=40)
    assert curve.shape_generalisation[-1].mean == pytest.approx(whole.shape_generalisation.mean)
    assert curve.appearance_generalisation[-1].error == pytest.approx(whole.appearance_generalisation.error)
    # few modes stay near the mean
    assert curve.appearance_specificity[0].mean < curve.appearance_specificity[-1].mean
    assert json.loads(json.dumps(asdict(curve)))["shape_specificity"][0]["mean"] == curve.shape_specificity[0].mean
    one = rank_curve(m, images, points, np.random.default_rng(0), ranks=[3], samples=40)
    assert one.shape_generalisation[0].mean == evaluate(m.truncate(3, 3), images, points, np.random.default_rng(0)
                                                        ).shape_generalisation.mean  # fmt: skip
    with pytest.raises(ValueError, match="ranks"):
        rank_curve(m, images, points, np.random.default_rng(0), ranks=[0])


def test_more_training_images_generalise_better():
    images, labels, _ = people(2)
    others, other_labels = unseen()
    used = []

    def fit(chosen):
        used.append(chosen)
        return fit_appearance_model(
            [images[i] for i in chosen],
            labels=[labels[i] for i in chosen],
            points=40,
            rank=30,
            locality=Locality(levels=3, scale=1.0),
        )

    curve = size_curve(
        fit, 8, others, lambda m: find_landmarks(m, others, other_labels), np.random.default_rng(1), [3, 8], repeats=2
    )
    assert [len(set(chosen)) for chosen in used] == [3, 3, 8, 8]
    assert curve.appearance_generalisation[1].mean < curve.appearance_generalisation[0].mean
    assert curve.shape_generalisation[1].mean < curve.shape_generalisation[0].mean
    with pytest.raises(ValueError, match="from 3 to 8"):
        size_curve(fit, 8, others, lambda m: [], np.random.default_rng(1), [9])
