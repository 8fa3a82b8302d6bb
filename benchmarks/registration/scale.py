"""Time against size: a fundus at 256 to 4096 pixels, by augreg and OpenCV."""

from __future__ import annotations

import argparse

from benchmarks.registration import run as registration
from benchmarks.registration.table import rendered

__all__ = ["options", "rendered", "run"]


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    registration.options(parser)
    parser.set_defaults(only=["affine-scale", "elastic-scale"], rivals=["augreg", "opencv"])


def run(options: argparse.Namespace) -> None:
    """As pairs of other kinds."""
    registration.run(options)
