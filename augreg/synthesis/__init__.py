"""Training pairs with exact ground truth: drawn at random, rendered deterministically, streamed or written to shards."""

from augreg.synthesis.appearance import AppearanceDraw, AppearancePairs
from augreg.synthesis.pairs import PairBatch, PairGenerator, TrainingPair, make_pairs, pair_rngs, training_pairs
from augreg.synthesis.shards import ShardState, read_shards, write_shards
from augreg.synthesis.streams import PairStream, ShardStream

__all__ = [
    "AppearanceDraw",
    "AppearancePairs",
    "PairBatch",
    "PairGenerator",
    "PairStream",
    "ShardState",
    "ShardStream",
    "TrainingPair",
    "make_pairs",
    "pair_rngs",
    "read_shards",
    "training_pairs",
    "write_shards",
]
