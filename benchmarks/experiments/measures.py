"""What a registration is worth on a pair of test people.

jaccard    mean over labels with 30 pixels or more in both label maps of |A n B| / |A u B|, B warped by nearest neighbour
dice       the same of 2 |A n B| / (|A| + |B|)
distance   mean symmetric distance of the contours of the same labels, mm (pixels where the spacing is lost)
folding    share of pixels where the transform folds
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from augreg import metrics
from augreg.geometry.image import Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from benchmarks.experiments.people import Pair, Study

if TYPE_CHECKING:  # software needs other people's
    from benchmarks.experiments.software import Method

_LEAST_PIXELS = 30


def measured_rows(methods: Mapping[str, Method], study: Study) -> Iterator[dict[str, Any]]:
    """A row for every pair of test people and every way of registering it; each way has registered another pair before."""
    for how, method in methods.items():
        method(study.pairs[-1])
        for pair in study.pairs:
            outcome = method(pair)
            yield {
                "how": how,
                "group": pair.group,
                "fixed": pair.fixed.name,
                "moving": pair.moving.name,
                **measured(pair, outcome.transform, contours=study.name == "heart"),
                "seconds": outcome.seconds,
                "cpu_seconds": outcome.cpu_seconds,
            }


def measured(pair: Pair, phi: Transform, *, contours: bool) -> dict[str, float]:
    """The measures of a transform, fixed to moving; the distance of contours only where wanted, since it takes long."""
    fixed, moving = pair.fixed.labels, pair.moving.labels
    known = _large(fixed) & _large(moving)
    moved = warp(moving, phi, fixed.grid)
    jaccard, dice = (_mean_over(known, measure(fixed, moved)) for measure in (metrics.jaccard, metrics.dice))
    measures = {"jaccard": jaccard, "dice": dice, "folding": metrics.folding(phi, fixed.grid)}
    if contours:
        surfaces = metrics.surface_distance(_only(known, fixed), _only(known, moved))
        measures["distance"] = float(np.mean([found[0] for found in surfaces.values() if found is not None]))
    return measures


def _large(labels: Labels) -> set[int]:
    found, counts = np.unique(labels.values, return_counts=True)
    return {int(label) for label, count in zip(found, counts, strict=True) if label != 0 and count >= _LEAST_PIXELS}


def _mean_over(known: set[int], overlaps: dict[int, float | None]) -> float:
    # a label that the transform has pushed out of the image overlaps nowhere
    return float(np.mean([overlaps.get(label) or 0.0 for label in sorted(known)]))


def _only(known: set[int], labels: Labels) -> Labels:
    return labels.with_values(np.where(np.isin(labels.values, sorted(known)), labels.values, 0))
