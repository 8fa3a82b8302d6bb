"""greedy: affine and diffeomorphic registration by neighbourhood NCC, as many levels as fit the size."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from picsl_greedy import Greedy2D

from benchmarks.registration.rivals import Array, Maps, field_maps, levels, luminance, matrix_maps

# iterations of the finest level and of all others
_FINEST, _COARSER = 20, 100


def use(threads: int) -> None:
    """greedy takes the number with every call: keep it where the other libraries look for theirs."""
    os.environ["OMP_NUM_THREADS"] = str(threads)


def image(values: npt.NDArray[np.float32]) -> sitk.Image:
    """Spacing 1, origin 0."""
    return sitk.GetImageFromArray(np.ascontiguousarray(luminance(values).T))


def affine(fixed: sitk.Image, moving: sitk.Image) -> Maps:
    """Affine, from aligned centres."""
    return _matrix(_aligned(fixed, moving))


def deformable(fixed: sitk.Image, moving: sitk.Image) -> Maps:
    """Affine, then a diffeomorphism."""
    greedy = _aligned(fixed, moving)
    greedy.execute(f"-i fixed moving -it affine -o warp {_settings(fixed)}", warp=None)
    start = _matrix(greedy)

    def maps(points: Array) -> Array:
        field = sitk.GetArrayFromImage(greedy["warp"]).swapaxes(0, 1)
        return start(field_maps(field)(points))

    return maps


def _aligned(fixed: sitk.Image, moving: sitk.Image) -> Greedy2D:
    greedy = Greedy2D()
    start = "-a -dof 12 -ia-image-centers"
    greedy.execute(f"-i fixed moving {start} -o affine {_settings(fixed)}", fixed=fixed, moving=moving, affine=None)
    return greedy


def _settings(fixed: sitk.Image) -> str:
    iterations = "x".join([str(_COARSER)] * (levels(fixed.GetSize()) - 1) + [str(_FINEST)])
    return f"-n {iterations} -m NCC 4x4 -threads {os.environ['OMP_NUM_THREADS']} -V 0"


def _matrix(greedy: Greedy2D) -> Maps:
    # greedy's millimetres are RAS: x and y change their signs
    affine = np.asarray(greedy["affine"])
    return matrix_maps(affine[:2, :2], -affine[:2, 2])
