"""STAPLE: how well each atlas performs is estimated along with the labels (Warfield et al., IEEE TMI 2004), for many labels.

    theta_i(k, l) = p(atlas i names k | the truth is l),    W(x, l) = prior(l) prod_i theta_i(l_i(x), l) / sum over l of the same
    theta_i(k, l) = (c [k = l] + sum over x with l_i(x) = k of W(x, l)) / (c + sum_x W(x, l))

in turns, over the disputed voxels alone: with all others, most of them background, every atlas would be perfect (Rohlfing et al.,
IEEE TMI 2004). W is kept for labels that some atlas names at x; the prior of a label is its share of the votes. c voxels
for which every atlas was right stand for what is expected before (Commowick et al., IEEE TMI 2012): few voxels say little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augreg.atlas.atlas import Candidates
from augreg.atlas.fusion import Votes, supports

_TINY = 1e-12


@dataclass(frozen=True)
class Staple:
    """Performances and labels by expectation and maximisation.

    Parameters
    ----------
    iterations : number of rounds, at most
    tolerance : largest change of a support with which it ends
    expected : c, voxels of every label
    """

    iterations: int = 30
    tolerance: float = 1e-3
    expected: float = 20.0

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.tolerance > 0 or not self.expected >= 0:
            raise ValueError(
                "iterations, tolerance, expected: expected the first two above 0, the last not below, got "
                f"{self.iterations}, {self.tolerance}, {self.expected}"
            )

    def votes(self, candidates: Candidates) -> Votes:
        """At the disputed voxels."""
        named, count = candidates.votes(), len(candidates.ids)
        n = named.shape[1]
        W = supports(named, np.ones(named.shape, dtype=np.float32)).astype(np.float64)
        if not len(named):
            return Votes(named, W.astype(np.float32))
        # of every label that is named once at a voxel
        first = np.stack([(named[:, [i]] != named[:, :i]).all(axis=1) & (named[:, i] >= 0) for i in range(n)], axis=1)
        shares = np.bincount(named[first], W[first], count)
        prior = shares / shares.sum()
        for _ in range(self.iterations):
            theta = np.tile(self.expected * np.eye(count), (n, 1, 1))
            for i in range(n):
                voted = named[:, i] >= 0
                for j in range(n):
                    rows = voted & first[:, j]
                    cells = named[rows, i].astype(np.int64) * count + named[rows, j]
                    theta[i] += np.bincount(cells, W[rows, j], count * count).reshape(count, count)
            theta /= np.maximum(theta.sum(axis=1, keepdims=True), _TINY)
            score = np.log(np.maximum(prior[np.maximum(named, 0)], _TINY))
            for i in range(n):
                says = np.log(np.maximum(theta[i], _TINY))
                score += np.where(named[:, [i]] >= 0, says[np.maximum(named[:, [i]], 0), np.maximum(named, 0)], 0.0)
            score = np.where(named >= 0, score, -np.inf)
            found = np.exp(score - score.max(axis=1, keepdims=True))
            found /= np.where(first, found, 0.0).sum(axis=1, keepdims=True)
            change, W = float(np.abs(found - W).max()), found
            if change < self.tolerance:
                break
        return Votes(named, W.astype(np.float32))
