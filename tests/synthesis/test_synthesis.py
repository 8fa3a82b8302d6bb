"""Pairs are exact: displacements, masks, labels and images against the model and its transforms."""

from dataclasses import fields

import numpy as np
import pytest
import scipy.interpolate
import torch
from support.draws import drawn
from support.subjects import model

from augreg import DisplacementField, Grid, warp
from augreg.geometry.splines import control_grid, least_determinant
from augreg.geometry.transforms import BSpline
from augreg.synthesis import AppearancePairs, SmoothField, make_pairs, training_pairs
from augreg.synthesis.render.arithmetic import ACCEPTED
from augreg.synthesis.render.renderer import renderer_on

KINDS = ["labels", "landmarks", "landmarks3d", "displacement", "velocity", "velocity3d"]


def rng(seed=0):
    return np.random.default_rng(seed)


def difference(pair, displacement=None):
    """Mean |moving(x + u(x)) - fixed(x)| where the target lies inside the moving image, before and after, over contrast."""
    u = pair.displacement.values if displacement is None else displacement
    grid = pair.fixed.grid
    inside = grid.contains(grid.points() + pair.displacement.values, margin=0.0)
    moved = warp(pair.moving, DisplacementField(u, grid), grid, interpolation="cubic")
    contrast = pair.fixed.values.std()
    before = np.abs(pair.moving.values - pair.fixed.values)[inside].mean()
    return np.abs(moved.values - pair.fixed.values)[inside].mean() / contrast, before / contrast


@pytest.mark.parametrize("kind", KINDS)
def test_warping_moving_with_the_displacement_gives_fixed(kind):
    m = model(kind)
    batch = make_pairs(AppearancePairs(m, amplitude=1.3), 0, range(6))
    for pair in training_pairs(batch, m.template):
        after, before = difference(pair)
        # pixels are 20 % of the smallest structure in 3-D: interpolation itself errs more there
        assert after < (0.012 if m.ndim == 2 else 0.045)
        assert after < (0.1 if m.ndim == 2 else 0.25) * before


@pytest.mark.parametrize("kind", ["labels", "landmarks"])
def test_the_wrong_shortcuts_fail_the_same_check(kind):
    m = model(kind)
    generator, draw = drawn(6, kind=kind, amplitude=1.5, pose=0.0)
    batch = generator.render(draw)
    shortcut, direct, exact = [], [], []
    points = m.template.points()
    for b, pair in zip(draw.shape, training_pairs(batch, m.template), strict=True):
        first, second = (m.transform(b_k) for b_k in b)
        exact.append(difference(pair)[0])
        # minus the displacement as inverse: B_1(y) = y - v_1(y)
        guess = 2 * points - first(points)
        shortcut.append(difference(pair, second(guess) - points)[0])
        # one spline straight from the first landmarks to the second
        s1, s2 = (psi(m.landmarks) for psi in (first, second))
        spread = scipy.interpolate.RBFInterpolator(s1, s2 - s1, kernel="thin_plate_spline", smoothing=1e-6)
        direct.append(difference(pair, spread(points.reshape(-1, 2)).reshape(points.shape))[0])
    assert np.mean(shortcut) > 3 * np.mean(exact)
    assert np.mean(direct) > 3 * np.mean(exact)


@pytest.mark.parametrize("kind", KINDS)
def test_displacements_agree_with_the_transforms_of_numpy(kind):
    m = model(kind)
    generator, draw = drawn(2, seed=3, kind=kind)
    batch = generator.render(draw)
    points = m.template.points()
    for i, pair in enumerate(training_pairs(batch, m.template)):
        first, second = (m.transform(draw.shape[i, k], draw.pose[i, k]) for k in (0, 1))
        expected = second(first.solve(points, tolerance=1e-9)) - points
        # the maps are splines through these at nodes; `test_maps` has what they are exactly
        assert np.abs(pair.displacement.values - expected).mean() < 0.02


@pytest.mark.parametrize("kind", ["labels", "landmarks3d"])
def test_a_rest_is_added_to_the_shapes(kind):
    m = model(kind)
    generator, draw = drawn(2, seed=6, kind=kind, pose=0.0, rest=(SmoothField(12.0, (1.5,)),))
    control = control_grid(m.template)
    assert np.abs(draw.rest[:, 0] - draw.rest[:, 1]).max() > 0.5  # of each image its own
    for i, pair in enumerate(training_pairs(generator.render(draw), m.template)):
        coefficients = [
            (draw.shape[i, k] @ m.mode_splines.reshape(m.shape.rank, -1)).reshape(draw.rest.shape[2:]) for k in (0, 1)
        ]
        first, second = (BSpline(c + rest, control) for c, rest in zip(coefficients, draw.rest[i], strict=True))
        expected = second(first.solve(m.template.points(), tolerance=1e-9)) - m.template.points()
        assert np.abs(pair.displacement.values - expected).mean() < 0.03
        after, before = difference(pair)
        assert after < (0.1 if m.ndim == 2 else 0.25) * before


