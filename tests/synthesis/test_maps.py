"""The maps of pairs: splines through psi^-1 and psi_2 o psi_1^-1 at the nodes, and from there on the maps by definition."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.draws import drawn
from support.pair_maps import maps_of, pixels, twins
from support.subjects import model

from augreg import Image
from augreg.geometry.resampling import sample
from augreg.geometry.splines import least_determinant
from augreg.sam.alignment import pose_transform
from augreg.sam.textures import mirrored_points
from augreg.synthesis import AppearancePairs, PairBatch, make_pairs, training_pairs
from augreg.synthesis.render.compiled import CompiledArithmetic
from augreg.synthesis.render.renderer import renderer_on

KINDS = ["labels", "landmarks", "landmarks3d", "displacement", "velocity", "velocity3d"]


def known(kind, count=2, seed=3, **options):
    """A generator, a draw, its batch, and the twins of its maps."""
    generator, draw = drawn(count, seed=seed, kind=kind, **options)
    frame = renderer_on(generator.grid, torch.device("cpu")).frame
    return generator, draw, generator.render(draw), twins(maps_of(generator, draw), frame)


@pytest.mark.parametrize("kind", KINDS)
def test_flows_are_the_splines_by_definition_and_the_way_back_undoes_them(kind):
    generator, _, batch, maps = known(kind)
    y = pixels(generator.grid)
    for flow, reverse, mask, twin in zip(batch.flow, batch.reverse, batch.reverse_mask, maps, strict=True):
        u, back = (part.movedim(0, -1).double().numpy() for part in (flow, reverse))
        assert np.abs(twin.phi(y) - y - u).max() < 1e-5
        # B_2(y + u) = B_1(y), and the same of the way back
        assert np.abs(twin.images[1](y + u) - twin.images[0](y)).max() < 2e-5
        there = mask[0].numpy()
        assert there.mean() > 0.5
        assert np.abs(twin.phi(y + back) - y)[there].max() < 2e-5
        assert np.abs(u).max() > 1


@pytest.mark.parametrize("kind", ["labels", "landmarks3d"])
def test_images_are_the_appearance_at_the_splines(kind):
    generator, draw, batch, maps = known(kind, mosaic=0.0, modes=1.0, appearance="independent")
    m = generator.model
    for i, twin in enumerate(maps):
        for k, (image, B) in enumerate(zip((batch.fixed[i, 0], batch.moving[i, 0]), twin.images, strict=True)):
            gain = draw.gain[i, k]
            low, high = (np.clip(bound * gain, *m.range) for bound in m.intensities)
            texture = np.clip(gain * np.clip(m.appearance.instance(draw.modes[i, k]), *m.intensities), low, high)
            at = mirrored_points(m.template.points_at(B(pixels(m.template))), m.template)
            values = sample(Image(texture.reshape(m.template.shape), m.template), at, interpolation="cubic")
            assert np.abs(image.numpy() - np.clip(values, low, high)).max() < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_the_splines_are_near_what_was_drawn(kind):
    """Off the nodes they differ from psi_2 o psi_1^-1 by far less than a pixel: what is drawn is what pairs show."""
    generator, draw, batch, _ = known(kind, 3)
    m = generator.model
    y = m.template.points()
    for i, flow in enumerate(batch.flow):
        first, second = (m.transform(draw.shape[i, k], draw.pose[i, k]) for k in (0, 1))
        wanted = (second(first.solve(y, tolerance=1e-9)) - y) @ m.template.world_to_index.T
        error = np.linalg.norm(flow.movedim(0, -1).numpy() - wanted, axis=-1)
        inner = error[(slice(3, -3),) * m.ndim]
        assert inner.mean() < 0.02
        assert np.quantile(inner, 0.99) < 0.2


@pytest.mark.parametrize("kind", ["labels", "landmarks3d", "velocity"])
def test_shapes_keep_their_mean_and_their_variance_along_every_mode(kind):
    """Landmarks that B takes to the mean shape have the coefficients that were drawn, to a small part of a deviation."""
    generator, draw, _, maps = known(kind, 12, seed=7)
    m = generator.model
    landmarks = m.landmarks if not m.maps.dense else m.template.points()[(slice(6, -6, 6),) * m.ndim].reshape(-1, m.ndim)
    errors, spread = [], []
    for i, twin in enumerate(maps):
        for k, B in enumerate(twin.images):
            found = m.template.points_at(B.solve(m.template.indices_at(landmarks), tolerance=1e-9))
            wanted = m.transform(draw.shape[i, k], draw.pose[i, k])(landmarks)
            errors.append(found - wanted)
            spread.append(pose_transform(draw.pose[i, k], m.center).solve(wanted) - landmarks)
    errors, spread = np.stack(errors), np.stack(spread)
    assert spread.std() > 0.3
    assert np.abs(errors.mean(axis=0)).max() < 0.1 * spread.std()
    assert errors.std() < 0.03 * spread.std()
    if m.maps.dense:
        return
    drawn_b = draw.shape.reshape(-1, m.shape.rank)
    off = (errors.reshape(len(errors), -1) @ m.shape.basis) / np.sqrt(m.shape.variance)
    leading = m.shape.variance > 0.01 * m.shape.variance[0]
    assert np.abs(off[:, leading].mean(axis=0)).max() < 0.05
    ratio = (drawn_b + off)[:, leading].std(axis=0) / drawn_b[:, leading].std(axis=0)
    assert np.abs(ratio - 1).max() < 0.1


@pytest.mark.parametrize(
    ("kind", "amplitude"), [("labels", 1.0), ("labels", 4.0), ("landmarks3d", 1.0), ("landmarks3d", 3.0), ("velocity", 1.0)]
)
def test_no_map_of_a_pair_folds(kind, amplitude):
    """The splines themselves keep the bound that holds for psi, whatever was drawn; a shrunk one makes an exact pair."""
    generator, _, batch, maps = known(kind, 4, amplitude=amplitude)
    y = pixels(generator.grid)
    for i, twin in enumerate(maps):
        least = min(least_determinant(spline.coefficients[None], spline.grid)[0] for spline in twin.splines)
        assert least >= 0.1
        assert batch.least_det[i] == pytest.approx(least, abs=1e-9)
        if amplitude == 1:
            fine = min(least_determinant(spline.coefficients[None], spline.grid, per_cell=5)[0] for spline in twin.splines)
            assert fine > 0.05
        u = batch.flow[i].movedim(0, -1).double().numpy()
        assert np.abs(twin.images[1](y + u) - twin.images[0](y)).max() < 2e-5
    if amplitude > 3:
        assert batch.shrunk


def test_an_image_that_does_not_move_is_the_base():
    """Whichever of the two stays as it is, its B is the identity, and one of the two ways is a spline."""
    generator, draw = drawn(2, pose=0.0)
    draw.shape[0, 0] = 0  # the fixed image of the first pair
    draw.shape[1, 1] = 0  # the moving one of the second
    maps = maps_of(generator, draw)
    assert maps.swapped.tolist() == [True, False]
    assert maps.base.abs().max() < 1e-12
    batch = generator.render(draw)
    assert batch.residual[0] > 0
    assert batch.residual[1] == 0
    frame = renderer_on(generator.grid, torch.device("cpu")).frame
    turned = [type(maps)(*(part if part.dtype != torch.bool else ~part for part in vars(maps).values()))]
    phi = twins(type(maps)(*(part[:1] for part in vars(turned[0]).values())), frame)[0].phi
    y = pixels(generator.grid)
    back, flow = (part[0].movedim(0, -1).double().numpy() for part in (batch.reverse, batch.flow))
    assert np.abs(phi(y) - y - back).max() < 1e-5
    assert np.abs(phi(y + flow) - y)[batch.mask[0, 0].numpy()].max() < 2e-5


def test_the_way_back_is_made_when_it_is_asked_for():
    generator, draw = drawn(3)
    batch = generator.render(draw)
    chosen = batch[torch.tensor([2, 0])].to("cpu")
    joined = type(batch).concatenate([batch[:1], chosen])
    assert "found" not in vars(batch.back)
    assert torch.equal(joined.reverse, batch.reverse[torch.tensor([0, 2, 0])])
    assert torch.equal(joined.reverse_mask, batch.reverse_mask[torch.tensor([0, 2, 0])])
    assert "found" in vars(batch.back)
    assert torch.equal(batch.exchanged().flow, batch.reverse)
    assert torch.equal(batch.exchanged().reverse, batch.flow)


@pytest.mark.parametrize("labels", ["labels", "landmarks"])
def test_label_maps_are_made_when_they_are_asked_for(labels, monkeypatch):
    made = []
    known = CompiledArithmetic.nearest
    monkeypatch.setattr(CompiledArithmetic, "nearest", lambda *given: made.append(1) or known(*given))
    generator = AppearancePairs(model(labels))
    batch = make_pairs(generator, 3, range(4))
    some = PairBatch.concatenate([batch[1:3], batch.exchanged()])
    pair = next(training_pairs(batch, generator.grid))
    assert np.array_equal(pair.fixed.values, batch.fixed[0, 0])
    assert np.array_equal(pair.displacement.grid.shape, batch.flow.shape[2:])
    assert not made
    assert ("fixed_labels" in batch.names) == ("moving_labels" in pair.names) == (labels == "labels")
    if labels == "landmarks":
        assert batch.fixed_labels is None
        assert batch.chosen(("fixed", "mask")).keys() == {"fixed", "mask"}
        with pytest.raises(ValueError, match=r"parts: expected some of fixed, moving, .* got fixed_labels"):
            batch.chosen(("fixed", "fixed_labels"))
        return
    # the bits do not tell when they were asked for, nor in which company
    whole = make_pairs(generator, 3, range(4)).parts
    assert torch.equal(some.moving_labels[:2], whole["moving_labels"][1:3])
    assert torch.equal(some.fixed_labels[2:], whole["moving_labels"])
    assert np.array_equal(pair.fixed_labels.values, whole["fixed_labels"][0, 0])
    assert torch.equal(pickle.loads(pickle.dumps(batch)).moving_labels, whole["moving_labels"])
    assert torch.equal(batch.labelled(None, None).flow, batch.flow)
    assert PairBatch.of(whole).parts.keys() == whole.keys()


def test_pairs_without_the_way_back_say_so():
    batch = replace(make_pairs(AppearancePairs(model()), 3, range(2)), back=None)
    assert "reverse" not in batch.names
    assert batch[:1].back is None
    assert PairBatch.of(batch.parts).back is None
    assert PairBatch.concatenate([batch, batch]).back is None
    with pytest.raises(ValueError, match="reverse: expected pairs with the way back"):
        batch.exchanged()
