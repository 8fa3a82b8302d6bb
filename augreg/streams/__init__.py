"""Pairs for training loops: data sets of PyTorch, MONAI and TorchIO."""

from augreg.streams.loaders import PairStream, ShardStream

__all__ = ["PairStream", "ShardStream"]
