"""ConvexAdam of volumes: MIND features, coupled convex optimisation, Adam; its defaults, in float32, which is all a CPU has.

It has no affine part and wants two images on one grid: it gets augreg's affine map, in its time, and images of which the voxels
are cubes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

import augreg as ar
from augreg.threads import set_threads
from benchmarks.registration.rivals import Array, Maps, field_maps


def use(threads: int) -> None:
    """Of torch, and of the affine part."""
    torch.set_num_threads(threads)
    set_threads(threads)


def image(values: npt.NDArray[np.float32], spacing: tuple[float, ...]) -> ar.Image:
    """Axes along those of the world."""
    return ar.Image(values, ar.Grid(values.shape, spacing))


def convex(fixed: ar.Image, moving: ar.Image) -> Maps:
    """augreg's affine map, then ConvexAdam."""
    start = ar.LPRegistration(transform="affine")(fixed, moving)
    cubes = fixed.grid.with_spacing(min(fixed.grid.spacing))
    images = [ar.warp(fixed, ar.Affine.identity(3), cubes).values, ar.warp(moving, start, cubes).values]
    # to be added to the index of a voxel
    steps = convex_adam_pt(*images, dtype=torch.float32, device=torch.device("cpu"))

    def maps(points: Array) -> Array:
        inside = cubes.indices_at(fixed.grid.points_at(points))
        moved = field_maps(np.asarray(steps))(inside)
        return moving.grid.indices_at(start(cubes.points_at(moved)))

    return maps
