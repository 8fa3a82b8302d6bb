"""What a registration does in which order: stages from coarse to fine, first for the matrix group, then for B-splines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.transforms import BSpline
from augreg.keypoints.pyramid import level_spacings
from augreg.lp.models import Group
from augreg.lp.profiles import Bundle, Window

TransformKind = Literal["rigid", "similarity", "affine", "bspline"]

# voxels along the longest axis of the coarsest level
_COARSEST = {2: 64, 3: 40}
# keypoints for the matrix group and for B-splines
_KEYPOINTS = {2: (700, 2000), 3: (2000, 32000)}
# half length and half width of the bundles, voxels of the level
_PROFILE = {2: (6, 2), 3: (6, 1)}
_SMOOTHNESS = {2: 0.003, 3: 0.00004}
# share of it at the finest level in 2-D, of images that agree by correlation: stiffer B-splines bend known warps less than they
# are bent, most of all near borders, and a tenth lets noise in (`python -m benchmarks run smoothness`)
_LAST = 0.4
# of the B-spline along the longest side, unless its spacing is given
_CELLS = 16
# windows of the programs
_FINE = (Window(6, 2),)
_WIDE = (Window(8, 1), Window(6, 2))
_NEAR = (Window(6, 1), Window(6, 2))
# without derivatives the programs go on to fractions of a voxel
_NARROW = (Window(8, 4), Window(8, 8))
# unknowns of a B-spline in 2-D from which on programs cost more than they bring
_MANY = 1000


@dataclass(frozen=True)
class Stage:
    """Some steps at one pyramid level.

    Parameters
    ----------
    level : level of the pyramid, 0 the coarsest
    windows : windows of the programs, one after the other
    polish : Gauss-Newton steps at the end, at most
    keypoints : approximate number of keypoints
    control : spacing of the B-spline's control points in units of the finest one; None for the matrix group
    smooth : share of the plan's smoothness that holds here where the images agree
    """

    level: int
    windows: tuple[Window, ...]
    polish: int
    keypoints: int
    control: float | None = None
    smooth: float = 1.0


@dataclass(frozen=True)
class Plan:
    """All that is decided before the images are looked at.

    Parameters
    ----------
    spacings : voxel sizes of the levels, mm, coarse to fine
    bundle : the shape of what is sampled around a keypoint
    group : group of the matrices
    keypoints : approximate number of keypoints for matrices
    stages : stages of the registration, one after the other
    control : spacing of the finest B-spline, mm
    smoothness : weight of its second differences, cost per voxel and thousand keypoints
    fold_free : bound B-splines so that they are injective
    rough : matrices are only where a dense stage begins
    """

    spacings: tuple[float, ...]
    bundle: Bundle
    group: Group
    keypoints: int
    stages: tuple[Stage, ...]
    control: float
    smoothness: float
    fold_free: bool
    rough: bool = False


def plan_of(
    grid: Grid,
    transform: TransformKind,
    *,
    polish: int,
    fold_free: bool = True,
    keypoints: int | None = None,
    profile: tuple[int, int] | None = None,
    grid_spacing: float | None = None,
    smoothness: float | None = None,
    rough: bool = False,
    alike: bool = True,
) -> Plan:
    """The plan for a fixed image's grid, options as those of `LPRegistration`; None for what is usual in its dimension.

    With `rough` matrices are only where a dense stage begins: finer levels than the second are not made. Images that are `alike`
    are compared by correlation: unless it is given, smoothness falls at the end.
    """
    ndim = grid.ndim
    spacings = level_spacings(grid, _COARSEST[ndim])
    few, many = (keypoints, keypoints) if keypoints else _KEYPOINTS[ndim]
    control = grid_spacing or float(np.max(grid.extent)) / _CELLS
    rough = rough and transform != "bspline"
    spacings = spacings[:2] if rough else spacings
    stages = _matrix_stages(len(spacings), few, polish, rough=rough or transform == "bspline")
    if transform == "bspline" and ndim == 2:
        unknowns = int(BSpline.zeros(grid, control).free.sum()) * ndim
        found = _flat_spline_stages(len(spacings), many, polish, unknowns)
        falls = alike and smoothness is None and polish > 0
        stages += [*found[:-1], replace(found[-1], smooth=_LAST if falls else 1.0)]
    elif transform == "bspline":
        stages += _solid_spline_stages(len(spacings), many, polish)
    return Plan(
        tuple(spacings),
        Bundle(*(profile or _PROFILE[ndim])),
        "affine" if transform == "bspline" else transform,
        few,
        tuple(stages),
        control,
        _SMOOTHNESS[ndim] if smoothness is None else smoothness,
        fold_free,
        rough,
    )


def _matrix_stages(levels: int, keypoints: int, polish: int, *, rough: bool) -> list[Stage]:
    """Of a rigid, similarity or affine map, after the start: the second level, then, unless rough, every other to the finest."""
    last = levels - 1 if not rough else min(1, levels - 1)
    stages = []
    for level in sorted({min(1, last), *range(last, 0, -2)}):
        windows = _FINE + _NARROW if level == last and polish == 0 else _FINE
        stages.append(Stage(level, windows, polish if level == last and not rough else min(polish, 1), keypoints))
    return stages


def _flat_spline_stages(levels: int, keypoints: int, polish: int, unknowns: int) -> list[Stage]:
    """Of the B-splines in 2-D: one of twice the spacing asked for at the second level, then one at it on all finer levels.

    `unknowns` of the finest one: where there are many and a polish follows, only the coarser one has programs.
    """
    last = levels - 1
    first = max(0, min(1, last - 1))
    second = min(first + 1, last)
    coarse = Stage(first, _WIDE, min(polish, 2), keypoints // 2, 2.0)
    if polish > 0 and unknowns > _MANY:
        middle = [replace(coarse, level=second, windows=_NEAR)] if second < last else []
        fine = [Stage(level, (), polish if level == last else min(polish, 3), keypoints, 1.0) for level in range(first, levels)]
        return [coarse, *middle, *fine[len(middle) :]]
    stages = [coarse]
    for level in range(second, levels):
        windows: tuple[Window, ...] = _NEAR if level == second else _FINE
        if level == last:
            # one program is enough where a polish follows
            windows = windows[:1] if polish else windows + _NARROW
        stages.append(Stage(level, windows, polish if level == last else min(polish, 2), keypoints, 1.0))
    return stages


def _solid_spline_stages(levels: int, keypoints: int, polish: int) -> list[Stage]:
    """Of the B-splines in 3-D, each of half the spacing of the one before.

    Programs with thousands of unknowns take seconds: where a polish follows, only the coarsest B-spline has one.
    """
    last = levels - 1
    return [
        Stage(max(0, last - 2), _WIDE[:1], min(polish, 3), keypoints // 8, 4.0),
        Stage(max(0, last - 1), () if polish else _NEAR, polish, keypoints // 2, 2.0),
        Stage(last, () if polish else _FINE, polish, keypoints, 1.0),
    ]
