"""What a network learns from and how, as data: command line, demo and experiments build their trainings from one recipe alike.

Recipe, Turn                     data: how pairs are drawn and seen, the network, what is minimised, steps and rates
DEFAULT, HEART, ...              those that were measured, and why they are as they are; `named` finds them by name
fresh_pairs, shown, ...          what is built from a recipe, a source of pairs and a seed
"""

from augreg.recipes.lessons import (
    first_network,
    fresh_pairs,
    learner_of,
    objective,
    pairs_at_hand,
    pairs_held_out,
    pool,
    shown,
    training_options,
    turn_pairs,
)
from augreg.recipes.named import (
    BRAIN,
    BRAINS,
    CONTRASTS,
    DEFAULT,
    DEMO,
    HEART,
    HEARTS,
    LUNGS,
    MULTIMODAL,
    PAIRS,
    PHASES,
    named,
    read_recipe,
)
from augreg.recipes.priors import check_model, fields_for_critic, needs_model
from augreg.recipes.recipe import Recipe, Turn
from augreg.recipes.words import objective_words

__all__ = [
    "BRAIN",
    "BRAINS",
    "CONTRASTS",
    "DEFAULT",
    "DEMO",
    "HEART",
    "HEARTS",
    "LUNGS",
    "MULTIMODAL",
    "PAIRS",
    "PHASES",
    "Recipe",
    "Turn",
    "check_model",
    "fields_for_critic",
    "first_network",
    "fresh_pairs",
    "learner_of",
    "named",
    "needs_model",
    "objective",
    "objective_words",
    "pairs_at_hand",
    "pairs_held_out",
    "pool",
    "read_recipe",
    "shown",
    "training_options",
    "turn_pairs",
]
