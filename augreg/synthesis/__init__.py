"""Training pairs with exact ground truth: drawn at random, rendered deterministically, streamed or written to shards."""

from augreg.synthesis.draw import PairDraw, draw_pairs
from augreg.synthesis.render import PairBatch, TrainingPair, render_pairs, training_pairs
from augreg.synthesis.shards import DrawOptions, ShardState, read_shards, write_shards

__all__ = [
    "DrawOptions",
    "PairBatch",
    "PairDraw",
    "ShardState",
    "TrainingPair",
    "draw_pairs",
    "read_shards",
    "render_pairs",
    "training_pairs",
    "write_shards",
]
