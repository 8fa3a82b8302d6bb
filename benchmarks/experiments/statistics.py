"""Statistics over people.

Pairs of the same people are not independent, so a person has one number, the mean over the pairs in which it is the fixed image,
and two methods are compared person by person.

    test       exact Wilcoxon signed-rank test, two-sided; with 8 people the least p-value is 1/128
    interval   bootstrap over people of the mean difference, percentiles 2.5 and 97.5
    effect     matched-pairs rank-biserial correlation, (W+ - W-) / (W+ + W-): 1 where every person gains
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

_RESAMPLES = 20_000


@dataclass(frozen=True)
class Comparison:
    """Of one method with another over the same people.

    Parameters
    ----------
    difference : mean over people, first minus second
    interval : of it
    p : of the exact signed-rank test
    effect : rank-biserial correlation
    higher, people : for how many of how many people the first has the higher number
    """

    difference: float
    interval: tuple[float, float]
    p: float
    effect: float
    higher: int
    people: int


def by_person(rows: Sequence[Mapping[str, Any]], measure: str) -> dict[str, float]:
    """The mean of a measure over the pairs of every fixed person, but for those where it has no value."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["fixed"].split()[0], []).append(row[measure])
    return {person: float(np.nanmean(found)) for person, found in values.items()}


def compared(first: Mapping[str, float], second: Mapping[str, float], seed: int = 0) -> Comparison:
    """Two methods by person.

    Raises
    ------
    ValueError : for different people.
    """
    if first.keys() != second.keys():
        raise ValueError(f"people: expected the same ones in both, got {sorted(first)} and {sorted(second)}")
    differences = np.array([first[person] - second[person] for person in first])
    changed = differences[differences != 0]
    ranks = scipy.stats.rankdata(np.abs(changed))
    effect = float((np.sign(changed) * ranks).sum() / ranks.sum()) if len(changed) else 0.0
    p = float(scipy.stats.wilcoxon(changed, method="exact").pvalue) if len(changed) else 1.0
    chosen = np.random.default_rng(seed).integers(len(differences), size=(_RESAMPLES, len(differences)))
    low, high = np.percentile(differences[chosen].mean(axis=1), (2.5, 97.5))
    higher = int((differences > 0).sum())
    return Comparison(float(differences.mean()), (float(low), float(high)), p, effect, higher, len(differences))
