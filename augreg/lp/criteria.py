"""Costs D_i(xi) of shifting the moving profile against the fixed one, for every keypoint and shift.

    ncc     1 - NCC of the profile, per channel (invariant to brightness and contrast)
    ssd     mean squared difference / variance of the fixed image
    mi      mean of rho(f, g) = -log P(f, g) / (P(f) P(g)) over intensity classes: a bound of mutual information by the joint
            histogram P of the profiles at the current transform, estimated anew at every iteration
    labels  the same over the labels of label maps

Samples outside an image drop out and the rest is renormalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from augreg.grid import FloatArray
from augreg.lp import _kernels
from augreg.lp.profiles import Profiles
from augreg.lp.pyramid import Raster

Criterion = Literal["ncc", "ssd", "mi", "labels"]
Costs = Callable[[Profiles], FloatArray]

_BINS = 24
# share of a profile's samples that must lie inside both images
_LEAST = 0.5
# noise, as a share of the images' variance
_FLOOR = 2e-3


def costs_of(criterion: Criterion, fixed: Raster, moving: Raster) -> Costs:
    """The function from profiles to costs (N, 2X+1); NaN where too few samples are inside."""
    if criterion == "ncc":
        return _Ncc(_FLOOR * np.stack([_variance(fixed), _variance(moving)]))
    if criterion == "ssd":
        return _Ssd(_variance(fixed))
    if criterion == "mi":
        return _Table(*(_bins(raster) for raster in (fixed, moving)))
    labels = [np.unique(raster.values) for raster in (fixed, moving)]
    return _Table(*(np.append((known[:-1] + known[1:]) / 2, np.inf) for known in labels))


@dataclass(frozen=True, eq=False)
class _Ncc:
    floor: FloatArray

    def __call__(self, profiles: Profiles) -> FloatArray:
        out = _output(profiles)
        _kernels.ncc_costs(profiles.fixed, profiles.moving, profiles.window.ratio, self.floor, _LEAST, out)
        return out


@dataclass(frozen=True, eq=False)
class _Ssd:
    variance: FloatArray

    def __call__(self, profiles: Profiles) -> FloatArray:
        out = _output(profiles)
        _kernels.ssd_costs(profiles.fixed, profiles.moving, profiles.window.ratio, self.variance, _LEAST, out)
        return out


@dataclass(frozen=True, eq=False)
class _Table:
    """Classes are the intervals between ascending upper bounds (the last one infinite)."""

    fixed_bounds: FloatArray
    moving_bounds: FloatArray

    def __call__(self, profiles: Profiles) -> FloatArray:
        window, out = profiles.window, _output(profiles)
        f = _classes(profiles.fixed, self.fixed_bounds)
        m = _classes(profiles.moving, self.moving_bounds)
        histogram = np.zeros((len(self.fixed_bounds), len(self.moving_bounds)))
        _kernels.joint_histogram(f, m, window.ratio, window.shifts, histogram)
        # a count of one spread over all pairs keeps what was never seen finite
        joint = (histogram + 1 / histogram.size) / (histogram.sum() + 1)
        table = -np.log(joint / (joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)))
        _kernels.table_costs(f, m, window.ratio, table, _LEAST, out)
        return out


def _output(profiles: Profiles) -> FloatArray:
    return np.empty((len(profiles.fixed), 2 * profiles.window.shifts + 1))


def _variance(raster: Raster) -> FloatArray:
    inside = raster.values[raster.allowed]
    return np.maximum(inside.var(axis=0, dtype=np.float64), 1e-30)


def _bins(raster: Raster) -> FloatArray:
    inside = raster.values[raster.allowed].mean(axis=-1)
    low, high = np.percentile(inside, (0.5, 99.5))
    return np.append(np.linspace(low, high, _BINS + 1)[1:-1], np.inf)


def _classes(samples: npt.NDArray[np.float32], bounds: FloatArray) -> npt.NDArray[np.int64]:
    values = samples.mean(axis=-1)
    classes = np.searchsorted(bounds, values.ravel()).reshape(values.shape)
    classes[np.isnan(values)] = -1
    return classes
