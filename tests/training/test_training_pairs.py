"""What a network learns from."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from support import subjects
from support.flows import pairs

from augreg import Grid, Image
from augreg.networks import warped
from augreg.networks.warping import inverted
from augreg.synthesis import AppearancePairs, Later, PairBatch, write_shards
from augreg.training import (
    Team,
    growing,
    held_out,
    in_both_directions,
    mirrored,
    mirrored_by_chance,
    pairs_from_generators,
    pairs_from_images,
    pairs_from_memory,
    pairs_from_model,
    pairs_from_shards,
    read_pairs,
    seen_differently,
    shard_spacing,
)


@pytest.mark.parametrize("axes", [[], [0], [1], [0, 1]])
def test_mirrored_pairs_are_as_exact_as_the_pairs(axes):
    batch = pairs(3, batch=2)
    names = ("fixed", "moving", "flow", "mask", "reverse", "reverse_mask")
    rectangle = PairBatch.of(batch.parts | {name: getattr(batch, name)[:, :, :50] for name in names})
    turned = mirrored(rectangle, axes)
    grid = np.stack(np.meshgrid(*map(np.arange, turned.fixed.shape[2:]), indexing="ij"))
    inside = (slice(8, -8), slice(8, -8))
    for fixed, moving, flow in zip(turned.fixed, turned.moving, turned.flow, strict=True):
        moved = scipy.ndimage.map_coordinates(moving[0].numpy(), grid + flow.numpy(), order=1)
        np.testing.assert_allclose(moved[inside], fixed[0].numpy()[inside], atol=1e-4)
    again = mirrored(turned, axes)
    assert torch.equal(again.flow, rectangle.flow)
    assert torch.equal(turned.fixed, rectangle.fixed) == (axes == [])


def test_pairs_at_hand_are_all_shown_and_depend_on_seed_and_step_alone():
    whole = pairs(0, batch=7)
    of, same, other = (mirrored_by_chance(pairs_from_memory(whole, 3, seed), seed) for seed in (1, 1, 2))
    assert torch.equal(of(5).fixed, same(5).fixed)
    assert not torch.equal(of(5).fixed, of(6).fixed)
    assert not torch.equal(of(5).fixed, other(5).fixed)
    # sums tell the pairs apart however they are mirrored; seven steps of three are three times all seven
    seen = Counter(round(float(total), 3) for step in range(7) for total in of(step).fixed.sum(dim=(1, 2, 3)))
    assert seen == dict.fromkeys([round(float(total), 3) for total in whole.fixed.sum(dim=(1, 2, 3))], 3)


def joined(parts):
    return PairBatch.concatenate(list(parts))


def test_the_parts_of_a_team_are_the_batch_of_one():
    model, whole = subjects.model(), pairs(0, batch=7)
    images = subjects.people(2)[0]
    makers = (
        lambda part: pairs_from_model(model, 4, 3, part=part),
        lambda part: pairs_from_memory(whole, 4, 3, part=part),
        lambda part: mirrored_by_chance(pairs_from_memory(whole, 4, 3, part=part), 3),
        lambda part: pairs_from_images(images, 4, 3, part=part),
    )
    makers += (lambda part: pairs_from_generators(lambda _: AppearancePairs(model), 4, 3, part=part),)
    for maker in makers:
        alone = maker(Team().part(4))(5)
        together = joined(maker(Team(rank, 2).part(4))(5) for rank in range(2))
        for name in ("fixed", "moving", "flow"):
            torch.testing.assert_close(getattr(together, name), getattr(alone, name), equal_nan=True)
    with pytest.raises(ValueError, match="multiple of the number of processes, 2, got 3"):
        Team(0, 2).part(3)


def test_a_curriculum_begins_with_small_displacements():
    model, steps = subjects.model(), 10
    of = pairs_from_model(model, 4, 1, pose=0.0, amplitude=growing(steps, share=0.5, start=0.25))
    plain = pairs_from_model(model, 4, 1, pose=0.0)
    ratio = [(of(step).flow.abs().mean() / plain(step).flow.abs().mean()).item() for step in (0, 2, 5, 9)]
    np.testing.assert_allclose(ratio, [0.25, 0.55, 1, 1], atol=0.06)
    assert growing(steps, share=0.0)(0) == 1


def test_held_out_pairs_are_none_of_those_learned_from():
    of = pairs_from_model(subjects.model(), 2, 1)
    unseen = held_out(of)
    assert len(unseen) == 4
    assert not any(torch.equal(unseen.fixed[i], pair) for i in range(4) for step in range(6) for pair in of(step).fixed)


def test_both_directions_are_exact():
    batch = pairs(0, batch=2)
    reverse, _ = inverted(batch.flow, -batch.flow)
    both, wrong = (
        in_both_directions(lambda _, u=u: replace(batch, back=Later.known(u, batch.reverse_mask)))(0)
        for u in (reverse, batch.flow)
    )
    right, left = ((warped(b.moving, b.flow) - b.fixed)[..., 8:-8, 8:-8].abs().mean((1, 2, 3)) for b in (both, wrong))
    assert len(both) == 4
    # interpolated twice, the second direction is exact up to that
    assert right.max() < 0.1 * both.fixed.std()
    assert left[2:].min() > 0.3 * both.fixed.std()


def test_pairs_of_real_images_have_two_different_ones_and_no_truth():
    images = subjects.people(2)[0]
    of = pairs_from_images(images, 4, 0)
    assert not any(torch.equal(*pair) for step in range(10) for pair in zip(of(step).fixed, of(step).moving, strict=True))
    assert torch.isnan(of(0).flow).all()
    assert torch.equal(of(3).moving, pairs_from_images(images, 4, 0)(3).moving)
    other = Image(np.zeros((5, 6)), Grid((5, 6)))
    for bad in ([images[0]], [images[0], other]):
        with pytest.raises(ValueError, match="two or more of one shape"):
            pairs_from_images(bad, 1)


def test_shards_are_learned_from_and_bad_ones_refused(tmp_path, monkeypatch):
    model = subjects.model()
    list(write_shards(AppearancePairs(model), tmp_path, 5, shard_size=2))
    assert len(read_pairs(tmp_path)) == 5
    assert shard_spacing(tmp_path) == model.template.spacing
    shown = joined(map(pairs_from_shards(tmp_path, 5), range(1)))
    assert Counter(shown.fixed.sum((1, 2, 3)).tolist()) == Counter(read_pairs(tmp_path).fixed.sum((1, 2, 3)).tolist())
    with pytest.raises(ValueError, match="at least one batch of 6, got 5"):
        pairs_from_shards(tmp_path, 6)
    good = read_pairs(tmp_path)
    flow, fixed = good.flow.clone(), good.fixed.clone()
    # a NaN outside the mask is nobody's business
    flow[0][:, ~good.mask[0, 0]] = float("nan")
    monkeypatch.setattr("augreg.training.batches.read_shards", lambda _: iter([replace(good, flow=flow)]))
    assert len(read_pairs(tmp_path)) == 5
    fixed[3, 0, 0, 0] = float("inf")
    monkeypatch.setattr("augreg.training.batches.read_shards", lambda _: iter([replace(good, fixed=fixed)]))
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 \(the first is number 3\)"):
        read_pairs(tmp_path)


def test_images_seen_differently_keep_their_truth_and_the_order_of_their_intensities():
    known = pairs(0, batch=3)
    known = replace(known, fixed=known.fixed.clamp(min=known.fixed.median().item()))  # air
    changed = seen_differently(lambda step: known, gamma=0.5, noise=0.0, seed=4)
    batch = changed(7)
    assert torch.equal(batch.flow, known.flow)
    assert torch.equal(batch.fixed, changed(7).fixed)
    assert not torch.equal(batch.fixed, changed(8).fixed)
    changes = []
    for before, after in zip((*known.fixed, *known.moving), (*batch.fixed, *batch.moving), strict=True):
        order = before.flatten().argsort()
        assert (after.flatten()[order].diff() >= -1e-6).all()
        assert [after.min().item(), after.max().item()] == pytest.approx([before.min().item(), before.max().item()], abs=1e-5)
        changes.append(((after - before).abs().max() / (before.max() - before.min())).item())
    assert np.mean(changes) > 0.05
    # of a pair both images change in ways of their own
    same = seen_differently(lambda step: replace(known, moving=known.fixed), noise=0.0)(0)
    assert not torch.allclose(same.fixed, same.moving, atol=1e-3)
    noisy = seen_differently(lambda step: known, gamma=0.0, noise=0.02)(0)
    for before, after in zip(known.fixed, noisy.fixed, strict=True):
        air = before == before.min()
        assert torch.equal(after[air], before[air])
        assert (after - before)[~air].std().item() == pytest.approx(0.02 * (before.max() - before.min()).item(), rel=0.1)
    with pytest.raises(ValueError, match="gamma, noise"):
        seen_differently(lambda step: known, gamma=-1.0)
