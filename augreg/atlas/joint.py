"""Joint label fusion: atlases that err together share one vote (Wang et al., IEEE PAMI 2013).

    w(x) = M^-1 1 / (1^T M^-1 1),
    M_ij(x) = (mean_p |I_i(x_i + p) - F(x + p)| |I_j(x_j + p) - F(x + p)|)^beta + alpha m [i = j]

over a patch of p, m the mean of M's diagonal; x_i is the place within `search` of x whose patch of atlas i is nearest to the
target's, and the label is that of x_i. Weights sum up to 1 and may be negative, as in the paper. A vote counts for the patch that
it comes from, and labels of neighbours count where two are about equal:

    v_i(x) = mean of w_i over the disputed voxels x + p,
    support(x, l) ~ own sum_i v_i(x) [l_i(x) = l] + sum over x and its neighbours y of sum_i v_i(y) [l_i(y) = l]

Where all atlases agree the sum over i is 1. On request the label is that which makes the expected overlap greatest, and not the
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
        count, n = len(candidates.disputed), len(candidates.images)
        named, weights = np.empty((count, n), dtype=np.int32), np.empty((count, n), dtype=np.float32)
        axes = sum(size > 1 for size in candidates.target.shape)
        patch = (2 * self.radius + 1) ** axes
        work = _VALUE * patch * n * ((2 * self.search + 1) ** axes + n)
        numbers = self.radius, self.search, float(self.beta), float(self.alpha)
        images = candidates.target, candidates.images, candidates.labels
        shared(_joint_kernels.joint_votes, count, work, candidates.disputed, *images, *numbers, named, weights)
        place = np.full(candidates.target.shape, -1, dtype=np.int32)
        place.ravel()[candidates.disputed] = np.arange(count, dtype=np.int32)
        self._average(place >= 0, candidates.disputed, weights)
        support = np.empty((count, n), dtype=np.float32)
        around = place, candidates.agreed(), named, weights
        work = _VALUE * 3**axes * n * n
        shared(_joint_kernels.gathered_support, count, work, candidates.disputed, *around, float(self.own), support)
        return Votes(named, support, None if self.overlap is None else worth(candidates, named, support, self.overlap))

    def _average(self, where: npt.NDArray[np.bool_], disputed: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]) -> None:
        """Each atlas's weights by their means over the disputed voxels of a patch, in place."""
        size = [2 * self.radius + 1 if n > 1 else 1 for n in where.shape]

        def mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return scipy.ndimage.uniform_filter(values, size, mode="constant").ravel()[disputed]

        share, one = mean(where.astype(np.float32)), np.zeros(where.shape, dtype=np.float32)
        for column in weights.T:
            one.ravel()[disputed] = column
            column[:] = mean(one) / share
