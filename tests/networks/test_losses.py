"""Losses for images of other contrasts, for structures, and the bending of maps."""

from itertools import combinations

import numpy as np
import pytest
import scipy.ndimage
import torch

from augreg.networks import (
    AffineMap,
    Displacement,
    bending,
    curvature,
    edge_difference,
    local_correlation,
    mutual_information_loss,
    overlap_loss,
    self_similarity,
    self_similarity_difference,
)
from augreg.networks.warping import positions

SHAPES = [(24, 17), (9, 14, 12)]
MULTIMODAL = [self_similarity_difference, edge_difference, mutual_information_loss]


def image(shape, seed=0, sigma=1.5):
    values = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return torch.from_numpy((values / values.std()).astype(np.float32))[None, None]


@pytest.mark.parametrize("shape", SHAPES)
def test_self_similarity_is_that_of_its_slow_twin(shape):
    values = image(shape, sigma=0.7)[0, 0].numpy().astype(float)
    ndim = len(shape)
    offsets = [sign * np.eye(ndim, dtype=int)[axis] for axis in range(ndim) for sign in (1, -1)]
    pairs = [(p, q) for p, q in combinations(offsets, 2) if not (p + q == 0).all()]
    assert len(pairs) == {2: 4, 3: 12}[ndim]

    def at(x):
        return values[tuple(np.clip(x, 0, np.array(shape) - 1))]

    def distance(x, p, q):
        patch = [x + np.array(y) - 1 for y in np.ndindex(*[3] * ndim)]
        inside = [y for y in patch if ((y >= 0) & (y < shape)).all()]
        return np.mean([(at(y + p) - at(y + q)) ** 2 for y in inside])

    D = np.array([[distance(np.array(x), p, q) for p, q in pairs] for x in np.ndindex(*shape)])
    D -= D.min(axis=1, keepdims=True)
    V = D.mean(axis=1, keepdims=True)
    expected = np.exp(-D / np.clip(V, 1e-3 * V.mean(), 1e3 * V.mean())).reshape(*shape, len(pairs))
    found = self_similarity(image(shape, sigma=0.7))[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", MULTIMODAL)
def test_inverted_contrast_is_no_difference_and_a_shift_is_one(loss, shape):
    f = image(shape)
    # values that are shared between two bins say a little less
    assert 0 <= loss(f, f).item() < (0.35 if loss is mutual_information_loss else 0.03)
    assert loss(f, 5 - 3 * f).item() == pytest.approx(loss(f, f).item(), abs=2e-3)
    shifts = [loss(f, (2 - f).roll(step, 2)).item() for step in (0, 1, 2)]
    assert shifts[0] + 0.02 < shifts[1] < shifts[2] + 0.02
    # local correlation knows of shifts too, so that the images are no special case
    assert local_correlation(f, f.roll(2, 2)) > 0.1


@pytest.mark.parametrize("loss", MULTIMODAL)
def test_losses_of_other_contrasts_lead_towards_the_truth(loss):
    f = image((40, 36), sigma=2.5)
    moving = torch.cos(1.2 * f.roll(1, 3)) if loss is mutual_information_loss else 1 - f.roll(1, 3)
    shift = torch.zeros(1, 2, 1, 1, requires_grad=True)
    moved = Displacement((shift).expand(1, 2, 40, 36), (40, 36), (1, 1)).warp(moving)
    loss(f[..., 4:-4, 4:-4], moved[..., 4:-4, 4:-4]).backward()
    # moving(x + e) = fixed(x): downhill is a shift of +1 along the second axis
    assert shift.grad[0, 1].item() < 0
    assert abs(shift.grad[0, 0].item()) < abs(shift.grad[0, 1].item())


@pytest.mark.parametrize("loss", MULTIMODAL)
def test_flat_images_have_finite_losses_and_gradients(loss):
    f = torch.cat([torch.zeros(1, 1, 20, 20), image((20, 20))], dim=2)
    m = torch.full_like(f, 7.0).requires_grad_()
    found = loss(f, m)
    found.backward()
    assert torch.isfinite(found)
    assert torch.isfinite(m.grad).all()


def test_mutual_information_is_that_of_a_plain_histogram():
    rng = np.random.default_rng(0)
    # values in the middle of bins: nothing is shared
    f, m = rng.integers(0, 5, (2, 30, 20))
    m = np.where(rng.random(m.shape) < 0.6, (3 * f) % 5, m)
    f[0, 0], m[0, 0], f[0, 1], m[0, 1] = 0, 0, 4, 4
    joint = np.histogram2d(f.ravel(), m.ravel(), bins=5)[0] / f.size

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    separate = entropy(joint.sum(0)) + entropy(joint.sum(1))
    tensors = [torch.from_numpy(v.astype(np.float32))[None, None] for v in (f, m)]
    found = mutual_information_loss(*tensors, bins=5).item()
    assert found == pytest.approx(1 - 2 * (separate - entropy(joint)) / separate, abs=1e-5)
    assert 0.2 < found < 0.9


def test_overlap_is_dice_and_wide_gaussians_see_what_does_not_touch():
    squares = torch.zeros(1, 3, 40, 30)
    squares[0, 0, 4:14, 5:15] = squares[0, 1, 9:19, 5:15] = squares[0, 2, 20:30, 5:15] = 1
    fixed, half, apart = squares.split(1, dim=1)
    assert overlap_loss(fixed, half, [0.0]).item() == pytest.approx(0.5, abs=1e-6)
    assert overlap_loss(fixed, fixed, [0.0]).item() == pytest.approx(0, abs=1e-6)
    assert overlap_loss(fixed, apart, [0.0]).item() == 1
    assert overlap_loss(fixed, half, [3.0]) < overlap_loss(fixed, apart, [3.0]) < 0.99
    # both structures of a pair, each by itself
    both = overlap_loss(squares[:, :2], squares[:, 1:], [0.0])
    assert both.shape == (1, 2)
    assert both[0, 0].item() == pytest.approx(0.5, abs=1e-6)


def test_widths_are_in_millimetres():
    volume = torch.zeros(1, 1, 16, 18, 12)
    volume[:, :, 3:9, 4:12, 2:6] = 1
    other = volume.roll((4, 3, 3), (2, 3, 4))
    found = overlap_loss(volume, other, [2.0], (0.5, 1.0, 4.0)).item()

    def smooth(values):
        return scipy.ndimage.gaussian_filter(values[0, 0].numpy(), (4, 2, 0.5), mode="constant", truncate=3)

    f, m = smooth(volume), smooth(other)
    assert found == pytest.approx(1 - 2 * (f * m).sum() / (f * f + m * m).sum(), abs=2e-3)
    assert found != pytest.approx(overlap_loss(volume, other, [2.0]).item(), abs=0.05)


@pytest.mark.parametrize("ndim", [2, 3])
def test_bending_is_that_of_a_quadratic_and_affine_maps_have_none(ndim):
    shape, rng = (14, 11, 9)[:ndim], np.random.default_rng(ndim)
    H = torch.from_numpy(rng.normal(size=(ndim, ndim, ndim)).astype(np.float32))
    H = (H + H.mT) / 20
    x = positions(shape, H.device)
    quadratic = torch.einsum("...a,cab,...b->c...", x, H, x)[None] / 2 + x.movedim(-1, 0)[None]
    assert bending(quadratic).item() == pytest.approx(H.square().sum().item(), rel=1e-3)
    coarse = quadratic[..., ::2] if ndim == 2 else quadratic[..., ::2, :]
    spacing = (1.0, 2.0) if ndim == 2 else (1.0, 2.0, 1.0)
    assert bending(coarse, spacing).item() == pytest.approx(H.square().sum().item(), rel=1e-3)
    affine = AffineMap(torch.eye(ndim)[None] * 1.3, torch.ones(1, ndim), shape)
    assert curvature(affine) == 0
    assert curvature(affine @ Displacement.of(quadratic)).item() == pytest.approx(H.square().sum().item(), rel=1e-3)
