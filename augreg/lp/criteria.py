"""Costs D_i(xi) of shifting the moving profile against the fixed one, for every keypoint and shift.

    ncc      1 - NCC of the profile, per channel (invariant to brightness and contrast)
    ssd      mean squared difference / variance of the fixed image
    mi       mean of rho(f, g) = -log P(f, g) / (P(f) P(g)) over classes of brightness of equal numbers: a bound of mutual
             information by the joint histogram P of the profiles at the current transform and some shifts to each
             side, estimated anew at every iteration
    classes  the same over classes whose numbers mean nothing, such as those of superpixels
    labels   mean of rho(f, g) = -log P(g | f) over labels that mean the same in both images: P is estimated as before, with some
             trust in P(f | f)

Samples outside an image drop out and the rest is renormalised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.keypoints.pyramid import Raster
from augreg.lp import _cost_kernels
from augreg.lp.profiles import Profiles
from augreg.threads import shared

CriterionName = Literal["ncc", "ssd", "mi", "labels", "classes"]

# classes of brightness; shifts to each side whose counts are pooled, where these are whole voxels and where they are finer
_BINS, _POOLED = 24, (3, 2)
# of a label's partner: how much is known beforehand, and the least probability of any
_KINSHIP, _UNSEEN = 0.5, 1e-3
# noise, as a share of the images' variance
_FLOOR = 2e-3
# least weight of a keypoint
_TRUST = 0.02
# voxels that suffice to know a variance or a percentile
_ENOUGH = 20000
# nanoseconds per pair of samples, per product of two, and per classified sample, about
_PAIR, _PRODUCT, _CLASS = 1, 0.3, 30


class Criterion(ABC):
    """The dissimilarity of two bundles, for one level's images.

    Parameters
    ----------
    derivatives : it has `tensors`
    of_labels : it compares label maps, not images
    same_labels : of these, a number means the same in both
    any_contrast : it leaves open which brightness corresponds to which
    learned : costs come from a table that is learned at the pose, so that the pose looks better than it is
    """

    derivatives: ClassVar[bool] = False
    of_labels: ClassVar[bool] = False
    same_labels: ClassVar[bool] = False
    any_contrast: ClassVar[bool] = False
    learned: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def of(fixed: Raster, moving: Raster) -> Criterion:
        """The criterion for one level."""

    @abstractmethod
    def costs(self, profiles: Profiles) -> FloatArray:
        """D_i(xi), (N, 2X+1); NaN where too few samples are inside."""

    def weights(self, costs: FloatArray) -> FloatArray:
        """How far each keypoint is to be trusted, (N,), given its costs (N, 2X+1)."""
        return np.ones(len(costs))

    def tensors(self, profiles: Profiles, step: float, ndim: int) -> tuple[FloatArray, FloatArray] | None:
        """Gauss-Newton matrices (N, D, D) and gradients (N, D) by shifts along normal and tangents, mm; None if it has none.

        The moving bundles have one more line and sample all around.
        """
        return None


def criterion_called(name: CriterionName) -> type[Criterion]:
    """The kind of criterion of a name."""
    kinds: dict[CriterionName, type[Criterion]] = {
        "ncc": _Ncc,
        "ssd": _Ssd,
        "mi": _Information,
        "labels": _Likelihood,
        "classes": _Classes,
    }
    return kinds[name]


@dataclass(frozen=True, eq=False)
class _Ncc(Criterion):
    floor: FloatArray
    derivatives = True

    @staticmethod
    def of(fixed: Raster, moving: Raster) -> _Ncc:
        return _Ncc(_FLOOR * np.stack([_variance(fixed), _variance(moving)]))

    def costs(self, profiles: Profiles) -> FloatArray:
        out = _output(profiles)
        fixed, moving, window = _flat(profiles.fixed), _flat(profiles.moving), profiles.window
        work = _PAIR * fixed[:1].size * out.shape[1]
        settings = (profiles.lines, window.ratio, self.floor, profiles.least)
        shared(_cost_kernels.ncc_costs, len(out), work, fixed, moving, *settings, out)
        return out

    def weights(self, costs: FloatArray) -> FloatArray:
        # what nowhere in the window resembles the fixed profile is noise, or has no counterpart
        return np.clip(1 - costs.min(axis=1), _TRUST, 1.0)

    def tensors(self, profiles: Profiles, step: float, ndim: int) -> tuple[FloatArray, FloatArray]:
        # centred f, g and dg, scaled to unit norm: 1 - NCC = |f' - g'|^2 / 2
        products, n = _inner_products(profiles, step, ndim)
        sums = products[..., 0, 1:]
        products = products[..., 1:, 1:] - sums[..., None] * sums[..., None, :] / n
        vf, vg = products[..., 0, 0] + n * self.floor[0], products[..., 1, 1] + n * self.floor[1]
        # g' is projected out of dg'
        share = products[..., 1, 2:] / vg[..., None]
        hessian = (products[..., 2:, 2:] - share[..., None] * products[..., 1, None, 2:]) / vg[..., None, None]
        gradient = (share * products[..., 0, 1, None] - products[..., 0, 2:]) / np.sqrt(vf * vg)[..., None]
        return _known(hessian.mean(axis=1), gradient.mean(axis=1))


@dataclass(frozen=True, eq=False)
class _Ssd(Criterion):
    variance: FloatArray
    derivatives = True

    @staticmethod
    def of(fixed: Raster, moving: Raster) -> _Ssd:  # noqa: ARG004
        return _Ssd(_variance(fixed))

    def costs(self, profiles: Profiles) -> FloatArray:
        out = _output(profiles)
        fixed, moving, window = _flat(profiles.fixed), _flat(profiles.moving), profiles.window
        work = _PAIR * fixed[:1].size * out.shape[1]
        settings = (profiles.lines, window.ratio, self.variance, profiles.least)
        shared(_cost_kernels.ssd_costs, len(out), work, fixed, moving, *settings, out)
        return out

    def tensors(self, profiles: Profiles, step: float, ndim: int) -> tuple[FloatArray, FloatArray]:
        products, n = _inner_products(profiles, step, ndim)
        scale = 2 / (n * self.variance)
        hessian = products[..., 3:, 3:] * scale[:, None, None]
        gradient = (products[..., 2, 3:] - products[..., 1, 3:]) * scale[:, None]
        return _known(hessian.mean(axis=1), gradient.mean(axis=1))


@dataclass(frozen=True, eq=False)
class _Table(Criterion):
    """Classes are the intervals between ascending upper bounds (the last one infinite).

    A table that is learned at a wrong pose alone knows every pair of classes that has met there, and the pose looks right: so
    many shifts to each side as are `pooled` count alike.
    """

    learned = True
    pooled: ClassVar[tuple[int, int]] = (0, 0)

    fixed_bounds: FloatArray
    moving_bounds: FloatArray

    def costs(self, profiles: Profiles) -> FloatArray:
        lines, window, out = profiles.lines, profiles.window, _output(profiles)
        f = _classes(profiles.fixed, self.fixed_bounds)
        m = _classes(profiles.moving, self.moving_bounds)
        histogram = np.zeros((len(self.fixed_bounds), len(self.moving_bounds)))
        pooled = min(self.pooled[window.ratio > 1], window.shifts)
        for shift in range(window.shifts - pooled, window.shifts + pooled + 1):
            _cost_kernels.joint_histogram(f, m, lines, window.ratio, shift, histogram)
        work = _PAIR * f.shape[1] * out.shape[1]
        shared(_cost_kernels.table_costs, len(out), work, f, m, lines, window.ratio, self.table(histogram), profiles.least, out)
        return out

    @abstractmethod
    def table(self, histogram: FloatArray) -> FloatArray:
        """rho from counts of pairs, (F, M)."""


@dataclass(frozen=True, eq=False)
class _Information(_Table):
    any_contrast = True
    pooled = _POOLED

    @staticmethod
    def of(fixed: Raster, moving: Raster) -> _Information:
        return _Information(_bins(fixed), _bins(moving))

    def table(self, histogram: FloatArray) -> FloatArray:
        return _surprise(histogram)


@dataclass(frozen=True, eq=False)
class _Classes(_Table):
    of_labels = True

    @staticmethod
    def of(fixed: Raster, moving: Raster) -> _Classes:
        return _Classes(_between(np.unique(fixed.values)), _between(np.unique(moving.values)))

    def table(self, histogram: FloatArray) -> FloatArray:
        return _surprise(histogram)


@dataclass(frozen=True, eq=False)
class _Likelihood(_Table):
    """`same` (F, M) is 1 where two labels are one."""

    same: FloatArray
    of_labels = True
    same_labels = True

    @staticmethod
    def of(fixed: Raster, moving: Raster) -> _Likelihood:
        labels = [np.unique(raster.values) for raster in (fixed, moving)]
        same = (labels[0][:, None] == labels[1]).astype(np.float64)
        return _Likelihood(_between(labels[0]), _between(labels[1]), same)

    def table(self, histogram: FloatArray) -> FloatArray:
        joint = _probabilities(histogram)
        fixed = joint.sum(axis=1, keepdims=True)
        return -np.log((1 - _KINSHIP) * joint / fixed + _KINSHIP * self.same + _UNSEEN)


def _surprise(histogram: FloatArray) -> FloatArray:
    """-log P(f, g) / (P(f) P(g)) from counts of pairs."""
    joint = _probabilities(histogram)
    return -np.log(joint / (joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)))


def _probabilities(histogram: FloatArray) -> FloatArray:
    # a count of one spread over all pairs keeps what was never seen finite
    return (histogram + 1 / histogram.size) / (histogram.sum() + 1)


def _output(profiles: Profiles) -> FloatArray:
    return np.empty((len(profiles.fixed), 2 * profiles.window.shifts + 1))


def _inner_products(profiles: Profiles, step: float, ndim: int) -> tuple[FloatArray, int]:
    """Of 1, f, g and the D derivatives of g by shifts along normal and tangents, (N, C, D+3, D+3), and the number of samples."""
    fixed, moving = _flat(profiles.fixed), _flat(profiles.moving)
    count, channels, n = fixed.shape
    products = np.empty((count, channels, ndim + 3, ndim + 3))
    work = _PRODUCT * channels * n * (ndim + 3) ** 2
    shared(_cost_kernels.inner_products, count, work, fixed, moving, profiles.bundle.side, 0.5 / step, products)
    return products, n


def _known(hessian: FloatArray, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both, 0 for bundles with a sample outside."""
    outside = np.flatnonzero(np.isnan(gradient).any(axis=1))
    hessian[outside], gradient[outside] = 0.0, 0.0
    return hessian, gradient


