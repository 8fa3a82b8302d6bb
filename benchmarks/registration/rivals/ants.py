"""ANTs through antspyx: `Affine` and `SyN`, and the quick script `antsRegistrationSyNQuick` for both, each with its defaults."""

from __future__ import annotations

import ants
import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.registration.rivals import Array, Maps, luminance

_SEED = 1


def use(threads: int) -> None:
    """Nothing: ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS is all it reads."""


def image(values: npt.NDArray[np.float32]) -> ants.ANTsImage:
    """Spacing 1, origin 0."""
    return ants.from_numpy(np.ascontiguousarray(luminance(values)))


def affine(fixed: ants.ANTsImage, moving: ants.ANTsImage) -> Maps:
    """Affine, mutual information."""
    return _register(fixed, moving, "Affine")


def affine_quick(fixed: ants.ANTsImage, moving: ants.ANTsImage) -> Maps:
    """Rigid, affine, mutual information."""
    return _register(fixed, moving, "antsRegistrationSyNQuick[a]")


def syn_quick(fixed: ants.ANTsImage, moving: ants.ANTsImage) -> Maps:
    """Rigid, affine, symmetric normalisation, mutual information."""
    return _register(fixed, moving, "antsRegistrationSyNQuick[s]")


def syn(fixed: ants.ANTsImage, moving: ants.ANTsImage) -> Maps:
    """Affine, symmetric normalisation, mutual information."""
    return _register(fixed, moving, "SyN")


def syn_cc(fixed: ants.ANTsImage, moving: ants.ANTsImage) -> Maps:
    """Rigid, affine, symmetric normalisation, local correlation."""
    return _register(fixed, moving, "SyNCC")


def _register(fixed: ants.ANTsImage, moving: ants.ANTsImage, kind: str) -> Maps:
    transforms = ants.registration(fixed, moving, type_of_transform=kind, random_seed=_SEED)["fwdtransforms"]

    def maps(points: Array) -> Array:
        table = pd.DataFrame(points, columns=["x", "y"])
        return ants.apply_transforms_to_points(2, table, transforms)[["x", "y"]].to_numpy()

    return maps
