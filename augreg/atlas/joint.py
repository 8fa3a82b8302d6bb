"""Joint label fusion: atlases that err together share one vote (Wang et al., IEEE PAMI 2013).

    w(x) = M^-1 1 / (1^T M^-1 1),
    M_ij(x) = (mean_p |I_i(x_i + p) - F(x + p)| |I_j(x_j + p) - F(x + p)|)^beta + alpha m [i = j]

over a patch of p, m the mean of M's diagonal; x_i is the place within `search` of x whose patch of atlas i is nearest to the
target's, and the label is that of x_i. Weights sum up to 1 and may be negative, as in the paper. A vote counts for the patch that
it comes from, and labels of neighbours count where two are about equal:

    v_i(x) = mean of w_i over the disputed voxels x + p of a lattice, sum_d d x_d = 0 modulo 2 D + 1,
    support(x, l) ~ own sum_i v_i(x) [l_i(x) = l] + sum over x and its neighbours y of sum_i v_i(y) [l_i(y) = l]

Where all atlases agree the sum over i is 1. Means over patches need no weights of every voxel: each lies on the lattice or beside
exactly one voxel of it, so a fifth of the work (2-D) or a seventh is left, and labels of 14 training people are as good with it
(mean Dice 0.705 with all and with a fifth, from 42 maps 0.691 and 0.690). Weights of the 14 nearest of 42 patches alone were
tried for the same purpose: 0.686. On request the label is that which makes the expected overlap greatest, and not the
most supported one (`augreg.atlas.overlap`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from augreg.atlas import _joint_kernels
from augreg.atlas.atlas import Candidates
from augreg.atlas.fusion import Votes
from augreg.atlas.overlap import worth
from augreg.threads import shared

# nanoseconds per value of a patch that is compared, per term of a matrix, and per label of a neighbour
_VALUE = 2.0


@dataclass(frozen=True)
class JointFusion:
    """Weights from what atlases have in common.

    Parameters
    ----------
    radius : half width of the patches, voxels
    beta : power that turns differences into how likely two atlases err together
    alpha : share of the diagonal's mean that is added to it. With 0.1, as in the paper, weights follow looks alone, which dense
        registrations make alike in the wrong place, too; with 2 and more a few good atlases no longer stand against many
    search : how far around a voxel the best patch is looked for, voxels
    own : how many times more than a neighbour's the label of a voxel itself counts
    overlap : power of a structure's size in what it gains by a voxel, 0.5 say: for many small structures, as in brains (0.024 of
        Dice). Few large ones become too large where registrations are lost, as in hearts (0.01 to 0.03 worse). None for the label
        of most support, as in the paper
    """

    radius: int = 2
    beta: float = 2.0
    alpha: float = 0.3
    search: int = 0
    own: float = 3.0
    overlap: float | None = None

    def __post_init__(self) -> None:
        if self.radius < 0 or self.search < 0 or not self.beta > 0 or not self.alpha > 0 or not self.own >= 0:
            raise ValueError(
                "radius, search, own, beta, alpha: expected 0 or more for the first three, above 0 for the others, got "
                f"{self.radius}, {self.search}, {self.own}, {self.beta}, {self.alpha}"
            )
        if self.overlap is not None and not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap: expected a power from 0 to 1 or None, got {self.overlap}")

    def votes(self, candidates: Candidates) -> Votes:
        """At the disputed voxels."""
        disputed = candidates.disputed
        count, n = len(disputed), len(candidates.images)
        axes = sum(size > 1 for size in candidates.target.shape)
        patch = (2 * self.radius + 1) ** axes
        named, places = self._named(candidates, patch, axes)
        weighed = self._weighed(candidates)
        few = np.empty((len(weighed), n), dtype=np.float32)
        images, numbers = (candidates.target, candidates.images), (self.radius, float(self.beta), float(self.alpha))
        work = _VALUE * patch * n * n
        shared(_joint_kernels.joint_weights, len(weighed), work, disputed[weighed], places[weighed], *images, *numbers, few)
        weights = self._averaged(candidates, weighed, few)
        ranks, sums, counts = np.empty_like(named), np.empty_like(weights), np.empty(count, dtype=np.int64)
        shared(_joint_kernels.tallied, count, _VALUE * n, named, weights, ranks, sums, counts)
        # few labels are named at a voxel, by however many atlases
        most = max(int(counts.max(initial=1)), 1)
        ranks, sums = np.ascontiguousarray(ranks[:, :most]), np.ascontiguousarray(sums[:, :most])
        place = np.full(candidates.target.shape, -1, dtype=np.int32)
        place.ravel()[disputed] = np.arange(count, dtype=np.int32)
        support = np.empty((count, most), dtype=np.float32)
        around = place, candidates.agreed(), ranks, sums, counts
        work = _VALUE * 3**axes * most**2
        shared(_joint_kernels.gathered_support, count, work, disputed, *around, float(self.own), support)
        return Votes(ranks, support, None if self.overlap is None else worth(candidates, ranks, support, self.overlap))

    def _named(self, candidates: Candidates, patch: int, axes: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """What atlases name at the disputed voxels (V, n), and the flat indices x_i that they name it at; -1 for nothing."""
        votes, disputed = candidates.votes(), candidates.disputed
        if not self.search:
            return votes, np.where(votes >= 0, disputed[:, None], -1)
        places = np.empty(votes.shape, dtype=np.int64)
        work = _VALUE * patch * votes.shape[1] * (2 * self.search + 1) ** axes
        images = candidates.target, candidates.images, candidates.labels
        shared(_joint_kernels.nearest_patches, len(disputed), work, disputed, *images, self.radius, self.search, places)
        labels = candidates.labels.reshape(votes.shape[1], -1)
        return np.where(places >= 0, np.take_along_axis(labels.T, places, axis=0), -1).astype(np.int32), places

    def _weighed(self, candidates: Candidates) -> npt.NDArray[np.int64]:
        """Rows of the disputed voxels that have weights: those of the lattice, and who has none of it in their patch."""
        disputed, shape = candidates.disputed, candidates.target.shape
        index = np.unravel_index(disputed, shape)
        axes = [at for at, n in zip(index, shape, strict=True) if n > 1]
        chosen = sum(k * at for k, at in enumerate(axes, 1)) % (2 * len(axes) + 1) == 0
        there = self._mean(shape, disputed[chosen], np.float32(1))[disputed]
        return np.flatnonzero(chosen | (there == 0))

    def _mean(self, shape: tuple[int, ...], places: npt.NDArray[np.int64], values: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Means over patches, flat, of an array of zeros that has values at some flat indices."""
        size = [2 * self.radius + 1 if n > 1 else 1 for n in shape]
        one = np.zeros(shape, dtype=np.float32)
        one.ravel()[places] = values
        return scipy.ndimage.uniform_filter(one, size, mode="constant").ravel()

    def _averaged(
        self, candidates: Candidates, weighed: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """v_i (V, n): means of the weights (W, n) of some disputed voxels over those of them that lie in a patch."""
        disputed, shape = candidates.disputed, candidates.target.shape
        some = disputed[weighed]
        share = self._mean(shape, some, np.float32(1))[disputed]
        out = np.empty((len(disputed), weights.shape[1]), dtype=np.float32)
        for i, column in enumerate(weights.T):
            out[:, i] = self._mean(shape, some, column)[disputed] / share
        return out
