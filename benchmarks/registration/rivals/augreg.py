"""augreg: `LPRegistration` with its defaults, with mutual information, and quicker and finer B-splines; colour as it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import augreg as ar
from augreg.threads import set_threads
from benchmarks.registration.rivals import Maps


def use(threads: int) -> None:
    """Threads of the kernels."""
    set_threads(threads)


def image(values: npt.NDArray[np.float32], spacing: tuple[float, ...]) -> ar.Image:
    """Axes along those of the world."""
    return ar.Image(values, ar.Grid(values.shape[: len(spacing)], spacing))


def affine(fixed: ar.Image, moving: ar.Image) -> Maps:
    """Affine, NCC."""
    return ar.LPRegistration(transform="affine")(fixed, moving)


def affine_mi(fixed: ar.Image, moving: ar.Image) -> Maps:
    """Affine, mutual information."""
    return ar.LPRegistration(transform="affine", criterion="mi")(fixed, moving)


def bspline(fixed: ar.Image, moving: ar.Image) -> Maps:
    """Affine, then a cubic B-spline, NCC."""
    return ar.LPRegistration()(fixed, moving)


def bspline_mi(fixed: ar.Image, moving: ar.Image) -> Maps:
    """Affine, then a cubic B-spline, mutual information."""
    return ar.LPRegistration(criterion="mi")(fixed, moving)


def bspline_quick(fixed: ar.Image, moving: ar.Image) -> Maps:
    """The preset: a third of the keypoints, fewer steps at the end, no dense stage."""
    return ar.LPRegistration.quick()(fixed, moving)


def bspline_fine(fixed: ar.Image, moving: ar.Image) -> Maps:
    """Forty-two control points along the longest side; tuned on the training people of brain2d."""
    spacing = float(max(fixed.grid.extent)) / 42
    return ar.LPRegistration(grid_spacing=spacing, smoothness=0.0005, profile=(4, 4), keypoints=3000)(fixed, moving)
