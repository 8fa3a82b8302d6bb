"""Looks change what is seen and not what is true."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from support.flows import pairs
from support.subjects import model

from augreg.networks import Displacement, warped
from augreg.synthesis import AppearancePairs, PairBatch
from augreg.training import contrast_drawn, contrast_mapped, denser, occluded, pairs_from_generators, shaded

SHAPES = [(48, 40), (20, 18, 16)]


def labelled(step=0):
    return pairs_from_generators(lambda _: AppearancePairs(model(), pose=0.0), 4)(step)


WRAPPERS = {
    "occluded": occluded,
    "denser": lambda *a, **k: denser(*a, air=0.0, tissue=(20.0, 90.0), **k),
    "contrast": contrast_drawn,
    "mapped": contrast_mapped,
    "shaded": shaded,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_looks_leave_the_truth_and_do_not_depend_on_who_makes_them(name):
    wrapped = WRAPPERS[name]
    plain, whole = labelled(), wrapped(labelled, seed=3)(0)
    for part in ("flow", "mask", "reverse", "fixed_labels", "moving_labels"):
        assert torch.equal(getattr(whole, part), getattr(plain, part))
    assert whole.fixed.dtype == torch.float32
    assert not torch.equal(whole.fixed, plain.fixed)
    half = slice(2, 4)
    alone = wrapped(lambda step: labelled(step)[half], seed=3, batch=4, part=half)(0)
    assert torch.equal(alone.fixed, whole.fixed[half])
    assert torch.equal(alone.moving, whole.moving[half])
    assert not torch.equal(wrapped(labelled, seed=4)(0).fixed, whole.fixed)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_occluded_is_ellipsoids_of_one_intensity(shape):
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 1, *shape))).float()
    batch = occluded(lambda _: PairBatch.without_truth(noise, noise), most=1, size=(0.1, 0.2))(0)
    hidden = 0
    for before, fixed, moving in zip(noise[:, 0], batch.fixed[:, 0], batch.moving[:, 0], strict=True):
        for image in (fixed, moving):
            where = (image != before).numpy()
            if where.any():
                hidden += 1
                values = image[torch.from_numpy(where)]
                assert len(values.unique()) == 1
                assert before.min() <= values[0] <= before.max()
                # convex: what lies between two of its places is in it
                at = np.argwhere(where)
                middle = (at + at[::-1]) // 2
                assert scipy.ndimage.binary_dilation(where)[tuple(middle.T)].all()
                assert where.sum() < np.prod(shape) * 0.4 ** len(shape)
        # each image has its own
        assert not torch.equal(fixed, moving) or torch.equal(fixed, before)
    assert 6 <= hidden <= 18


@pytest.mark.parametrize("shape", SHAPES)
def test_squeezed_lungs_keep_their_mass(shape):
    """A lung that fills twice the volume is half as dense: what the fixed one weighs is what the moving one weighs."""
    D, middle = len(shape), (np.array(shape) - 1) / 2
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    away = places - middle.reshape(-1, *[1] * D)
    swollen = 1.3 ** (1 / D)
    flow = torch.from_numpy((swollen - 1) * away).float()[None]

    def lung(radius):
        return torch.from_numpy(np.where(np.linalg.norm(away, axis=0) < radius, -800.0, -1000.0)).float()[None, None]

    fixed, moving = lung(min(shape) / 3), lung(min(shape) / 3 * swollen)
    batch = replace(PairBatch.without_truth(fixed, moving), flow=flow)
    found = []
    for step in range(8):
        seen = denser(lambda _: batch, tissue=(-950.0, -400.0), soft=0.01)(step)
        assert torch.equal(seen.moving, moving)
        found.append(float((seen.fixed + 1000).sum() / (fixed + 1000).sum()))
    # det^s with s between 0 and 1; its largest are near the whole
    assert 1 <= min(found) < 1.1
    assert 1.2 < max(found) <= 1.3 + 1e-4
    assert 1.3 * float((fixed + 1000).sum()) == pytest.approx(float((moving + 1000).sum()), rel=0.12)
    # bone, and what is outside the mask, stay
    bone = replace(batch, fixed=fixed + 900)
    assert torch.equal(denser(lambda _: bone)(0).fixed, bone.fixed)
    unknown = replace(batch, mask=torch.zeros_like(batch.mask), flow=flow * torch.nan)
    assert torch.equal(denser(lambda _: unknown)(0).fixed, fixed)


def test_each_image_goes_through_a_map_of_intensities_of_its_own():
    plain, batch = labelled(), contrast_mapped(labelled)(0)
    maps = []
    for side in ("fixed", "moving"):
        for before, after in zip(getattr(plain, side).numpy(), getattr(batch, side).numpy(), strict=True):
            assert after.min() == 0
            assert np.all(after[before == before.min()] == 0)
            order = np.argsort(before.ravel())
            maps.append(np.interp(np.linspace(before.min(), before.max(), 60), before.ravel()[order], after.ravel()[order]))
            # as steep as its knots at most: what was alike stays alike
            steps = np.diff(after.ravel()[order]) - 9 * np.diff(before.ravel()[order]) / np.ptp(before)
            assert steps.max() < 1e-4
    assert all(np.abs(a - b).max() > 0.05 for number, a in enumerate(maps) for b in maps[:number])
    # none can be undone by a map that goes up
    assert sum(np.diff(one).min() < -1e-3 < 1e-3 < np.diff(one).max() for one in maps) >= 6


def test_every_label_has_a_contrast_of_its_own():
    plain = labelled()
    batch = contrast_drawn(labelled, noise=0, kept=0, blur=0)(0)
    for pair in range(4):
        means = []
        for side in ("fixed", "moving"):
            image, labels = (getattr(batch, name)[pair, 0] for name in (side, f"{side}_labels"))
            numbers = labels.unique()
            assert len(numbers) == 3
            values = [image[labels == number].unique() for number in numbers]
            assert [len(value) for value in values] == [1, 1, 1]
            means.append(torch.cat(values))
        assert len(torch.cat(means).unique()) == 6
    # shared ones are the same on both sides, where the truth says
    same = contrast_drawn(labelled, noise=0, kept=0, blur=0, shared=1)(0)
    moved = warped(same.moving, plain.flow)
    missed = ((moved - same.fixed).abs() > 1e-3)[plain.mask].float().mean()
    assert missed < 0.2
    assert same.moving[0].unique().tolist() == same.fixed[0].unique().tolist()


def test_a_label_keeps_a_share_of_its_texture_upright_or_upside_down():
    plain = labelled()
    batch = contrast_drawn(labelled, noise=0, kept=0.5, blur=0)(0)
    signs = set()
    for pair in range(4):
        for number in plain.fixed_labels[pair].unique():
            inside = plain.fixed_labels[pair] == number
            r = np.corrcoef(plain.fixed[pair][inside], batch.fixed[pair][inside])[0, 1]
            assert abs(r) > 0.999
            signs.add(np.sign(r))
    assert signs == {-1.0, 1.0}
    noisy = contrast_drawn(labelled, noise=0.2, kept=0, blur=0)(0)
    assert 0 < noisy.fixed[plain.fixed_labels == 0].std() < 0.6
    assert isinstance(Displacement.of(noisy.flow), Displacement)


def test_looks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="most, size: expected 0 or more, and shares above 0 in order, got 2"):
        occluded(pairs, most=2, size=(0.2, 0.1))
    with pytest.raises(ValueError, match="shared, noise, kept, blur: expected a share"):
        contrast_drawn(pairs, shared=2.0)
    with pytest.raises(ValueError, match="contrast_drawn: expected pairs with label maps on both sides, got none"):
        contrast_drawn(pairs)(0)


@pytest.mark.parametrize("shape", SHAPES)
def test_shades_are_smooth_gains_of_each_image_above_its_least_value(shape):
    ramp = torch.from_numpy(np.random.default_rng(0).uniform(1, 2, (6, 1, *shape))).float()
    ramp[:, :, 0] = 0.5
    batch = shaded(lambda _: PairBatch.without_truth(ramp, ramp), gain=0.5)(0)
    assert torch.equal(batch.fixed[:, :, 0], ramp[:, :, 0])
    gains = ((batch.fixed - 0.5) / (ramp - 0.5))[:, 0, 1:].log()
    assert 0.2 < gains.std() < 0.6
    # linear between three places of each axis: but for the middle no second differences along it
    for axis, n in enumerate(shape[1:], 2):
        bent = gains.diff(n=2, dim=axis).abs().amax(dim=[d for d in range(gains.ndim) if d != axis])
        middle = {n // 2 - 2, n // 2 - 1, n // 2}
        assert max(float(v) for k, v in enumerate(bent) if k not in middle) < 1e-4
    assert not torch.allclose(batch.fixed, batch.moving)
    with pytest.raises(ValueError, match="gain, nodes: expected"):
        shaded(lambda _: PairBatch.without_truth(ramp, ramp), nodes=1)
