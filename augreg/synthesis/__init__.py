"""Training pairs with exact ground truth: drawn at random, rendered deterministically, streamed or written to shards."""

from augreg.synthesis.draw import PairDraw, draw_pairs
from augreg.synthesis.render import PairBatch, TrainingPair, render_pairs, training_pairs

__all__ = ["PairBatch", "PairDraw", "TrainingPair", "draw_pairs", "render_pairs", "training_pairs"]
