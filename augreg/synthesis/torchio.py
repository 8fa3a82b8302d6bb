"""The transforms for TorchIO, under the name by which people know them; see `augreg.streams.torchio`."""

from augreg.streams.torchio import RandomPair

__all__ = ["RandomPair"]
