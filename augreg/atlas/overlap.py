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
# voxels at a time
_CHUNK = 1 << 16


def worth(
    candidates: Candidates, named: npt.NDArray[np.int32], support: npt.NDArray[np.float32], power: float
) -> npt.NDArray[np.float32]:
    """What each of the labels that are named at the disputed voxels is worth, (V, K); -inf for nothing.

    Parameters
    ----------
    candidates : atlases on the grid of a target
    named, support : different labels and their support, as in `augreg.atlas.fusion.Votes`
    power : of a label's size
    """
    count, chunks = len(candidates.ids), [slice(begin, begin + _CHUNK) for begin in range(0, len(named), _CHUNK)]
    agreed = candidates.agreed().ravel()
    certain = np.bincount(agreed, minlength=count) - np.bincount(agreed[candidates.disputed], minlength=count)
    expected = certain.astype(np.float64)
    found = np.where(named >= 0, support, -np.inf).astype(np.float32)
    for part in chunks:
        expected += np.bincount(np.maximum(named[part], 0).ravel(), np.where(named[part] >= 0, support[part], 0).ravel(), count)
    background = int(np.searchsorted(candidates.ids, 0)) if 0 in candidates.ids else -1
    labels, shares = _greatest(found, named, support)
    for _ in range(_TURNS):
        sizes = expected + certain + np.bincount(labels, minlength=count)
        overlap = 2 * (certain + np.bincount(labels, shares, count)) / np.maximum(sizes, 1e-9)
        weight = (sizes / max(sizes.mean(), 1e-9)).clip(1e-9) ** -power
        if background >= 0:
            weight[background] = 0
        for part in chunks:
            ranks = np.maximum(named[part], 0)
            gains = (2 * support[part] - overlap[ranks]) * weight[ranks]
            found[part] = np.where(named[part] >= 0, gains, -np.inf)
        before = labels
        labels, shares = _greatest(found, named, support)
        if np.array_equal(labels, before):
            break
    return found


def _greatest(
    found: npt.NDArray[np.float32], named: npt.NDArray[np.int32], support: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The labels (V,) that are worth most, and their support."""
    rows, chosen = np.arange(len(named)), np.argmax(found, axis=1)
    return named[rows, chosen], support[rows, chosen]
