"""Locality: distant places vary independently, so a few images span many modes.

With n residuals r_i (M = m c numbers: c components at each of m places x_a) the covariance C = (n - 1)^-1 sum_i r_i r_i^T has
rank n - 1. Multiplied place by place with a taper, C o R, R_ab = rho(|x_a - x_b|, tau), distant correlations vanish and the
rank grows; the components of one place share the taper, so their covariance stays. C o R is positive semidefinite if R is
(Schur). Levels

    tau_1 = infinite: C itself;      tau_l = s d_max 2^(1 - l),  l = 2..L,

go from global to local (Wilms, Handels, Ehrhardt 2017, Med. Image Anal. 38, with s = 1) and are merged (`augreg.sam.merges`).
Between several objects A(a) != A(b) the taper may be lower still, R_ab = rho(|x_a - x_b|, tau) O[A(a), A(b)], O = 1 on the
diagonal and an affinity in [0, 1] elsewhere: a product of two positive semidefinite kernels, where a distance that runs along
contours and leaps between objects is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.spatial.distance

from augreg.geometry.grid import FloatArray, Grid
from augreg.sam.correlation import correlation_root
from augreg.sam.factors import Cut, DenseFactor, GridFactor, Local, principal_modes
from augreg.sam.merges import Merge, Nested, WeightedSum, merge_from_json
from augreg.sam.one_thread import one_thread
from augreg.sam.subspace import Subspace
from augreg.sam.tapers import TAPERS, Gaussian, Taper, Threshold

# relative to the mean's square: rounding, no variation
_LEAST_VARIANCE = 1e-10


@dataclass(frozen=True)
class Locality:
    """How far correlations reach.

    Parameters
    ----------
    levels : L, from global (1: an ordinary statistical model of rank n - 1) to local
    taper : `Gaussian()`, `Wendland()` (compact support) or `Threshold()` (landmarks alone)
    merge : `Nested()` subspaces, coarse to fine, or the `WeightedSum()` of the levels
    retained : share of the variance that each level keeps
    scale : s, times d_max 2^(1 - l); None: chosen when a model is fitted, see `augreg.sam.selection`
    affinity : correlation of different objects, in [0, 1], from level 2 on; 1: objects do not matter
    """

    levels: int = 5
    taper: Taper = field(default_factory=Gaussian)
    merge: Merge = field(default_factory=Nested)
    retained: float = 0.95
    scale: float | None = None
    affinity: float = 1.0

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"levels: expected at least 1, got {self.levels}")
        if not isinstance(self.taper, Taper):
            raise TypeError(f"taper: expected Gaussian(), Wendland() or Threshold(), got {self.taper!r}")
        if not isinstance(self.merge, Merge):
            raise TypeError(f"merge: expected Nested() or WeightedSum(), got {self.merge!r}")
        if isinstance(self.merge, WeightedSum):
            self.merge.shares(self.levels)  # one weight per level
        if not 0 < self.retained <= 1:
            raise ValueError(f"retained: expected a share in (0, 1], got {self.retained}")
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise ValueError(f"scale: expected a positive number or None, got {self.scale}")
        if not 0 <= self.affinity <= 1:
            raise ValueError(f"affinity: expected a correlation in [0, 1], got {self.affinity}")

    @property
    def weights(self) -> tuple[float, ...]:
        """w_l of the levels where their tapers are summed, sum 1: those of a `WeightedSum`, equal ones for nested levels."""
        return (self.merge if isinstance(self.merge, WeightedSum) else WeightedSum()).shares(self.levels)

    @property
    def of_textures(self) -> Locality:
        """The same for textures: a threshold, whose repair is a matter of landmarks, becomes a Gaussian taper."""
        return replace(self, taper=Gaussian()) if isinstance(self.taper, Threshold) else self

    def tau(self, level: int, extent: float) -> float:
        """tau_l, mm, for level 1..L and the largest distance `extent` of the domain, mm; infinite for level 1."""
        if level == 1:
            return np.inf
        if self.scale is None:
            raise ValueError("scale: expected a number, it is not chosen yet; choose one with augreg.sam.choose_scale")
        return self.scale * extent * 2.0 ** (1 - level)

    def correlation(self, distance: FloatArray, level: int, extent: float) -> FloatArray:
        """R of one level at distances (mm) within one object: 1 at 0, falling to 0."""
        return self.taper.correlation(distance, self.tau(level, extent))

    def to_json(self) -> dict[str, Any]:
        """A description of numbers, strings and lists."""
        taper = next(name for name, taper in TAPERS.items() if taper == self.taper)
        return {
            "levels": self.levels,
            "taper": taper,
            "merge": self.merge.to_json(),
            "retained": self.retained,
            "scale": self.scale,
            "affinity": self.affinity,
        }

    @staticmethod
    def from_json(about: dict[str, Any]) -> Locality:
        """The locality that `to_json` described.

        Raises
        ------
        KeyError, TypeError, ValueError : for another description.
        """
        return Locality(**{**about, "taper": TAPERS[about["taper"]], "merge": merge_from_json(about["merge"])})


def taper(points: FloatArray, locality: Locality, level: int, extent: float, objects: npt.ArrayLike | None = None) -> FloatArray:
    """R of one level at places (m, D) mm, (m, m).

    Parameters
    ----------
    points : positions of the places, (m, D) mm
    locality, level, extent : see `Locality.tau`
    objects : number of the object that each place belongs to, (m,); by default one object
    """
    distance = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(points))
    R = locality.correlation(distance, level, extent)
    if objects is not None and level > 1:
        R = R * np.where(np.equal.outer(objects, objects), 1.0, locality.affinity)
    return R


def taper_factor(
    points: FloatArray, locality: Locality, level: int, extent: float, objects: npt.ArrayLike | None = None
) -> DenseFactor:
    """The factor of one level's taper at places; parameters as in `taper`.

    Raises
    ------
    ValueError : if the taper is not positive semidefinite, with its least eigenvalue.
    """
    return DenseFactor(correlation_root(taper(points, locality, level, extent, objects)))


def landmark_taper(
    points: FloatArray, locality: Locality, level: int, extent: float, objects: npt.ArrayLike | None = None
) -> Local:
    """One level's taper at landmarks, any kind of it; parameters as in `taper`."""
    if isinstance(locality.taper, Threshold):
        return Cut(taper(points, locality, level, extent, objects))
    return taper_factor(points, locality, level, extent, objects)


