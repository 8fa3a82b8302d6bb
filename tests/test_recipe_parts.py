"""Networks and objectives as a recipe names them."""

import pytest
import torch

from augreg import recipes
from augreg.networks import AffineFlow, Cascade, FlowNetS, network_of
from augreg.recipes import DEFAULT, objective_words
from augreg.recipes.shapes import MAPS, TRUNKS, fitting_strides, network_as
from augreg.recipes.words import WORDS, objective_of
from augreg.synthesis import PairBatch


@pytest.mark.parametrize(("kind", "trunk"), [*((kind, "RegNet") for kind in MAPS), *(("velocity", trunk) for trunk in TRUNKS)])
def test_every_map_has_every_trunk_and_its_description_makes_it_again(kind, trunk):
    made = [network_as(kind, trunk, (2, 1), 2, 0.03125, seed=seed) for seed in (0, 0, 1)]
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


def test_a_unet_leaves_thin_axes_alone():
    assert fitting_strides((64, 64, 12)) == ((2, 2, 2), (2, 2, 1), (2, 2, 1), (2, 2, 1))
    assert fitting_strides((9, 3)) == ((2, 1),)


@pytest.mark.parametrize(
    ("kind", "trunk", "scales", "shape", "said"),
    [
        ("displacement", "FlowNetS", (1,), (64, 64, 12), "64 voxels or more along each axis for the strides of FlowNetS"),
        ("velocity", "FlowNetS", (2, 1), (96, 96), "128 voxels or more along each axis for the strides of FlowNetS at scale 2"),
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
    pairs.__dict__.update(flow=torch.randn(2, 2, 24, 20, generator=generator), fixed_labels=labels[0], moving_labels=labels[1])
    with torch.no_grad():
        maps = network_as("displacement", "RegNet", (1,), 2, 0.1)(*images)
    alone = {word: float(objective_of(word)(maps, pairs)) for word in WORDS}
    assert len({round(value, 6) for value in alone.values()}) == len(WORDS)
    both = float(objective_of("mind:3+labels:0.5")(maps, pairs))
    assert both == pytest.approx(3 * alone["mind"] + 0.5 * alone["labels"], rel=1e-5)
    # the width of what is smoothed is in mm
    assert float(objective_of("labels", (4.0, 1.0))(maps, pairs)) != pytest.approx(alone["labels"], rel=1e-3)


@pytest.mark.parametrize("text", ["", "words", "mind+mind", "ncc+likeness", "mind:0", "mind:many", "mind:"])
def test_other_words_are_refused(text):
    with pytest.raises(ValueError, match="objective: expected one or more of truth, likeness"):
        objective_words(text)


def test_an_objective_with_labels_sees_one_structure_at_a_time():
    images = torch.rand(2, 3, 1, 16, 16)
    maps = torch.randint(0, 5, (2, 3, 1, 16, 16), dtype=torch.int32)
    pairs = PairBatch.without_truth(*images)
    pairs.__dict__.update(fixed_labels=maps[0], moving_labels=maps[1])
    recipe = recipes.Recipe(objective="likeness+labels", batch=3)
    shown = recipes.shown(recipe, lambda _: pairs, 0)(0)
    assert set(shown.fixed_labels.unique().tolist()) == {0, 1}
    plain = recipes.shown(DEFAULT, lambda _: pairs, 0)(0)
    assert torch.equal(plain.fixed_labels, maps[0])
