"""One label map from several: where atlases disagree, each label has the support of those that name it.

    support(x, l) = max(0, sum_i w_i(x) [l_i(x) = l]) / the same summed over l,      label(x) = argmax_l support(x, l)

where nothing else decides (`augreg.atlas.overlap`).

Majority        w_i = 1
LocalWeights    w_i = max(0, NCC_i(x))^power, NCC over a window around x of the target and atlas i   (Artaechevarria et al., IEEE
                TMI 2009)
JointFusion     `augreg.atlas.joint`      Staple     `augreg.atlas.staple`

Voxels on which all agree are not looked at: with many labels these are most. What an atlas does not show it does not vote on.
Where labels have equal support, the one wins that more atlases name in the voxels around, then the smaller one: never an order of
the atlases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import numpy.typing as npt

from augreg.atlas.atlas import Atlas, Candidates
from augreg.atlas.likeness import local_ncc
from augreg.geometry.image import Image, Labels

# voxels at a time
_CHUNK = 1 << 16
# supports this near to each other are equal
_TIE = 1e-6


@dataclass(frozen=True, eq=False)
class Votes:
    """What atlases say at the disputed voxels.

    Parameters
    ----------
    named : ranks of the labels that they name, (V, K); -1 for nothing. A column an atlas, or every label once
    support : support of those labels, (V, K), 0 for nothing
    worth : what decides in place of the support, (V, K); the greatest wins
    """

    named: npt.NDArray[np.int32]
    support: npt.NDArray[np.float32]
    worth: npt.NDArray[np.floating] | None = None


class Fusion(Protocol):
    """How much support a label has."""

    def votes(self, candidates: Candidates) -> Votes:
        """At the disputed voxels."""


@dataclass(frozen=True, eq=False)
class Fused:
    """A label map of several.

    Parameters
    ----------
    labels : the label map
    agreement : support of every voxel's label, 1 where all atlases agree; below one half where another has more, but less to gain
    """

    labels: Labels
    agreement: Image
    _candidates: Candidates
    _votes: Votes

    def probability(self, label: int) -> Image:
        """Support of one label, (*shape) float32."""
        known = self._candidates
        rank = int(np.searchsorted(known.ids, label))
        if rank == len(known.ids) or known.ids[rank] != label:
            return self.agreement.with_values(np.zeros(self.labels.values.shape, dtype=np.float32))
        share = (known.agreed() == rank).astype(np.float32)
        named = np.where(self._votes.named == rank, self._votes.support, 0).max(axis=1)
        share.ravel()[known.disputed] = named
        return self.agreement.with_values(share.reshape(self.labels.values.shape))


@dataclass(frozen=True)
class Majority:
    """Every atlas has one vote."""

    def votes(self, candidates: Candidates) -> Votes:
        """At the disputed voxels."""
        named = candidates.votes()
        return Votes(named, supports(named, np.ones(named.shape, dtype=np.float32)))


@dataclass(frozen=True)
class LocalWeights:
    """Atlases that look like the target nearby have more votes.

    Parameters
    ----------
    radius : half width of the window, voxels
    power : of the correlation: 0 is the majority
    """

    radius: int = 2
    power: float = 4.0

    def __post_init__(self) -> None:
        if self.radius < 1 or self.power < 0:
            raise ValueError(f"radius, power: expected at least 1 and 0, got {self.radius} and {self.power}")

    def votes(self, candidates: Candidates) -> Votes:
        """At the disputed voxels."""
        ncc, _ = local_ncc(candidates.target, self.radius)
        named = candidates.votes()
        weights = np.empty(named.shape, dtype=np.float32)
        for i, image in enumerate(candidates.images):
            weights[:, i] = np.clip(ncc(image).ravel()[candidates.disputed], 0, 1) ** self.power
        # where none looks like it all are as good
        weights[weights.max(axis=1) < _TIE] = 1
        return Votes(named, supports(named, weights))


def fuse(target: Image, atlases: Sequence[Atlas], fusion: Fusion) -> Fused:
    """The label map of a target from atlases on its grid.

    Parameters
    ----------
    target : image
    atlases : atlases on its grid, see `Atlas.through`
    fusion : `Majority()`, `LocalWeights()`, `JointFusion()`, `Staple()` or any object with such `votes`

    Raises
    ------
    ValueError : for no atlas, or one on another grid.
    """
    candidates = Candidates.of(target, atlases)
    votes = fusion.votes(candidates)
    worth = votes.support if votes.worth is None else votes.worth
    chosen = np.argmax(worth, axis=1)
    rows = np.arange(len(chosen))
    ranks = votes.named[rows, chosen]
    near = (worth > worth[rows, chosen][:, None] - _TIE) & (votes.named >= 0)
    tied = np.flatnonzero((near & (votes.named != ranks[:, None])).any(axis=1))
    ranks[tied] = _unbound(candidates, candidates.disputed[tied], np.where(near[tied], votes.named[tied], -1))
    result, agreement = candidates.agreed(), np.ones(candidates.target.shape, dtype=np.float32)
    result.ravel()[candidates.disputed] = ranks
    agreement.ravel()[candidates.disputed] = np.where(votes.named == ranks[:, None], votes.support, 0).max(axis=1)
    shape = target.grid.shape
    labels = Labels(candidates.ids[result].reshape(shape), target.grid)
    return Fused(labels, Image(agreement.reshape(shape), target.grid), candidates, votes)


def supports(named: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Share of the weights (V, n) that is behind the label that each atlas names; what names nothing has none.

    Where weights are negative, a label with more of these than of others has none either.
    """
    out = np.empty(weights.shape, dtype=np.float32)
    for begin in range(0, len(named), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        votes = np.where(named[part] >= 0, weights[part], np.float32(0))
        same = (named[part, :, None] == named[part, None, :]) & (named[part, :, None] >= 0)
        sums = np.maximum(np.einsum("vij,vj->vi", same, votes), 0)
        # every label counts once
        total = (sums / np.maximum(same.sum(axis=2), 1)).sum(axis=1, keepdims=True)
        out[part] = sums / np.where(total > 0, total, 1)
    return out


def _unbound(candidates: Candidates, places: npt.NDArray[np.int64], tied: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Of tied ranks (T, K) at flat indices the one that is named most around; the smaller one of equals."""
    shape = candidates.target.shape
    index = np.stack(np.unravel_index(places, shape), axis=1)
    counts = np.zeros(tied.shape, dtype=np.int64)
    for offset in product(*((-1, 0, 1) if n > 1 else (0,) for n in shape)):
        at = tuple(np.clip(index + offset, 0, np.array(shape) - 1).T)
        around = candidates.labels[(slice(None), *at)]
        counts += (around.T[:, None, :] == tied[:, :, None]).sum(axis=2)
    counts[tied < 0] = -1
    # the smaller rank of equals: an order of labels, not of atlases
    best = counts == counts.max(axis=1, keepdims=True)
    return np.where(best, tied, np.iinfo(np.int32).max).min(axis=1).astype(np.int32)
