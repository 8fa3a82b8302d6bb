"""Stated values of the learning half that nothing else would miss: rates and decay, limits of draws, sharpness, trust, times."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import torch
from support.flows import Oracle, pairs
from support.subjects import model

from augreg import Affine, Chained, Grid, Image
from augreg.geometry.splines import control_grid
from augreg.geometry.transforms import BSpline
from augreg.networks.files import read_tensors
from augreg.registration import Method, State
from augreg.sam.alignment import procrustes
from augreg.sam.training_splines import training_splines
from augreg.synthesis import AppearancePairs, pair_rngs
from augreg.training import CHECKPOINT, FlowRegistration, Machine, TrainingOptions, seeded_network, train


def test_coefficients_beyond_three_standard_deviations_are_drawn_again():
    draw = AppearancePairs(model()).draw(pair_rngs(0, range(60)))
    spread = np.log(model().gains)
    gain = (np.log(draw.gain) - spread.mean()) / spread.std(ddof=1)
    # of so many normal numbers some are larger by all odds
    assert draw.shape.size > 2000
    assert 2.5 < np.abs(draw.shape).max() < 3
    assert np.abs(gain).max() < 3 + 1e-9
    # drawn again, not cut off
    assert np.sort(np.abs(draw.shape).ravel())[-3:].std() > 0
    assert draw.shape.std() == pytest.approx(0.987, abs=0.03)
    twice = AppearancePairs(model(), amplitude=2.0).draw(pair_rngs(0, range(60)))
    assert np.allclose(twice.shape, 2 * draw.shape)


def test_textures_of_mosaics_are_sharper_by_what_sampling_twice_takes():
    """With a = 0.02 along each axis, t = (1 - a L_1)(1 - a L_2) s, L the second difference."""
    m = model("landmarks")
    shape = m.template.shape
    plain, crisp = m.appearance.mean.reshape(shape).astype(float), m.textures.mean(axis=0).reshape(shape).astype(float)
    inner = (slice(3, -3), slice(3, -3))
    laplacian = scipy.ndimage.laplace(plain, mode="mirror")[inner].ravel()
    gained = (crisp - plain)[inner].ravel()
    assert laplacian @ gained / (laplacian @ laplacian) == pytest.approx(-0.02, rel=0.1)


def test_landmarks_that_fit_nowhere_count_less():
    grid = Grid((80, 70), (1.0, 1.0))
    points = grid.lattice((10, 9))
    rng = np.random.default_rng(0)
    unit = (points - grid.center) / 40
    shapes = np.stack([points + 3 * np.sin(2 * unit + rng.normal(size=2)) for _ in range(8)])
    noisy = int(np.argmin(np.linalg.norm(points - grid.center, axis=1)))
    clean = shapes.copy()
    shapes[:, noisy] += rng.normal(0, 9, (8, 2))
    smoothing, coefficients = training_splines(procrustes(shapes, "none"), grid)
    assert smoothing[noisy] > 10 * np.median(smoothing) > 0
    others = np.arange(len(points)) != noisy
    far = np.linalg.norm(points - points[noisy], axis=1) > 12
    mean = procrustes(shapes, "none").mean
    found = np.stack([BSpline(c, control_grid(grid))(mean) for c in coefficients])
    assert np.abs(found - clean)[:, others & far].max() < 1.5
    # without noise nothing need be smoothed
    assert not training_splines(procrustes(clean, "none"), grid)[0].any()


def test_the_rate_grows_stays_and_is_halved():
    options = TrainingOptions(steps=100, learning_rate=0.8, halvings=3, warm_up=20)
    known = {0: 0.04, 9: 0.4, 19: 0.8, 49: 0.8, 62: 0.8, 63: 0.4, 74: 0.4, 75: 0.2, 87: 0.2, 88: 0.1, 99: 0.1}
    assert {step: options.rate(step) for step in known} == pytest.approx(known)
    steady = dataclasses.replace(options, halvings=0, warm_up=1)
    assert {steady.rate(step) for step in range(100)} == {0.8}


def test_the_weights_decay_by_what_is_stated_over_the_flow_s_scale(tmp_path):
    """Adam's first moment after a step without a gradient is (1 - 0.9) decay w, and the step is of the rate, against w's sign."""
    network = seeded_network(0, 2, 0.03)
    first = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    options = TrainingOptions(steps=1, learning_rate=0.01, warm_up=2, weight_decay=0.01, machine=Machine("cpu", threads=1))
    list(train(network, pairs, (1.0, 1.0), tmp_path, options, objective=lambda flows, batch: 0 * flows[0].flow().sum()))
    tensors, _ = read_tensors(tmp_path / CHECKPOINT, "augreg checkpoint")
    assert network.unit == 20
    for name, weight in first.items():
        # heads of scales that the objective does not look at have no gradient, so they do not decay
        if (moment := tensors.get(f"adam.network.{name}.exp_avg")) is not None:
            torch.testing.assert_close(moment, 0.1 * 0.01 / network.unit * weight, rtol=1e-4, atol=1e-12)
        moved = (network.state_dict()[name] - weight)[weight.abs() > 0.01]
        expected = -0.005 * weight.sign()[weight.abs() > 0.01] if moment is not None else 0 * moved
        torch.testing.assert_close(moved, expected, rtol=0.01, atol=1e-6)
    assert 2 * len([name for name in tensors if name.endswith("exp_avg")]) > len(first)


def test_a_gradient_is_shortened_to_the_clip(tmp_path):
    options = TrainingOptions(steps=1, weight_decay=0.0, clip=0.01, machine=Machine("cpu", threads=1))
    (state,) = train(seeded_network(0, 2, 0.03), pairs, (1.0, 1.0), tmp_path, options)
    tensors, _ = read_tensors(tmp_path / CHECKPOINT, "augreg checkpoint")
    moments = torch.cat([tensor.flatten() for name, tensor in tensors.items() if name.endswith("exp_avg")])
    assert state.numbers["gradient"] > 1
    assert moments.norm().item() == pytest.approx(0.1 * 0.01, rel=1e-3)


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (1.0, -1024.0), (0.01, 7.0), (1e-9, 0.0)])
def test_a_network_sees_the_same_whatever_gain_and_offset_of_the_images(gain, offset):
    rng = np.random.default_rng(0)
    grid = Grid((40, 36), (1.5, 1.0), (3.0, -8.0))
    fixed, moving = (scipy.ndimage.gaussian_filter(rng.random(grid.shape), 2).astype(np.float32) for _ in range(2))
    # a start that leaves the moving image: what stands outside must not give the scale away
    start = Affine(np.array([[1.1, 0.1], [0.0, 0.9]]), [14.0, -9.0])
    oracle, changed = Oracle([1.0, -2.0]), Oracle([1.0, -2.0])
    for network, values in ((oracle, (fixed, moving)), (changed, (fixed * gain + offset, moving * gain + offset))):
        images = [Image(part, grid) for part in values]
        FlowRegistration(network, (1.2, 1.2))(*images, initial=start)
    for ours, theirs in zip(oracle.seen, changed.seen, strict=True):
        assert ours.std() == pytest.approx(1, abs=1e-3)
        assert ours.mean() == pytest.approx(0, abs=1e-3)
        torch.testing.assert_close(theirs, ours, rtol=0, atol=0.02 if offset else 1e-3)


class Timed(Method):
    """A registration that says how long it took."""

    def __init__(self, seconds, solving):
        self.times = [(0.5 * seconds, 0.25 * solving), (seconds, solving)]

    def _states(self, pair, clock):
        for number, (seconds, solving) in enumerate(self.times):
            yield State(0, number, 1.0, 0.0, Affine.identity(2), seconds, solve_seconds=solving)


def test_the_times_of_a_chain_add_up():
    image = Image(np.random.default_rng(0).random((9, 8)), Grid((9, 8)))
    states = list(Chained(Timed(2.0, 1.0), Chained(Timed(3.0, 0.5), Timed(1.0, 0.25))).steps(image, image))
    assert [state.seconds for state in states] == pytest.approx([1, 2, 3.5, 5, 5.5, 6])
    assert [state.solve_seconds for state in states] == pytest.approx([0.25, 1, 1.125, 1.5, 1.5625, 1.75])
