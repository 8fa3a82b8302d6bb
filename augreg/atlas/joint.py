"""Joint label fusion: atlases that err together share one vote (Wang et al., IEEE PAMI 2013).

    w(x) = M^-1 1 / (1^T M^-1 1),
    M_ij(x) = (mean_p |I_i(x_i + p) - F(x + p)| |I_j(x_j + p) - F(x + p)|)^beta + alpha m [i = j]

over a patch of p, m the mean of M's diagonal; x_i is the place within `search` of x whose patch of atlas i is nearest to the
target's, and the label is that of x_i. Weights sum up to 1 and may be negative, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augreg.atlas import _joint_kernels
from augreg.atlas.atlas import Candidates
from augreg.atlas.fusion import Votes, supports
from augreg.threads import shared

# nanoseconds per value of a patch that is compared, and per term of a matrix
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
    """

    radius: int = 2
    beta: float = 2.0
    alpha: float = 1.0
    search: int = 0

    def __post_init__(self) -> None:
        if self.radius < 0 or self.search < 0 or not self.beta > 0 or not self.alpha > 0:
            raise ValueError(
                "radius, search, beta, alpha: expected 0 or more for the first two, above 0 for the others, got "
                f"{self.radius}, {self.search}, {self.beta}, {self.alpha}"
            )

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
        return Votes(named, supports(named, weights))
