"""Fold-free dense registration on local correlation: a last stage, for people who differ."""

from augreg.dense.register import DenseRegistration

__all__ = ["DenseRegistration"]
