"""Pairs for training loops: data sets of PyTorch, MONAI and TorchIO."""

from augreg import _torch  # noqa: F401  # before whatever imports torch
from augreg.streams.loaders import PairStream, ShardStream

__all__ = ["PairStream", "ShardStream"]
