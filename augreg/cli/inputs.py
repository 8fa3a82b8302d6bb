"""What several commands ask of their input."""

from __future__ import annotations

import argparse
import math

import augreg as ar


def transform_of(options: argparse.Namespace, path: str) -> ar.Transform:
    """The transform of a file, read as `--convention` says."""
    return ar.read_transform(path, convention=options.convention)


def labels_of(path: str | None) -> ar.Labels | None:
    """The label map of an option that may not be given."""
    return ar.read_labels(path) if path else None


def reference_of(options: argparse.Namespace) -> ar.Grid | None:
    """The grid of `-r`, which may not be given."""
    return ar.read_image(options.reference).grid if options.reference else None


def check_dimension(transform: ar.Transform, grid: ar.Grid) -> None:
    """Refuse a transform of another dimension than the image's."""
    if transform.ndim != grid.ndim:
        raise ValueError(f"transform: expected a {grid.ndim}-D one, as the image, got {transform.ndim}-D")


def check_both_or_none(options: argparse.Namespace, name: str) -> None:
    """Refuse labels or points of one image alone."""
    if (getattr(options, f"fixed_{name}") is None) != (getattr(options, f"moving_{name}") is None):
        raise ValueError(f"--fixed-{name}, --moving-{name}: expected both or none, got one of them")


def fill_of(given: float, moving: ar.Image | ar.Labels) -> float:
    """The value outside the moving image, which its pixels must be able to hold."""
    import numpy as np

    kind = moving.values.dtype
    if kind.kind in "biu":
        low, high = (0, 1) if kind.kind == "b" else (np.iinfo(str(kind)).min, np.iinfo(str(kind)).max)
        if not math.isfinite(given):
            raise ValueError(f"--fill: expected a finite number for {kind} pixels, got {given}")
        if not low <= given <= high:
            raise ValueError(f"--fill: expected {low} to {high}, what {kind} pixels hold, got {given:g}")
    return given
