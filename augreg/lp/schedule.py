"""What a registration does in which order: stages from coarse to fine, first for the matrix group, then for B-splines."""

from __future__ import annotations

from dataclasses import dataclass, replace

from augreg.lp.profiles import Window


@dataclass(frozen=True)
class Stage:
    """Some steps at one pyramid level.

    Parameters
    ----------
    level : of the pyramid, 0 the coarsest
    windows : of the programs, one after the other
    polish : Gauss-Newton steps at the end, at most
    keypoints : about how many
    grid : control spacing of the B-spline in units of the finest one; None for the matrix group
    """

    level: int
    windows: tuple[Window, ...]
    polish: int
    keypoints: int
    grid: float | None = None


# where else a keypoint could match
NEIGHBOURS = Window(8, 1)
# programs at the coarsest level from each candidate of the start, with so many keypoints
START = (Window(8, 1), Window(8, 1))
START_KEYPOINTS = 300
_FINE = (Window(6, 2),)
_WIDE = (Window(8, 1), Window(6, 2))
_NEAR = (Window(6, 1), Window(6, 2))
# without derivatives the programs go on to fractions of a voxel
_NARROW = (Window(8, 4), Window(8, 8))
# unknowns of a B-spline in 2-D from which on programs cost more than they bring
_MANY = 1000


def matrix_stages(levels: int, keypoints: int, polish: int, *, rough: bool) -> list[Stage]:
    """Of a rigid, similarity or affine map, after the start: the second level, then, unless rough, every other to the finest."""
    last = levels - 1 if not rough else min(1, levels - 1)
    stages = []
    for level in sorted({min(1, last), *range(last, 0, -2)}):
        windows = _FINE + _NARROW if level == last and polish == 0 else _FINE
        stages.append(Stage(level, windows, polish if level == last and not rough else min(polish, 1), keypoints))
    return stages


def flat_spline_stages(levels: int, keypoints: int, polish: int, unknowns: int) -> list[Stage]:
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


def solid_spline_stages(levels: int, keypoints: int, polish: int) -> list[Stage]:
    """Of the B-splines in 3-D, each of half the spacing of the one before.

    Programs with thousands of unknowns take seconds: where a polish follows, only the coarsest B-spline has one.
    """
    last = levels - 1
    return [
        Stage(max(0, last - 2), _WIDE[:1], min(polish, 3), keypoints // 8, 4.0),
        Stage(max(0, last - 1), () if polish else _NEAR, polish, keypoints // 2, 2.0),
        Stage(last, () if polish else _FINE, polish, keypoints, 1.0),
    ]