def _flat(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, C, L, T) -> (N, C, L T)."""
    return samples.reshape(*samples.shape[:2], -1)


def noise_floor(fixed: Raster, moving: Raster) -> FloatArray:
    """Variances (2,) that count as noise, of the mean over channels."""
    return _FLOOR * np.array([_variance(fixed).mean(), _variance(moving).mean()])


def _inside(raster: Raster) -> npt.NDArray[np.float32]:
    """Some of the voxels that may be sampled, (n, C)."""
    inside = raster.values[raster.allowed] if raster.allowed.size else raster.values.reshape(-1, raster.values.shape[-1])
    return inside[:: max(1, len(inside) // _ENOUGH)]


def _variance(raster: Raster) -> FloatArray:
    return np.maximum(_inside(raster).var(axis=0, dtype=np.float64), 1e-30)


def _bins(raster: Raster) -> FloatArray:
    # of equal numbers: between equal steps of brightness most voxels of a dark image would be of one class
    return np.append(np.unique(np.quantile(_inside(raster).mean(axis=-1), np.linspace(0, 1, _BINS + 1)[1:-1])), np.inf)


def _between(labels: npt.NDArray[np.float32]) -> FloatArray:
    """Upper bounds of classes that hold one label each."""
    return np.append((labels[:-1] + labels[1:]) / 2, np.inf)


def _classes(samples: npt.NDArray[np.float32], bounds: FloatArray) -> npt.NDArray[np.int16]:
    """Of (N, C, L, T) the classes (N, L T)."""
    flat = _flat(samples)
    count, channels, n = flat.shape
    classes = np.empty((count, n), dtype=np.int16)
    shared(_cost_kernels.classify, count, n * (_CLASS + channels), flat, bounds, classes)
    return classes
