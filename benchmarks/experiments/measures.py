"""What a registration is worth on a pair of test people.

    jaccard    mean over labels with 30 pixels or more in both label maps of |A n B| / |A u B|, B warped by nearest neighbour
    dice       the same of 2 |A n B| / (|A| + |B|)
    distance   mean symmetric distance of the contours of the same labels, mm (pixels where the spacing is lost)
    folding    share of pixels where the transform folds
"""

from __future__ import annotations

import numpy as np

from augreg import metrics
from augreg.image import Labels
from augreg.transforms import Transform
from augreg.warp import warp
from benchmarks.experiments.people import Pair

_LEAST_PIXELS = 30


def measured(pair: Pair, phi: Transform) -> dict[str, float]:
    """The measures of a transform, fixed to moving."""
    fixed, moving = pair.fixed.labels, pair.moving.labels
    known = _large(fixed) & _large(moving)
    moved = warp(moving, phi, fixed.grid)
    jaccard, dice = (_mean_over(known, measure(fixed, moved)) for measure in (metrics.jaccard, metrics.dice))
    surfaces = metrics.surface_distance(_only(known, fixed), _only(known, moved))
    distances = [pair[0] for pair in surfaces.values() if pair is not None]
    return {
        "jaccard": jaccard,
        "dice": dice,
        "distance": float(np.mean(distances)) if distances else float("nan"),
        "folding": metrics.folding(phi, fixed.grid),
    }


def _large(labels: Labels) -> set[int]:
    found, counts = np.unique(labels.values, return_counts=True)
    return {int(label) for label, count in zip(found, counts, strict=True) if label != 0 and count >= _LEAST_PIXELS}


def _mean_over(known: set[int], overlaps: dict[int, float | None]) -> float:
    # a label that the transform has pushed out of the image overlaps nowhere
    return float(np.mean([overlaps.get(label) or 0.0 for label in sorted(known)]))


def _only(known: set[int], labels: Labels) -> Labels:
    return labels.with_values(np.where(np.isin(labels.values, sorted(known)), labels.values, 0))
