"""Training pairs with exact ground truth: drawn at random, rendered deterministically."""

from importlib import import_module
from typing import Any

from augreg import _torch  # noqa: F401  # before whatever imports torch
from augreg.synthesis.generators.appearance import AppearancePairs
from augreg.synthesis.generators.deformations import RandomDeformations, magnitudes_of
from augreg.synthesis.generators.elastic import ElasticField
from augreg.synthesis.generators.fields import BSplineField, SmoothField, ZeroField
from augreg.synthesis.generators.flows import draw_flows
from augreg.synthesis.generators.instances import AppearanceDraw
from augreg.synthesis.generators.lungs import MixedField, RespiratoryField, lung_fields
from augreg.synthesis.generators.motions import CorrespondenceField
from augreg.synthesis.generators.registered import StoredPairs, registered_pairs
from augreg.synthesis.generators.shapes import ModelField
from augreg.synthesis.later import Later
from augreg.synthesis.pairs import Draw, PairBatch, PairGenerator, TrainingPair, make_pairs, pair_rngs, training_pairs

__all__ = [  # some come from `__getattr__`
    "AppearanceDraw",
    "AppearancePairs",
    "BSplineField",
    "CorrespondenceField",
    "Draw",
    "ElasticField",
    "Later",
    "MixedField",
    "ModelField",
    "PairBatch",
    "PairGenerator",
    "PairStream",
    "RandomDeformations",
    "RespiratoryField",
    "ShardState",
    "ShardStream",
    "SmoothField",
    "StoredPairs",
    "TrainingPair",
    "ZeroField",
    "draw_flows",
    "lung_fields",
    "magnitudes_of",
    "make_pairs",
    "pair_rngs",
    "read_shards",
    "registered_pairs",
    "training_pairs",
    "write_shards",
]

# what is done with pairs has packages of its own above this one; people know these names from here
_ABOVE = {
    "ShardState": "augreg.shards",
    "read_shards": "augreg.shards",
    "write_shards": "augreg.shards",
    "PairStream": "augreg.streams",
    "ShardStream": "augreg.streams",
}


def __getattr__(name: str) -> Any:
    if name in _ABOVE:
        return getattr(import_module(_ABOVE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