def grid_taper_factor(grid: Grid, locality: Locality, level: int, extent: float) -> GridFactor:
    """The factor of one level's taper at the points of a grid, row-major.

    R is the product of one taper per axis: for Gaussians that is the taper of the Euclidean distance, for Wendland's functions a
    positive semidefinite relative with the same support along the axes.

    Raises
    ------
    ValueError : for a threshold.
    """
    if isinstance(locality.taper, Threshold):
        raise ValueError(
            "taper: expected a gaussian or wendland taper for textures, got a threshold: its repair needs a matrix of "
            "pixels x pixels, so it serves landmarks alone"
        )
    axes = []
    for n, spacing in zip(grid.shape, grid.spacing, strict=True):
        distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) * spacing
        axes.append(correlation_root(locality.correlation(distance, level, extent)).astype(np.float32))
    return GridFactor(tuple(axes))


class Places(Protocol):
    """Where residuals lie."""

    def taper(self, locality: Locality, level: int) -> Local:
        """One level's taper at the places."""


@dataclass(frozen=True, eq=False)
class LandmarkPlaces:
    """Landmarks; parameters as in `taper`."""

    points: FloatArray
    extent: float
    objects: npt.ArrayLike | None = None

    def taper(self, locality: Locality, level: int) -> Local:
        """One level's taper at the landmarks."""
        return landmark_taper(self.points, locality, level, self.extent, self.objects)


@dataclass(frozen=True)
class GridPlaces:
    """The points of a grid, row-major; `extent` is the largest distance of the domain, mm."""

    grid: Grid
    extent: float

    def taper(self, locality: Locality, level: int) -> Local:
        """One level's taper at the points of the grid."""
        return grid_taper_factor(self.grid, locality, level, self.extent)


def local_subspace(mean: FloatArray, residuals: FloatArray, places: Places, locality: Locality, rank: int, name: str) -> Subspace:
    """The modes of residuals (n, m, c) under a locality.

    Parameters
    ----------
    mean : mean vector, (m c,)
    residuals : r_i, centred
    places : where the m places lie
    locality : levels and merge
    rank : largest number of modes
    name : name of what is modelled, for messages

    Raises
    ------
    ValueError : if the residuals are zero but for rounding.
    """
    n = len(residuals)
    flat = residuals.reshape(n, -1)
    total = float(np.sum(flat.astype(np.float64) ** 2)) / (n - 1)
    if not total > _LEAST_VARIANCE * float(np.sum(mean.astype(np.float64) ** 2)):
        raise ValueError(f"{name}: expected images that differ, got identical {name}: there is nothing to model")
    with one_thread():
        plain = principal_modes(mean, flat, locality.retained).truncate(rank)
        if locality.levels == 1:
            return plain
        return locality.merge.merged(
            plain,
            lambda level: places.taper(locality, level).localised(residuals),
            locality.levels,
            rank,
            locality.retained,
            total,
        )
