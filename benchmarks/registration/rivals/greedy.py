"""greedy: affine and diffeomorphic registration by neighbourhood NCC, as many levels as fit the size."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from picsl_greedy import Greedy2D, Greedy3D

from benchmarks.registration.rivals import Array, Maps, field_maps, levels, luminance, matrix_maps

# iterations of the finest level and of all others; of volumes those of its manual
_FINEST, _COARSER, _VOLUMES = 20, 100, "100x50x10"
# half width of windows, voxels of the least spacing
_WINDOW = 4


def use(threads: int) -> None:
    """greedy takes the number with every call: keep it where the other libraries look for theirs."""
    os.environ["OMP_NUM_THREADS"] = str(threads)


def image(values: npt.NDArray[np.float32], spacing: tuple[float, ...]) -> sitk.Image:
    """Axes along those of the world."""
    found = sitk.GetImageFromArray(np.ascontiguousarray(luminance(values, len(spacing)).T))
    found.SetSpacing(spacing)
    return found


def affine(fixed: sitk.Image, moving: sitk.Image) -> Maps:
    """Affine, from aligned centres."""
    matrix, translation = _matrix(_aligned(fixed, moving))
    return matrix_maps(matrix, translation, _spacings(fixed, moving))


def deformable(fixed: sitk.Image, moving: sitk.Image) -> Maps:
    """Affine, then a diffeomorphism."""
    greedy = _aligned(fixed, moving)
    greedy.execute(f"-i fixed moving -it affine -o warp {_settings(fixed)}", warp=None)
    matrix, translation = _matrix(greedy)

    def maps(points: Array) -> Array:
        ndim = fixed.GetDimension()
        field = sitk.GetArrayFromImage(greedy["warp"]).transpose(*range(ndim)[::-1], ndim)
        here, there = _spacings(fixed, moving)
        moved = field_maps(field, (here, np.ones(1)))(points)
        return matrix_maps(matrix, translation, (np.ones(1), there))(moved)

    return maps


def _spacings(fixed: sitk.Image, moving: sitk.Image) -> tuple[Array, Array]:
    return np.array(fixed.GetSpacing()), np.array(moving.GetSpacing())


def _aligned(fixed: sitk.Image, moving: sitk.Image) -> Greedy2D | Greedy3D:
    greedy = Greedy2D() if fixed.GetDimension() == 2 else Greedy3D()
    start = "-a -dof 12 -ia-image-centers"
    greedy.execute(f"-i fixed moving {start} -o affine {_settings(fixed)}", fixed=fixed, moving=moving, affine=None)
    return greedy


def _settings(fixed: sitk.Image) -> str:
    count, spacing = levels(fixed.GetSize()), np.array(fixed.GetSpacing())
    iterations = "x".join([str(_COARSER)] * (count - 1) + [str(_FINEST)])
    if fixed.GetDimension() == 3:
        iterations = "x".join(_VOLUMES.split("x")[-count:])
    window = "x".join(f"{max(round(_WINDOW * spacing.min() / size), 1)}" for size in spacing)
    return f"-n {iterations} -m NCC {window} -threads {os.environ['OMP_NUM_THREADS']} -V 0"


def _matrix(greedy: Greedy2D | Greedy3D) -> tuple[Array, Array]:
    # greedy's millimetres are RAS: x and y change their signs
    affine = np.asarray(greedy["affine"])
    ndim = len(affine) - 1
    sign = np.array([-1.0, -1.0, 1.0])[:ndim]
    return affine[:ndim, :ndim] * np.outer(sign, sign), affine[:ndim, ndim] * sign
