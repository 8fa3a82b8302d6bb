"""Trials of the experiments with known fields and contrasts: what is kept, and what is counted."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import scipy.ndimage
import torch
from support import subjects

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Affine
from augreg.networks import Cascade, Displacement, FlowNetS, Network
from augreg.training import pairs_from_images
from augreg.training.contrasts import random_knots, remapped
from benchmarks.experiments import chest, contrast, contrasts, regnet, steering
from benchmarks.experiments.people import Study, Subject
from benchmarks.experiments.trials import HALF, Lesson, at_half, on_people, once, taught


def study(count: int = 4) -> Study:
    images, labels, _ = subjects.people(2, 2 * count)
    known = [Subject(f"p{i}", "z", image, label) for i, (image, label) in enumerate(zip(images, labels, strict=True))]
    return Study("toy", tuple(known[:count]), tuple(known[count:]))


class Says(Network):
    """A network that says u(x) = A x + t, whatever it sees."""

    def __init__(self, A, t):
        super().__init__()
        self.ndim, self.channels = 2, 1
        self.A, self.t = torch.nn.Parameter(torch.tensor(A)), torch.tensor(t)

    @property
    def description(self):
        return {}

    def forward(self, fixed, moving):
        x = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in fixed.shape[2:]), indexing="ij"), -1)
        return [Displacement.of((x @ self.A.T + self.t).movedim(-1, 0).expand(len(fixed), -1, -1, -1))]


def test_the_published_form_adds_displacements_and_misses_what_composition_has():
    first, second = Says([[0.1, 0.0], [0.0, 0.0]], [0.0, 0.0]), Says([[0.0, 0.0], [0.0, 0.0]], [3.0, 1.0])
    images = torch.zeros(1, 1, 12, 9)
    added, composed = (kind([first, second])(images, images)[0].flow() for kind in (regnet.Added, Cascade))
    x = torch.arange(12.0)[:, None].expand(12, 9)
    torch.testing.assert_close(added[0, 0], 0.1 * x + 3)
    # beyond the border a displacement goes on as it is there
    torch.testing.assert_close(composed[0, 0], 0.1 * (x + 3).clamp(max=11) + 3)
    torch.testing.assert_close(added[0, 1], torch.ones(12, 9))


def test_errors_of_known_fields_are_counted_in_the_class_of_the_true_displacement():
    known = study()
    pairs = regnet.held_out(known)[:6]
    truth = {id(pair.fixed): pair.displacement for pair in pairs}
    exact = regnet.on_known(lambda fixed, moving: truth[id(fixed)], pairs)
    assert exact["epe"] == pytest.approx([0, 0, 0, 0], abs=1e-6)
    still = regnet.on_known(lambda fixed, moving: Affine.identity(2), pairs)
    for found, low, high in zip(still["epe"], regnet.CLASSES, (*regnet.CLASSES[1:], regnet.LARGEST + 0.1), strict=True):
        assert low <= found < high
    assert sum(still["pixels"]) == sum(int(((p.mask.values != 0) & (p.fixed.values > 0)).sum()) for p in pairs)


def test_a_training_is_made_once_and_a_result_too(tmp_path):
    known = at_half(study())
    batches = pairs_from_images([one.image for one in known.training], 2)
    lesson = Lesson(lambda: FlowNetS(2, 1, 0.05), batches, lambda maps, batch: maps[0].flow().square().mean(), steps=2)
    flow, said = taught(lesson, 3, tmp_path / "a", HALF)
    again, same = taught(replace(lesson, steps=9), 3, tmp_path / "a", HALF)
    assert said == same
    assert said["steps"] == 2
    images = torch.rand(2, 1, 1, 32, 40)
    torch.testing.assert_close(flow.network.predict(*images).flow(), again.network.predict(*images).flow())
    made = []
    for _ in range(2):
        assert once(tmp_path / "b" / "c.json", lambda: made.append(1) or [1, 2]) == [1, 2]
    assert len(made) == 1


def test_people_have_a_number_each_and_half_the_resolution_covers_the_same_place():
    known = study()
    found = on_people(lambda fixed, moving: Affine.identity(2), known)
    assert len(found["jaccard"]) == len(known.test)
    assert found["folding"] == 0
    coarse, fine = at_half(known), known
    assert coarse.test == fine.test
    for a, b in zip(coarse.training, fine.training, strict=True):
        assert a.image.grid.spacing == pytest.approx(HALF, rel=0.05)
        np.testing.assert_allclose(a.image.grid.sides, b.image.grid.sides, atol=2)
        assert set(np.unique(a.labels.values)) <= set(np.unique(b.labels.values))


def test_a_person_has_one_contrast_that_no_monotone_map_undoes():
    known = study()
    seen, again = (contrasts.own_contrasts(known) for _ in range(2))
    for before, after, same in zip(known.training, seen.training, again.training, strict=True):
        np.testing.assert_array_equal(after.image.values, same.image.values)
        assert np.all(after.image.values[before.image.values == 0] == 0)
        # equal intensities stay equal
        order = np.argsort(before.image.values.ravel())
        v, w = before.image.values.ravel()[order], after.image.values.ravel()[order]
        assert np.all(np.diff(w)[np.diff(v) == 0] == 0)
    ramp = np.linspace(0, 1, 1001, dtype=np.float32)
    for seed in range(20):
        r = remapped(ramp, random_knots(np.random.default_rng(seed)))
        assert r[0] == 0
        assert np.diff(r[200:]).max() > 0 > np.diff(r[200:]).min()
        # of images whose air is not 0
        np.testing.assert_allclose(remapped(100 * ramp - 50, random_knots(np.random.default_rng(seed))), r, atol=1e-5)
    ramps = [one.image for one in seen.training]
    assert any(not np.allclose(a.values, b.values) for a, b in permutations(ramps, 2))


@pytest.mark.parametrize("name", ["squares", "mind", "information", "labels", "likeness+labels"])
def test_lessons_of_real_pairs_need_no_truth(name):
    known = at_half(study())
    lesson = contrast.lesson_of(name, "any", 0, known, lambda: pytest.fail("no model is needed"), 1.0)
    batch = lesson.batches(0)
    assert torch.isnan(batch.flow).all()
    still, moved = (Displacement.of(torch.full((len(batch), 2, *batch.fixed.shape[2:]), value)) for value in (0.0, 4.0))
    alike = replace(batch.labelled(batch.fixed_labels, batch.fixed_labels), moving=batch.fixed)
    assert lesson.objective([still], alike).item() < lesson.objective([moved], alike).item()


def test_a_chest_of_simpleitk_is_the_image_under_the_map_that_is_told():
    shape, spacing = (28, 30, 26), (6.0, 5.0, 7.0)
    values = 400 * scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 3) / 0.05
    image = Image(values.astype(np.float32), Grid(shape, spacing, (-50.0, 10.0, 3.0)))
    fixed, moving, phi = chest.spline(image, image, np.random.default_rng(1), np.random.default_rng(2))
    body = image.values > -900
    points = image.grid.points()
    assert np.linalg.norm(phi(points[body]) - points[body], axis=-1).mean() == pytest.approx(chest.MEAN, rel=1e-6)
    seen = warp(image, phi, image.grid, fill=np.nan).values
    inside = image.grid.contains(phi(points), margin=0.0)
    missed = (fixed.values - seen)[inside]
    # what is left is the noise, and no more of the map
    assert np.std(missed) == pytest.approx(chest.NOISE, rel=0.1)
    assert np.std((moving.values - seen)[inside]) > 5 * chest.NOISE
    assert np.std(moving.values - image.values) == pytest.approx(chest.NOISE, rel=0.05)


def test_networks_that_are_compared_have_as_many_parameters():
    def count(network):
        return sum(part.numel() for part in network.parameters())

    assert count(regnet.network("three")) == pytest.approx(count(regnet.network("one")), rel=0.02)
    assert count(steering.network("steered")) == pytest.approx(count(steering.network("plain")), rel=0.02)
    shape = (32, 44, 65)
    assert count(chest.network("three", shape)) == pytest.approx(count(chest.network("one", shape)), rel=0.03)
