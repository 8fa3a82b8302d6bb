"""Merging the levels of a locality, from global to local, into one subspace.

    Nested         each level's subspace is widened to contain the coarser ones' (see `augreg.sam.subspace.nest`)
    WeightedSum    the modes of one covariance, sum_l w_l C_l

Wilms, Handels, Ehrhardt 2017, Med. Image Anal. 38, nest levels cut by threshold; Wilms et al. 2020, Med. Image Anal. 64, nest and
sum tapered ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from augreg.sam.factors import Factor, JoinedFactor, modes
from augreg.sam.subspace import Subspace, nest


@dataclass(frozen=True)
class Nested:
    """Nested subspaces.

    Parameters
    ----------
    keep : source of the merged model's total variance, the "coarse" (Wilms et al. 2017) or the "fine" level (2020)
    """

    keep: Literal["coarse", "fine"] = "coarse"

    def __post_init__(self) -> None:
        if self.keep not in ("coarse", "fine"):
            raise ValueError(f"keep: expected coarse or fine, got {self.keep!r}")

    def merged(
        self, plain: Subspace, level: Callable[[int], Factor], levels: int, rank: int, retained: float, total: float
    ) -> Subspace:
        """The merged subspace of levels 1..`levels`.

        Each level adds an equal share of the rank, else the finest levels would find no room.

        Parameters
        ----------
        plain : level 1, the principal components
        level : function from a level's number to the factor of its covariance
        levels : number of levels, L
        rank : largest number of modes
        retained : share of the variance that each level keeps
        total : that variance itself
        """
        model = plain
        for number in range(2, levels + 1):
            most = model.rank + -(-(rank - model.rank) // (levels - number + 1))
            model = nest(model, modes(level(number), plain.mean, most, retained, total), self.keep)
        return model

    def to_json(self) -> dict[str, Any]:
        """A description; `merge_from_json` reads it."""
        return {"nested": self.keep}


@dataclass(frozen=True)
class WeightedSum:
    """A weighted sum of covariances.

    Parameters
    ----------
    weights : w_l > 0 or 0, one per level, scaled to sum 1; equal by default
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and (min(self.weights, default=0) < 0 or not sum(self.weights) > 0):
            raise ValueError(f"weights: expected numbers >= 0 with a positive sum, got {self.weights}")

    def shares(self, levels: int) -> tuple[float, ...]:
        """w_l for l = 1..L, sum 1.

        Raises
        ------
        ValueError : if the weights are not one per level.
        """
        w = np.ones(levels) if self.weights is None else np.asarray(self.weights, dtype=np.float64)
        if len(w) != levels:
            raise ValueError(f"weights: expected {levels}, one per level, got {len(w)}")
        return tuple(float(v) for v in w / w.sum())

    def merged(
        self, plain: Subspace, level: Callable[[int], Factor], levels: int, rank: int, retained: float, total: float
    ) -> Subspace:
        """The modes of the sum; parameters as in `Nested.merged`."""
        everything = JoinedFactor(tuple(level(number) for number in range(1, levels + 1)), self.shares(levels))
        return modes(everything, plain.mean, rank, retained, total)

    def to_json(self) -> dict[str, Any]:
        """A description; `merge_from_json` reads it."""
        return {"sum": None if self.weights is None else list(self.weights)}


Merge = Nested | WeightedSum


def merge_from_json(about: dict[str, Any]) -> Merge:
    """The merge that `to_json` described.

    Raises
    ------
    ValueError : for another description.
    """
    match about:
        case {"nested": str(keep)}:
            return Nested(keep)  # type: ignore[arg-type]
        case {"sum": weights}:
            return WeightedSum(None if weights is None else tuple(float(w) for w in weights))
    raise ValueError(f"merge: expected nested or sum, got {about}")