def test_images_agree_with_the_model():
    m = model()
    generator, draw = drawn(1, seed=4, mosaic=0.0, modes=1.0, appearance="independent")
    batch = generator.render(draw)
    for k, image in enumerate((batch.fixed, batch.moving)):
        expected = m.instance(draw.shape[0, k], draw.modes[0, k], draw.pose[0, k])
        assert np.abs(image[0, 0].numpy() / draw.gain[0, k] - expected.values).mean() < 0.1
    generator, mosaic = drawn(1, seed=4)
    shown = generator.render(mosaic).fixed[0, 0].numpy() / mosaic.gain[0, 0]
    psi = m.transform(mosaic.shape[0, 0], mosaic.pose[0, 0])
    assert np.abs(shown - m._render(m.mosaic(mosaic.mosaic[0, 0]), psi).values).mean() < 0.1


def paired(draw, images):
    """A draw of pairs of images ((pair, image), (pair, image)) of another."""
    parts = {f.name: np.stack([[getattr(draw, f.name)[one] for one in two] for two in images]) for f in fields(draw)}
    return type(draw)(**parts)


def test_an_image_corresponds_to_itself():
    generator, draw = drawn(2)
    same = paired(draw, [((0, 0), (0, 0)), ((1, 1), (1, 1))])
    assert generator.render(same).flow.abs().max() < 1e-4


def test_displacements_are_transitive_and_inverse_consistent():
    m = model()
    generator, draw = drawn(2, seed=1)
    a, b, c = (0, 0), (0, 1), (1, 0)
    three = paired(draw, [(a, b), (b, c), (a, c)])
    pairs = list(training_pairs(generator.render(three), m.template))
    ab, bc, ac = (pair.displacement for pair in pairs)
    points = m.template.points()[8:-8, 8:-8]
    assert np.abs(ab.values).max() > 1
    # u_ac = u_bc o (id + u_ab) + u_ab
    round_trip = np.abs(bc(ab(points)) - ac(points))
    assert round_trip.max() < 0.3  # linear interpolation of u_bc between its nodes, and splines off theirs
    assert round_trip.mean() < 0.01
    back = np.abs(pairs[0].reverse(ab(points)) - points)
    assert back.max() < 0.15
    assert back.mean() < 0.005


def test_masks_tell_where_targets_lie_inside():
    m = model()
    batch = make_pairs(AppearancePairs(m, pose=4.0), 2, range(3))
    for pair in training_pairs(batch, m.template):
        for field, mask in ((pair.displacement, pair.mask), (pair.reverse, pair.reverse_mask)):
            target = m.template.points() + field.values
            assert np.array_equal(mask.values > 0, m.template.contains(target, margin=1e-6))
    assert 0.5 < batch.mask.float().mean() < 1
    assert batch.residual.max() <= ACCEPTED
    assert batch.least_det.min() >= 0.1


@pytest.mark.parametrize("kind", ["labels"])
def test_label_maps_are_those_of_the_model_in_both_images(kind):
    m = model(kind)
    generator, draw = drawn(2, seed=5)
    for i, pair in enumerate(training_pairs(generator.render(draw), m.template)):
        for k, labels in enumerate((pair.fixed_labels, pair.moving_labels)):
            expected = m.label_map(draw.shape[i, k], draw.pose[i, k], draw.mosaic[i, k])
            assert (labels.values != expected.values).mean() < 5e-3  # points between two voxels may fall either way
        moved = warp(pair.moving_labels, pair.displacement, m.template)
        inside = pair.mask.values > 0
        assert (moved.values != pair.fixed_labels.values)[inside].mean() < 0.03
    assert make_pairs(AppearancePairs(model("landmarks")), 0, [0]).fixed_labels is None


@pytest.mark.parametrize("kind", ["labels", "landmarks3d"])
def test_folding_maps_are_shrunk_as_little_as_needed(kind):
    m = model(kind)
    _, draw = drawn(4, kind=kind, amplitude=12.0)
    c = np.tensordot(draw.shape.reshape(8, -1), m.mode_splines, axes=1) @ m.template.world_to_index.T
    shrunk, scale, least = renderer_on(m.template, torch.device("cpu")).folding.unfolded(torch.tensor(c))
    assert (scale < 1).any()
    index = Grid(m.control.shape, np.asarray(m.control.spacing) / m.template.spacing)
    for i, s in enumerate(scale.numpy()):
        assert np.allclose(shrunk[i], s * c[i])
        assert least_determinant(shrunk[i : i + 1].numpy(), index)[0] == pytest.approx(float(least[i]), abs=1e-9)
        assert least[i] >= 0.1
        if s < 1:
            assert least_determinant(c[i : i + 1] * s / 0.9, index)[0] < 0.1


def test_folding_draws_are_counted_and_hopeless_ones_replaced():
    m = model()
    tame = make_pairs(AppearancePairs(m, amplitude=0.5), 0, range(8))
    assert tame.shrunk == 0
    assert not tame.rejected.any()
    wild = make_pairs(AppearancePairs(m, amplitude=9.0), 0, range(8))
    assert wild.shrunk > 0
    assert wild.rejected.any()
    assert wild.scale.min() >= 0.3
    assert wild.least_det.min() >= 0.1
    assert wild.residual.max() < 0.01
    # the replacement, too, is a function of seed and index
    index = int(torch.nonzero(wild.rejected)[0, 0])
    assert torch.allclose(make_pairs(AppearancePairs(m, amplitude=9.0), 0, [index]).flow, wild[index : index + 1].flow, atol=1e-3)
    with pytest.raises(ValueError, match="lower its amplitude"):
        make_pairs(AppearancePairs(m, amplitude=1e4), 0, range(2))
    with pytest.raises(ValueError, match="indices"):
        make_pairs(AppearancePairs(m), 0, [])
