"""Training pairs with exact ground truth: drawn at random, rendered deterministically, streamed or written to shards."""

from augreg.synthesis.appearance import AppearanceDraw, AppearancePairs
from augreg.synthesis.deformations import RandomDeformations, magnitudes_of
from augreg.synthesis.fields import BSplineField, RespiratoryField, SmoothField, ZeroField, lung_fields
from augreg.synthesis.pairs import PairBatch, PairGenerator, TrainingPair, make_pairs, pair_rngs, training_pairs
from augreg.synthesis.registered import StoredPairs, registered_pairs
from augreg.synthesis.shards import ShardState, read_shards, write_shards
from augreg.synthesis.streams import PairStream, ShardStream

__all__ = [
    "AppearanceDraw",
    "AppearancePairs",
    "BSplineField",
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
    "lung_fields",
    "magnitudes_of",
    "make_pairs",
    "pair_rngs",
    "read_shards",
    "registered_pairs",
    "training_pairs",
    "write_shards",
]
