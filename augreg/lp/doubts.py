"""What speaks against a result: asked at the coarsest level, before B-splines, which can bend anything into some agreement.

overlap       keypoints that lie inside the moving image
at home       keypoints that, moved along their normals by up to 8 voxels, match best within one of where they were put: a third
              of them by chance, 43 % and more among people, stains and known maps
agreement     patches that no program has seen (see `augreg.lp.agreement`), where the keypoints are not plain: among people 18 %
              and more; of other contrasts a quarter and more are opposite, among people 14 % at most
likeness      where any contrast is allowed, mean correlation of these patches with each image in the other one's brightness.
              Programs that estimate which brightness corresponds to which bring up to 94 % of the keypoints of unrelated images
              home; of patches, one of the two ways correlates below 0.3 there, and above it among people

Thresholds come from `python -m benchmarks run silent --learnt` and from pairs of the training people of `brain2d`, where any
contrast is allowed from `python -m benchmarks run unrelated --learnt`.
"""

from __future__ import annotations

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import Transform
from augreg.lp.agreement import agreement
from augreg.lp.level import FEWEST, Level
from augreg.lp.profiles import Window

# where else a keypoint could match
NEIGHBOURS = Window(8, 1)
_LEAST_SEEN = 0.3
# below it a result is doubted
LEAST_AT_HOME = 0.42
# above it nothing else is asked
PLAIN = 0.85
# share of patches that agree below which the result is doubted, and up to which opposite ones are
_POOR, SURE = 0.15, 0.6
_OPPOSED = 0.15
# where any contrast is allowed: keypoints at home above which nothing else is asked, the least likeness, the least share of
# patches that agree, and up to which opposite ones are
_OBVIOUS, _LEAST_LIKE, _LEAST_ALIKE, _TURNED = 0.97, 0.3, 0.08, 0.18


def at_home(level: Level, transform: Transform) -> float:
    """Share of the keypoints of a level that match best where the transform puts them."""
    return home_share(level.costs(transform, NEIGHBOURS))


def scarce(level: Level) -> list[str]:
    """A warning where the coarsest level has hardly any keypoints."""
    found = len(level.keypoints)
    if found >= FEWEST:
        return []
    return [f"too few keypoints: {found} at the coarsest level, expected {FEWEST}; is there any contrast to align?"]


def doubts(level: Level, transform: Transform) -> list[str]:
    """Warnings about a transform, seen at a coarse level; none where all is well."""
    if len(level.keypoints) < FEWEST:
        return []
    found = []
    costs = level.costs(transform, NEIGHBOURS)
    seen = np.isfinite(costs[:, NEIGHBOURS.shifts]).mean()
    if seen < _LEAST_SEEN:
        found.append(f"low overlap: {seen:.0%} of the keypoints lie inside the moving image; check the result")
    share = home_share(costs)
    if level.criterion.any_contrast:
        if share < _OBVIOUS:
            found += _of_any_contrast(level, transform, share)
    elif share < LEAST_AT_HOME:
        found.append(
            f"flat criterion: only {share:.0%} of the keypoints match best where they were put; the images hardly agree, "
            "check the result"
        )
    elif not level.criterion.of_labels and share < PLAIN:
        # labels have no patches that could be compared
        match = agreement(level, transform)
        if match.seen >= FEWEST and match.share < _POOR:
            found.append(
                f"no agreement: only {match.share:.0%} of {match.seen} patches look alike where they were put; check the result"
            )
        elif match.seen >= FEWEST and match.share < SURE and match.opposed > _OPPOSED:
            found.append(
                f"other contrast: {match.opposed:.0%} of {match.seen} patches resemble the negative of the moving image; check "
                "the result, or try mutual information (criterion mi)"
            )
    return found


def _of_any_contrast(level: Level, transform: Transform, share: float) -> list[str]:
    """Where patches are too few to tell, most keypoints must be at home."""
    match = agreement(level, transform)
    if match.seen < FEWEST:
        if share >= PLAIN:
            return []
        return [f"flat criterion: only {share:.0%} of the keypoints match best where they were put; check the result"]
    opposed = match.share < SURE and match.opposed > _TURNED
    if match.likeness >= _LEAST_LIKE and match.share >= _LEAST_ALIKE and not opposed:
        return []
    return [
        f"no agreement: {match.share:.0%} of {match.seen} patches look alike where they were put, with a mean correlation of "
        f"{match.likeness:.2f}, and {match.opposed:.0%} are opposite; check the result"
    ]


def home_share(costs: FloatArray) -> float:
    """Of keypoints with costs (N, 2X+1) in `NEIGHBOURS` the share of those that match best in the middle."""
    known = costs[np.isfinite(costs).all(axis=1)]
    return float(np.mean(np.abs(np.argmin(known, axis=1) - NEIGHBOURS.shifts) <= 1)) if len(known) else 0.0
