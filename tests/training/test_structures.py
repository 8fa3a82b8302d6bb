"""Pairs with label maps, structures of theirs, poses of chance, and the objectives that look at them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.flows import pairs

from augreg import Grid, Image, Labels
from augreg.networks import AffineMap, Displacement, warped
from augreg.synthesis import Later
from augreg.training import (
    InverseConsistent,
    LabelOverlap,
    Likeness,
    in_both_directions,
    jittered,
    one_structure,
    pairs_from_images,
    supervised,
)

SHAPE = (40, 30)


def people(numbers=((1, 2), (1, 2), (2, 7)), shape=SHAPE):
    """Images with two squares each, whose label maps have the numbers given."""
    images, labels = [], []
    for person, (first, second) in enumerate(numbers):
        values = np.zeros(shape, dtype=np.int64)
        values[6 + person : 16 + person, 5:14] = first
        values[20:33, 12 + person : 22 + person] = second
        noise = np.random.default_rng(person).normal(size=shape)
        images.append(Image((values + 0.1 * noise).astype(np.float32), Grid(shape)))
        labels.append(Labels(values, Grid(shape)))
    return images, labels


def test_label_maps_come_with_their_images():
    images, labels = people()
    batch = pairs_from_images(images, 5, 1, labels=labels)(3)
    for side in ("fixed", "moving"):
        seen = getattr(batch, side)[:, 0]
        for image, found in zip(seen, getattr(batch, f"{side}_labels")[:, 0], strict=True):
            (person,) = [i for i, known in enumerate(images) if torch.equal(image, torch.from_numpy(known.values))]
            assert torch.equal(found, torch.from_numpy(labels[person].values))
    assert torch.equal(batch.fixed, pairs_from_images(images, 5, 1)(3).fixed)


def test_label_maps_of_another_number_or_shape_are_refused():
    images, labels = people()
    with pytest.raises(ValueError, match=r"labels: expected one for each image, all of shape \(40, 30\), got"):
        pairs_from_images(images, 2, labels=labels[:2])


def test_one_structure_is_drawn_of_those_that_both_have():
    images, labels = people()
    batches = pairs_from_images(images, 6, 0, labels=labels)
    seen = set()
    for step in range(8):
        batch, drawn = batches(step), one_structure(batches, 5)(step)
        assert torch.equal(drawn.fixed, batch.fixed)
        for f, m, df, dm in zip(batch.fixed_labels, batch.moving_labels, drawn.fixed_labels, drawn.moving_labels, strict=True):
            (number,) = f[df > 0].unique().tolist()
            assert torch.equal(df > 0, f == number)
            assert torch.equal(dm > 0, m == number)
            assert (dm > 0).any()
            seen.add(number)
    assert seen == {1, 2}
    # a team's parts are those of the whole
    whole = one_structure(batches, 5, batch=6)(3)
    part = one_structure(pairs_from_images(images, 6, 0, labels=labels, part=slice(2, 4)), 5, batch=6, part=slice(2, 4))(3)
    assert torch.equal(whole.fixed_labels[2:4], part.fixed_labels)


def test_pairs_without_a_common_number_are_refused():
    images, labels = people(((1, 2), (3, 4)))
    with pytest.raises(ValueError, match="labels: expected a number that both label maps of a pair have, got none in common"):
        one_structure(pairs_from_images(images, 2, labels=labels))(0)
    with pytest.raises(ValueError, match="batch_of: expected pairs with label maps on both sides"):
        one_structure(pairs_from_images(images, 2))(0)


def test_poses_move_images_and_labels_alike_and_every_image_by_itself():
    images, labels = people()
    batches = pairs_from_images(images, 4, 0, labels=labels)
    batch, moved = batches(2), jittered(batches, rotation=8, scale=0.05, shift=2, seed=3)(2)
    for side in ("fixed", "moving"):
        image, found = getattr(moved, side), getattr(moved, f"{side}_labels")
        # the squares are as bright as their numbers
        assert (image[found == 2].mean() - 2).abs() < 0.2
        assert (found != getattr(batch, f"{side}_labels")).float().mean() > 0.02
    assert not torch.equal(moved.fixed_labels, moved.moving_labels)
    assert torch.equal(moved.fixed, jittered(batches, rotation=8, scale=0.05, shift=2, seed=3)(2).fixed)
    still = jittered(batches, rotation=0, scale=0, shift=0)(2)
    torch.testing.assert_close(still.fixed, batch.fixed, atol=1e-5, rtol=0)
    assert torch.equal(still.moving_labels, batch.moving_labels)


def test_bodies_bend_smoothly_in_addition_to_their_pose():
    images, labels = people()
    batches = pairs_from_images(images, 4, 0, labels=labels)
    posed, bent = (jittered(batches, rotation=5, scale=0, shift=0, bend=bend, seed=3)(1) for bend in (0.0, 2.0))
    assert not torch.equal(posed.fixed, bent.fixed)
    assert (posed.fixed_labels != bent.fixed_labels).float().mean() < 0.25
    # the squares are as bright as their numbers
    assert (bent.moving[bent.moving_labels == 2].mean() - 2).abs() < 0.2
    # a team's parts are those of the whole
    half = slice(2, 4)
    part = pairs_from_images(images, 4, 0, labels=labels, part=half)
    alone = jittered(part, rotation=5, scale=0, shift=0, bend=2.0, seed=3, batch=4, part=half)(1)
    assert torch.equal(alone.moving, bent.moving[half])


def test_a_truth_goes_with_the_poses_of_its_images():
    # of images that are smooth to the border
    plain, moved = pairs(3), jittered(pairs, rotation=10, scale=0.1, shift=3, bend=1.0, seed=4)(3)
    share = moved.mask.float().mean()
    assert 0.5 < share < 0.95

    def missed(batch, flow):
        error = (warped(batch.moving, flow) - batch.fixed).square()
        return float(error[batch.mask].mean() / batch.fixed[batch.mask].var())

    assert missed(moved, moved.flow) < 0.02 < 0.3 < missed(moved, plain.flow)
    # the way back leads back, where both are known
    known = replace(plain, back=Later.known(*_inverse(plain.flow)))
    both = jittered(lambda _: known, rotation=10, scale=0.1, shift=3, bend=1.0, seed=4)(3)
    returned = both.flow + warped(both.reverse, both.flow)
    inside = both.mask & (warped(both.reverse_mask.float(), both.flow) > 0.99)
    assert inside.float().mean() > 0.4
    assert returned.norm(dim=1, keepdim=True)[inside].quantile(0.9) < 0.1


def _inverse(flow):
    back = Displacement.of(flow).inverse().flow()
    return back, torch.ones_like(back[:, :1], dtype=torch.bool)


def test_poses_of_thin_stacks_are_those_of_the_world():
    x, y, z = np.moveaxis(Grid((16, 18, 24)).points(), -1, 0)
    body = np.exp(-(((x - 8) / 3) ** 2 + ((y - 9) / 6) ** 2 + ((z - 12) / 5) ** 2))
    # slices in the middle of every fourth
    thin = body.reshape(16, 18, 6, 4).mean(axis=-1)

    def posed(values, spacing):
        images = [Image(values, Grid(values.shape))] * 2
        about = {"rotation": 12.0, "scale": 0.1, "shift": 1.5, "seed": 5}
        return jittered(pairs_from_images(images, 2, 0), **about, spacing=spacing)(0).fixed[:, 0]

    seen = posed(thin, (1.0, 1.0, 4.0))
    meant = posed(body, None).unflatten(-1, (6, 4)).mean(dim=-1)
    blind = posed(thin, None)
    assert (seen - meant).abs().max() < 0.12 < 0.3 < (blind - meant).abs().max()


def test_poses_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected numbers of at least 0, got -1"):
        jittered(pairs, rotation=-1)
    with pytest.raises(ValueError, match="spacing: expected 2 numbers for these pairs"):
        jittered(pairs, spacing=(1.0, 1.0, 4.0))(0)


def test_overlap_falls_with_the_true_map_and_pays_for_structures_that_both_have():
    images, labels = people()
    batch = pairs_from_images([images[0], images[0]], 1, labels=[labels[0], labels[0]])(0)
    batch = batch.labelled(batch.fixed_labels, batch.moving_labels.roll(2, 2))
    objective = LabelOverlap((1, 2, 9))
    truth = torch.zeros(1, 2, *SHAPE)
    truth[:, 0] = 2
    losses = [objective([Displacement.of(share * truth)], batch).item() for share in (0, 0.5, 1)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] == pytest.approx(0, abs=0.01)
    # a label that nobody has takes no part
    assert objective([Displacement.of(0 * truth)], batch) == LabelOverlap((1, 2))([Displacement.of(0 * truth)], batch)
    with pytest.raises(ValueError, match="LabelOverlap: expected pairs with label maps"):
        objective([Displacement.of(truth)], pairs_from_images(images, 1)(0))


def test_maps_of_both_directions_pay_where_they_are_no_inverses():
    both = in_both_directions(lambda step: pairs(step, batch=2))(0)
    shape = tuple(both.fixed.shape[2:])
    turn = torch.tensor([[0.99, -0.1], [0.1, 0.99]])[None].expand(2, 2, 2)
    there = AffineMap(turn, torch.tensor([[1.0, 2.0], [0.5, -1.0]]), shape)
    back = there.inverse()

    def joined(a, b):
        return [AffineMap(torch.cat([a.matrix, b.matrix]), torch.cat([a.translation, b.translation]), shape)]

    objective = InverseConsistent(lambda *_: torch.zeros(()), 1.0)
    assert objective(joined(there, back), both).item() == pytest.approx(0, abs=1e-6)
    assert objective(joined(there, there), both).item() > 0.5
    with pytest.raises(ValueError, match="expected pairs in both directions, got 3"):
        objective(joined(there, back), both[:3])
    assert InverseConsistent(supervised, 0.0)(joined(there, back), both) == supervised(joined(there, back), both)


def test_likeness_is_of_the_image_that_is_warped():
    batch = pairs(0, batch=2)
    found = Likeness()([Displacement.of(batch.flow)], batch)
    assert found < Likeness()([Displacement.of(0 * batch.flow)], batch)
    assert warped(batch.moving, batch.flow).shape == batch.fixed.shape
