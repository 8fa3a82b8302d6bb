"""Patches are parts of their pairs, at edges, with as many large displacements as small ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.flows import pairs

from augreg.networks import normalised, warped
from augreg.synthesis import Later, PairBatch
from augreg.training import in_both_directions, patches


def numbered(*shape, count=1, flow=None):
    """Pairs whose intensities are numbers of their voxels; edges are equally steep everywhere along the last axis."""
    image = torch.arange(np.prod(shape), dtype=torch.float32).reshape(1, 1, *shape).repeat(count, 1, *[1] * len(shape))
    batch = PairBatch.without_truth(image, image + 0.5)
    flow = torch.zeros(count, len(shape), *shape) if flow is None else flow
    return replace(batch, flow=flow, back=Later.known(-flow, batch.mask)).labelled(image.int(), image.int() + 1)


def corners(batch, shape):
    return np.stack(np.unravel_index(batch.fixed.flatten(1)[:, 0].int().numpy(), shape), axis=1)


def middles(batch_of, steps):
    """Voxels around which patches of 5 lie, where the border is not near."""
    return np.concatenate([corners(batch_of(step), (40, 44)) for step in range(steps)]) + 2


@pytest.mark.parametrize(("shape", "size"), [((40, 44), 9), ((40, 44), (7, 12)), ((14, 20, 6), (8, 9, 30))])
def test_a_patch_is_a_part_of_all_that_is_known_of_its_pair(shape, size):
    flow = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (2, len(shape), *shape)).astype(np.float32))
    whole = numbered(*shape, count=2, flow=flow)
    whole = replace(whole, mask=torch.rand(whole.mask.shape) > 0.3)
    found = patches(lambda _: whole, size, each=3)(5)
    sides = [min(n, side) for n, side in zip(shape, np.broadcast_to(size, len(shape)), strict=True)]
    assert found.fixed.shape == (6, 1, *sides)
    for number, corner in enumerate(corners(found, shape)):
        window = (number // 3, slice(None), *(slice(c, c + side) for c, side in zip(corner, sides, strict=True)))
        for name in ("fixed", "moving", "flow", "reverse", "fixed_labels", "moving_labels"):
            assert torch.equal(getattr(found, name)[number], getattr(whole, name)[window])
        for mask, u in (("mask", "flow"), ("reverse_mask", "reverse")):
            at = np.moveaxis(np.indices(sides), 0, -1) + np.moveaxis(getattr(found, u)[number].numpy(), 0, -1)
            inside = np.all((at >= 0) & (at <= np.array(sides) - 1), axis=-1)
            expected = getattr(whole, mask)[window][0].numpy() & inside
            np.testing.assert_array_equal(getattr(found, mask)[number, 0], expected)


def test_the_truth_of_a_patch_still_pulls_the_moving_image_back():
    found = patches(pairs, 24, each=4)(0)
    whole = pairs(0)

    def missed(batch):
        return ((warped(batch.moving, batch.flow.nan_to_num()) - batch.fixed).abs() / batch.fixed.std())[batch.mask].mean()

    assert found.mask.any()
    assert missed(found) < 1.5 * missed(whole) + 1e-3


def test_every_class_of_displacements_is_as_frequent():
    flow = torch.zeros(1, 2, 40, 44)
    # 1 in 50 voxels moves far, 1 in 12 a little
    flow[:, 0, 20:26, 20:26], flow[:, 1, 8:18, 8:22] = 10.0, -2.0
    found = middles(patches(lambda _: numbered(40, 44, flow=flow), 5, seed=1), 600)
    size = flow[0].norm(dim=0).numpy()[tuple(found.T)]
    counts = [(size < 1.5).mean(), ((size >= 1.5) & (size < 4)).mean(), (size >= 8).mean()]
    np.testing.assert_allclose(counts, 1 / 3, atol=0.06)
    # what the truth does not know is no centre
    known = replace(numbered(40, 44, flow=flow), mask=flow[:, :1].abs() < 5)
    found = middles(patches(lambda _: known, 5), 100)
    assert flow[0].norm(dim=0).numpy()[tuple(found.T)].max() < 5


@pytest.mark.parametrize("truth", [True, False])
def test_patches_lie_at_edges(truth):
    batch = numbered(40, 44)
    image = torch.zeros(1, 1, 40, 44)
    image[..., 25:] = 1
    batch = replace(batch, moving=image) if truth else PairBatch.without_truth(batch.fixed, image)
    seen = patches(lambda _: batch.exchanged().labelled(batch.fixed.int(), batch.fixed.int()), 5)
    columns = [int(seen(step).fixed_labels[0, 0, 0, 0]) % 44 + 2 for step in range(60)]
    assert set(columns) == {24, 25}
    flat = replace(batch, fixed=0 * image)
    assert patches(lambda _: flat, 5)(0).fixed.shape == (1, 1, 5, 5)


def test_processes_have_the_patches_of_one():
    whole = patches(pairs, 16, each=2, seed=3)(4)
    half = slice(2, 4)
    alone = patches(lambda step: pairs(step)[half], 16, each=2, seed=3, batch=4, part=half)(4)
    assert torch.equal(alone.fixed, whole.fixed[4:])
    assert not torch.equal(patches(pairs, 16, each=2, seed=4)(4).fixed, whole.fixed)


def test_patches_that_cannot_be_are_refused():
    for size, each in ((0, 1), ((4, 0), 1), (4, 0)):
        with pytest.raises(ValueError, match="size, each: expected 1 or more"):
            patches(pairs, size, each=each)
    with pytest.raises(ValueError, match="classes: expected displacements above 0 that ascend"):
        patches(pairs, 4, classes=(4.0, 1.5))
    with pytest.raises(ValueError, match="size: expected one number or 2, one per axis, got 3"):
        patches(pairs, (4, 4, 4))(0)


def test_images_are_prepared_as_a_whole_before_they_are_cut():
    whole = pairs(4)
    found = patches(pairs, 16, prepare=normalised, seed=3)(4)
    raw = patches(pairs, 16, seed=3)(4)
    for number in range(len(raw)):
        mean, deviation = whole.moving[number].mean(), whole.moving[number].std(correction=0)
        torch.testing.assert_close(found.moving[number], (raw.moving[number] - mean) / deviation, atol=1e-4, rtol=0)


def test_both_directions_of_pairs_have_patches_in_teams_as_alone():
    both = in_both_directions(pairs)
    whole = patches(both, 16, seed=3, doubled=True)(2)
    assert torch.equal(whole.fixed[:4], patches(pairs, 16, seed=3)(2).fixed)
    assert len(whole) == 8
    # the images of the second half are exchanged, each patch at a place of its own
    exchanged = in_both_directions(pairs)(2)
    for number in range(4, 8):
        corner = [whole.fixed[number, 0, 0, 0], whole.moving[number, 0, 0, 0]]
        found = (exchanged.fixed[number, 0] == corner[0]) & (exchanged.moving[number, 0] == corner[1])
        assert found.any()
    assert not torch.equal(whole.moving[4:], whole.fixed[:4])
    half = slice(2, 4)
    alone = patches(in_both_directions(lambda step: pairs(step)[half]), 16, seed=3, batch=4, part=half, doubled=True)(2)
    assert torch.equal(alone.fixed, torch.cat([whole.fixed[2:4], whole.fixed[6:]]))
