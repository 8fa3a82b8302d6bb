"""Networks and objectives as a recipe names them."""

from dataclasses import replace

import pytest
import torch
from support import flows, subjects

from augreg import recipes
from augreg.networks import AffineFlow, Antisymmetric, Cascade, FlowNetS, Marked, Moments, UNet, network_of
from augreg.recipes import DEFAULT, HEARTS, MULTIMODAL, first_network, objective, objective_words, shown
from augreg.recipes.shapes import MAPS, TRUNKS, fitting_strides, network_as
from augreg.recipes.words import WORDS, objective_of
from augreg.synthesis import PairBatch
from augreg.training import Machine, Outlined, Place, supervised


@pytest.mark.parametrize(("kind", "trunk"), [*((kind, "RegNet") for kind in MAPS), *(("velocity", trunk) for trunk in TRUNKS)])
def test_every_map_has_every_trunk_and_its_description_makes_it_again(kind, trunk):
    marks = {"marks": 2, "markers": 2} if kind == "moments" else {}
    scales = (1,) if kind == "moments" else (2, 1)
    made = [network_as(kind, trunk, scales, 2, 0.03125, seed=seed, **marks) for seed in (0, 0, 1)]
    states = [torch.cat([p.flatten() for p in network.parameters()]) for network in made]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    again = network_of(made[0].description)
    again.load_state_dict(made[0].state_dict())
    images = torch.rand(2, 1, 1, 33, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(*images)[0].flow(), made[0](*images)[0].flow())


def test_a_cascade_begins_with_an_affine_map_and_goes_from_coarse_to_fine():
    network = network_as("cascade", "UNet", (4, 2, 1), 3, 0.25, shape=(32, 32, 8))
    assert isinstance(network, Cascade)
    assert isinstance(network.networks[0], AffineFlow)
    assert [part.description.get("scale", [1])[0] for part in list(network.networks)[1:]] == [4, 2, 1]
    assert type(network_as("displacement", "FlowNetS", (1,), 2, 0.0625)) is FlowNetS


def test_recipes_that_mark_have_markers_for_each_structure_and_hold_them_to_labels():
    network = first_network(MULTIMODAL, 3, 0, (24, 32, 22), (4,))
    assert isinstance(network, Marked)
    assert isinstance(network.network, Moments)
    assert [(marker.marks, marker.finest) for marker in network.markers] == [(1, 1)] * 2
    network = first_network(HEARTS, 2, 0, (64, 60), (1, 2, 3))
    assert [marker.marks for marker in network.markers] == [3]
    assert isinstance(network.network, Antisymmetric)
    assert isinstance(network.network.network.network, UNet)
    held = objective(HEARTS, (2.0, 2.0), (1, 2, 3))
    assert isinstance(held, Outlined)
    assert held.structures == held.objective.objective.structures == (1, 2, 3)
    with pytest.raises(ValueError, match="marks: expected labels in the objective, which they are held to, got likeness"):
        objective(replace(HEARTS, objective="likeness"))
    with pytest.raises(ValueError, match="map: expected --marks one or two for moments, got none"):
        first_network(replace(MULTIMODAL, marks="none"), 3, 0)
    with pytest.raises(ValueError, match="scales: expected 1 alone for moments"):
        first_network(replace(MULTIMODAL, scales=(2, 1)), 3, 0)
    with pytest.raises(ValueError, match="antisymmetric: expected the map velocity, whose inverse is known, got cascade"):
        first_network(replace(HEARTS, map="cascade"), 2, 0)


def test_pairs_are_moved_by_mm_and_lit_before_a_structure_is_drawn():
    labels = torch.zeros(2, 1, 24, 24, dtype=torch.int32)
    labels[:, :, 8:16, 8:16] = 1
    labels[:, :, 10:14, 10:14] = 2
    pairs = PairBatch.without_truth(labels.float(), labels.float()).labelled(labels, labels)
    recipe = replace(MULTIMODAL, batch=2, noise=0.0, gamma=0.0)
    kept = shown(recipe, lambda _: pairs, 0, spacing=(3.0, 3.0))(0)
    assert set(kept.fixed_labels.unique().tolist()) == {0, 1, 2}
    drawn = shown(replace(recipe, marks="none"), lambda _: pairs, 0, spacing=(3.0, 3.0))(0)
    assert set(drawn.fixed_labels.unique().tolist()) == {0, 1}
    assert torch.equal(drawn.fixed, kept.fixed)
    # twice as many mm are twice as many voxels
    shifts = replace(recipe, jitter=(0.0, 9.0), bend=0.0, shade=0.0)
    found = [shown(shifts, lambda _: pairs, 0, spacing=(side, side))(0).fixed_labels > 0 for side in (6.0, 3.0)]
    centers = [
        torch.stack([torch.nonzero(one[0]).float().mean(0) for one in side]) - torch.tensor([11.5, 11.5]) for side in found
    ]
    torch.testing.assert_close(2 * centers[0], centers[1], atol=1.1, rtol=0)
    assert centers[1].abs().max() > 1


