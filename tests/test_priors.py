"""What maps are held to in words: shapes of a model, and critics with what they take for real."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import subjects

from augreg import recipes
from augreg.geometry.grid import Grid
from augreg.networks import affine_free
from augreg.recipes import DEFAULT, check_model, fields_for_critic, first_network, learner_of, objective
from augreg.recipes.priors import critic_weight, held_to, prior_words
from augreg.synthesis import ModelField, draw_flows, pair_rngs
from augreg.training import FlowLearner, JudgedLearner, Machine, Plausible, TrainingOptions, learn, supervised
from augreg.training.batches import pairs_from_generators

MODEL = subjects.model()
GRID = MODEL.template
DISC = (np.linalg.norm(np.indices(GRID.shape).T - np.array(GRID.shape) / 2, axis=-1).T < 9).astype(np.int32)


def labels(count=3):
    return np.stack([np.roll(DISC, 2 * number, 0) for number in range(count)])


def test_words_have_weights_and_a_critic_is_one_of_them():
    assert prior_words("none") == {}
    assert prior_words("critic=elastic:0.5+plausible") == {"critic=elastic": 0.5, "plausible": 0.03}
    assert critic_weight("critic=elastic:0.5+plausible") == 0.5
    assert critic_weight("plausible") == 0


def test_plausible_is_added_with_its_weight_and_needs_a_model():
    held = held_to("plausible:0.5", supervised, MODEL)
    assert isinstance(held, Plausible)
    assert (held.weight, held.model, held.objective) == (0.5, MODEL, supervised)
    assert held_to("critic=model", supervised, None) is supervised
    assert isinstance(objective(replace(DEFAULT, prior="plausible"), model=MODEL), Plausible)
    with pytest.raises(
        ValueError, match=r"prior: expected an appearance model for plausible, got none; give --shapes MODEL\.npz"
    ):
        objective(replace(DEFAULT, prior="plausible"))


def test_a_model_of_other_images_is_refused():
    check_model("plausible", MODEL, GRID.shape, GRID.spacing)
    check_model("critic=model", MODEL, (9, 9), (3.0, 3.0))
    with pytest.raises(ValueError, match="prior: expected a model of images as the pairs"):
        check_model("plausible", MODEL, (GRID.shape[0] + 1, GRID.shape[1]), GRID.spacing)
    with pytest.raises(ValueError, match=r"voxels of 2 x 2 mm, got .* of 1\.2 x 0\.9"):
        check_model("plausible", MODEL, GRID.shape, (2.0, 2.0))
    with pytest.raises(ValueError, match="prior: expected a model in 3-D, as the pairs, got 2-D"):
        check_model("critic=model", MODEL, (9, 9, 9), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("word", ["critic=elastic", "critic=model"])
def test_a_critic_sees_fields_of_its_prior_and_processes_have_the_batch_of_one(word):
    known = {"labels": labels(), "model": MODEL, "seed": 4}
    sees = fields_for_critic(word, 4, GRID, **known)
    parts = [fields_for_critic(word, 4, GRID, part=part, **known) for part in (slice(0, 1), slice(1, 4))]
    whole = sees.drawn(7)
    assert whole.shape == (4, 2, *GRID.shape)
    assert torch.equal(torch.cat([part.drawn(7) for part in parts]), whole)
    assert not torch.equal(sees.drawn(8), whole)
    twice = fields_for_critic(word, 4, GRID, doubled=True, **known)
    assert len(twice.drawn(7)) == 8
    # they bend
    assert affine_free(whole, torch.ones(4, 1, *GRID.shape, dtype=torch.bool)).square().mean() > 1e-3
    if word == "critic=model":
        alike = draw_flows([ModelField(MODEL)], GRID, pair_rngs(4, range(96))).float()
        assert all(any(torch.equal(one, other) for other in alike) for one in whole)


def test_a_critic_without_what_its_fields_are_made_of_is_refused():
    assert fields_for_critic("plausible", 2, GRID) is None
    with pytest.raises(ValueError, match="prior: expected label maps for critic=elastic, which are its tissues, got none"):
        fields_for_critic("critic=elastic", 2, GRID)
    with pytest.raises(ValueError, match="prior: expected an appearance model for critic=model, got none"):
        fields_for_critic("critic=model", 2, GRID)


def test_a_recipe_with_a_critic_has_a_learner_with_one(tmp_path):
    recipe = replace(
        DEFAULT, prior="critic=elastic:0.3", batch=2, steps=3, width=1 / 16, weight_decay=0.0, clip=2.0, centred=True
    )
    network = first_network(recipe, 2, 0)
    batches = pairs_from_generators(lambda _: recipes.turn_pairs(recipe, recipe.turns[0], MODEL), 2)
    sees = fields_for_critic(recipe.prior, 2, Grid(GRID.shape), labels=labels())
    learner = learner_of(recipe, network, batches, (1.0, 1.0), supervised, sees=sees, seed=1)
    assert isinstance(learner, JudgedLearner)
    assert (learner.weight, learner.warm_up, learner.clip, learner.centred) == (0.3, 1, 2.0, True)
    again = learner_of(recipe, network, batches, (1.0, 1.0), supervised, sees=sees, seed=1)
    other = learner_of(recipe, network, batches, (1.0, 1.0), supervised, sees=sees, seed=2)
    weights = [torch.cat([p.flatten() for p in one.critic.parameters()]) for one in (learner, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    states = list(learn(learner, tmp_path, TrainingOptions(steps=2, machine=Machine("cpu", threads=1))))
    assert {"critic", "made", "real"} <= states[-1].numbers.keys()
    plain = learner_of(recipe, network, batches, (1.0, 1.0), supervised)
    assert isinstance(plain, FlowLearner)
    assert (plain.clip, plain.centred) == (2.0, True)
