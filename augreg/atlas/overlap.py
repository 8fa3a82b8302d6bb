"""The label of a voxel that makes the expected overlap greatest, and not the most probable one.

With supports p_l(x) as probabilities, a label map s is expected to have, over labels l that are not background,

    D_l = 2 sum over s(x) = l of p_l(x) / V_l,      V_l = sum_x p_l(x) + number of x with s(x) = l

the Dice of expected sizes. A voxel more changes D_l by (2 p_l(x) - D_l) / V_l: it is worth it from p = D_l / 2 on, below one
half, and the more the smaller the structure is (for one label: Lipton, Elkan and Naryanaswamy, ECML PKDD 2014). Background has
gain 0. So

    s(x) = argmax_l (2 p_l(x) - D_l) / V_l^power

in turns with D and V. Power 1 is the mean over labels, 0 their sum weighted by size. It serves structures that are thin, or that
registrations hit seldom: majorities take from these what they give to the background.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augreg.atlas.atlas import Candidates

# turns, at most: they settle in three or four
_TURNS = 8


def worth(
    candidates: Candidates, named: npt.NDArray[np.int32], support: npt.NDArray[np.float32], power: float
) -> npt.NDArray[np.float64]:
    """What the label that each atlas names at the disputed voxels is worth, (V, n); -inf where it names nothing.

    Parameters
    ----------
    candidates : atlases on the grid of a target
    named, support : labels and their support, as in `augreg.atlas.fusion.Votes`
    power : of a label's size
    """
    count, known = len(candidates.ids), named >= 0
    ranks, p = np.maximum(named, 0), np.where(known, support, 0).astype(np.float64)
    # a label that several atlases name counts once
    names = np.zeros(named.shape, dtype=np.int64)
    for column in named.T:
        names += named == column[:, None]
    agreed = candidates.agreed().ravel().copy()
    agreed[candidates.disputed] = count
    certain = np.bincount(agreed, minlength=count + 1)[:count].astype(np.float64)
    expected = certain + np.bincount(ranks.ravel(), (p / names).ravel(), count)
    background = int(np.searchsorted(candidates.ids, 0)) if 0 in candidates.ids else -1
    rows, found = np.arange(len(named)), np.where(known, p, -np.inf)
    chosen = np.argmax(found, axis=1) if found.size else np.zeros(0, dtype=np.int64)
    for _ in range(_TURNS):
        labels = ranks[rows, chosen]
        sizes = expected + certain + np.bincount(labels, minlength=count)
        overlap = 2 * (certain + np.bincount(labels, p[rows, chosen], count)) / np.maximum(sizes, 1e-9)
        weight = (sizes / max(sizes.mean(), 1e-9)).clip(1e-9) ** -power
        found = (2 * p - overlap[ranks]) * weight[ranks]
        found[ranks == background] = 0.0
        found[~known] = -np.inf
        before, chosen = labels, np.argmax(found, axis=1) if found.size else chosen
        if np.array_equal(ranks[rows, chosen], before):
            break
    return found