def test_the_recipe_of_contrasts_shows_what_that_of_brains_shows_in_contrasts_of_its_own():
    brain, contrasts = (recipes.named(name) for name in ("brain", "contrasts"))
    plain, changed = (shown(recipe, recipes.fresh_pairs(recipe, subjects.model(), 3), 3)(0) for recipe in (brain, contrasts))
    assert torch.equal(plain.flow.nan_to_num(), changed.flow.nan_to_num())
    for name in ("fixed", "moving"):
        for before, after in zip(getattr(plain, name), getattr(changed, name), strict=True):
            order = before.flatten().argsort()
            rises = after.flatten()[order][:: max(1, len(order) // 40)].diff()
            # up and down again
            assert rises.clamp(min=0).sum() > 0.05 * rises.abs().sum()
            assert (-rises).clamp(min=0).sum() > 0.05 * rises.abs().sum()


def test_patches_of_a_recipe_are_as_bright_as_parts_of_whole_images():
    recipe = replace(DEFAULT, architecture="UNet", width=0.25, tile=16, batch=2)
    network, seen = first_network(recipe, 2, 0, (16, 16)), []
    network.register_forward_pre_hook(lambda _, images: seen.append(images))
    learner = recipes.learner_of(recipe, network, lambda step: flows.pairs(step, 2), (1.0, 1.0), supervised)
    learner.begin(Place.of(Machine("cpu", threads=1)))
    learner.step(3, 1e-3)
    whole = flows.pairs(3, 2)
    for side, images in zip((whole.fixed, whole.moving), seen[0], strict=True):
        assert images.shape == (2, 1, 16, 16)
        for patch, image in zip(images[:, 0], network.prepare(side)[:, 0], strict=True):
            windows = image.unfold(0, 16, 1).unfold(1, 16, 1)
            assert (windows - patch).abs().amax(dim=(-1, -2)).min() < 1e-5


def test_a_unet_leaves_thin_axes_alone():
    assert fitting_strides((64, 64, 12)) == ((2, 2, 2), (2, 2, 1), (2, 2, 1), (2, 2, 1))
    assert fitting_strides((9, 3)) == ((2, 1),)


@pytest.mark.parametrize(
    ("kind", "trunk", "scales", "shape", "said"),
    [
        ("displacement", "FlowNetS", (1,), (64, 64, 12), "64 voxels or more along each axis for the strides of FlowNetS"),
        ("velocity", "FlowNetS", (8, 1), (96, 130), "128 voxels or more along each axis for the strides of FlowNetS at scale 8"),
        ("displacement", "FlowNetS", (4,), (130, 130), "256 voxels or more"),
        ("displacement", "RegNet", (4, 1), (40, 7), "8 voxels or more"),
        ("displacement", "UNet", (1,), (7, 7), "8 voxels or more"),
        ("affine", "FlowNetS", (1,), (40, 15), "16 voxels or more along each axis for the strides of an affine map"),
    ],
)
def test_images_thinner_than_the_strides_are_refused(kind, trunk, scales, shape, said):
    with pytest.raises(ValueError, match="expected images of") as caught:
        network_as(kind, trunk, scales, len(shape), 0.0625, shape=shape)
    assert said in str(caught.value)


def test_words_are_objectives_and_add_up():
    assert objective_words("ncc+labels:2") == [("likeness", 1.0), ("labels", 2.0)]
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 2, 1, 24, 20, generator=generator)
    pairs = PairBatch.without_truth(*images)
    labels = (images[0] > 0.5).int(), (images[1] > 0.4).int()
    pairs = replace(pairs, flow=torch.randn(2, 2, 24, 20, generator=generator)).labelled(*labels)
    with torch.no_grad():
        maps = network_as("velocity", "RegNet", (1,), 2, 0.1)(*images)
    alone = {word: float(objective_of(word)(maps, pairs)) for word in WORDS}
    assert len({round(value, 6) for value in alone.values()}) == len(WORDS)
    both = float(objective_of("mind:3+labels:0.5")(maps, pairs))
    assert both == pytest.approx(3 * alone["mind"] + 0.5 * alone["labels"], rel=1e-5)
    # the width of what is smoothed is in mm
    assert float(objective_of("labels", (4.0, 1.0))(maps, pairs)) != pytest.approx(alone["labels"], rel=1e-3)


@pytest.mark.parametrize("text", ["", "words", "mind+mind", "ncc+likeness", "mind:0", "mind:many", "mind:"])
def test_other_words_are_refused(text):
    with pytest.raises(ValueError, match="objective: expected one or more of truth, velocity, likeness"):
        objective_words(text)


def test_an_objective_with_labels_sees_one_structure_at_a_time():
    images = torch.rand(2, 3, 1, 16, 16)
    maps = torch.randint(0, 5, (2, 3, 1, 16, 16), dtype=torch.int32)
    pairs = PairBatch.without_truth(*images)
    pairs = pairs.labelled(*maps)
    recipe = recipes.Recipe(objective="likeness+labels", batch=3)
    shown = recipes.shown(recipe, lambda _: pairs, 0)(0)
    assert set(shown.fixed_labels.unique().tolist()) == {0, 1}
    plain = recipes.shown(DEFAULT, lambda _: pairs, 0)(0)
    assert torch.equal(plain.fixed_labels, maps[0])


def test_recipes_of_brains_and_lungs_have_three_scales_and_brains_no_more_parameters():
    brains, brain, lungs = (recipes.first_network(recipes.named(name), 2, 0) for name in ("brains", "brain", "lungs"))
    for network in (brains, lungs):
        assert [part.description.get("scale", [1])[0] for part in network.networks] == [4, 2, 1]
    count, wanted = (sum(part.numel() for part in network.parameters()) for network in (brains, brain))
    assert 0.95 * wanted < count < 1.02 * wanted
    # of real pairs nothing is known: no truth, and volumes of few slices are welcome
    assert dict(objective_words(recipes.named("lungs").objective)) == {"likeness": 1.0}
    thin = recipes.first_network(recipes.named("lungs"), 3, 0, shape=(64, 64, 12))
    images = torch.rand(2, 1, 1, 64, 64, 12)
    assert thin.predict(*images).flow().shape == (1, 3, 64, 64, 12)
