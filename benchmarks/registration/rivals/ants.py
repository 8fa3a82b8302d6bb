"""ANTs through antspyx: `Affine` and `SyN`, and the quick script `antsRegistrationSyNQuick` for both, each with its defaults."""

from __future__ import annotations

import tempfile

import ants
import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.registration.rivals import Array, Maps, field_maps, luminance

_SEED = 1


def use(threads: int) -> None:
    """Nothing: ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS is all it reads."""


def image(values: npt.NDArray[np.float32], spacing: tuple[float, ...]) -> ants.ANTsImage:
    """Axes along those of the world."""
    return ants.from_numpy(np.ascontiguousarray(luminance(values, len(spacing))), spacing=list(spacing))


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


def syn_script(fixed: ants.ANTsImage, moving: ants.ANTsImage) -> Maps:
    """Rigid, affine, symmetric normalisation, local correlation, with fewer iterations: the script `antsRegistrationSyN`."""
    return _register(fixed, moving, "antsRegistrationSyN[s]")


def _register(fixed: ants.ANTsImage, moving: ants.ANTsImage, kind: str) -> Maps:
    transforms = ants.registration(fixed, moving, type_of_transform=kind, random_seed=_SEED)["fwdtransforms"]

    def volume_maps(points: Array) -> Array:
        # millions of points: the field of all transforms together, at the voxels of the fixed image
        with tempfile.TemporaryDirectory() as scratch:
            path = ants.apply_transforms(fixed, moving, transforms, compose=f"{scratch}/")
            field = ants.image_read(path).numpy()
        return field_maps(field, (np.array(fixed.spacing), np.array(moving.spacing)))(points)

    def maps(points: Array) -> Array:
        table = pd.DataFrame(points, columns=["x", "y"])
        return ants.apply_transforms_to_points(2, table, transforms)[["x", "y"]].to_numpy()

    return maps if fixed.dimension == 2 else volume_maps
