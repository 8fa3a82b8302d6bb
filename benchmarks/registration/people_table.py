"""Methods between people, and their registrations as tables: one for each case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
from scipy.stats import wilcoxon

import augreg as ar
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row

_NONE = "none"
# what rivals are compared with
COMPARED = "augreg, for people"
_AT_2_MM = "augreg, for people, at 2 mm"


def _halved(image: ar.Image) -> ar.Image:
    """Means of blocks of two voxels along each axis; a last one without a partner is left out."""
    values, grid = image.values.astype(np.float32), image.grid
    for axis in range(grid.ndim):
        rows = np.moveaxis(values, axis, 0)
        rows = (rows[: len(rows) // 2 * 2 : 2] + rows[1::2]) / 2
        values = np.moveaxis(rows, 0, axis)
    first = grid.points_at([0.5] * grid.ndim)
    return ar.Image(np.ascontiguousarray(values), ar.Grid(values.shape, [2 * s for s in grid.spacing], first, grid.direction))


def _coarsely(fixed: ar.Image, moving: ar.Image) -> ar.Transform:
    return ar.LPRegistration.for_people()(_halved(fixed), _halved(moving))


# name -> what is called with a pair of images
OWN: dict[str, Callable[[ar.Image, ar.Image], ar.Transform]] = {
    _NONE: lambda fixed, _: ar.Affine.identity(fixed.ndim),
    "augreg, affine": ar.LPRegistration(transform="affine"),
    "augreg, quick": ar.LPRegistration.quick(),
    "augreg": ar.LPRegistration(),
    COMPARED: ar.LPRegistration.for_people(),
    "augreg, for people, guard 0.2": ar.LPRegistration(transform="affine", dense=ar.DenseRegistration(guard=0.2)),
    _AT_2_MM: _coarsely,
}


@dataclass(frozen=True)
class Rival:
    """One of them.

    Parameters
    ----------
    name : of the row
    module, function : in `rivals`
    cases : beginnings of the names of those it gets
    """

    name: str
    module: str
    function: str
    cases: tuple[str, ...] = ("",)


RIVALS = (
    Rival("greedy", "greedy", "deformable"),
    Rival("ANTs SyNQuick[s]", "ants", "syn_quick"),
    Rival("ANTs SyNCC", "ants", "syn_cc", ("brain2d",)),
    Rival("ANTs SyN[s], CC", "ants", "syn_script", ("brain3d", "hearts3d")),
    Rival("elastix B-spline", "elastix", "bspline"),
    Rival("OpenCV ECC + DIS", "opencv", "ecc_dis", ("brain2d",)),
    Rival("ConvexAdam", "convexadam", "convex", ("brain3d",)),
)
_TIMES = ("cpu_seconds", "seconds")
# fixed images from which on a test can say anything
_FEWEST = 6
# what is tried on some cases only
_CASES = {_AT_2_MM: ("brain3d",)} | {rival.name: rival.cases for rival in RIVALS}
_TITLES = {
    "brain2d-z08": ("Brain slices z08", "Jaccard"),
    "brain2d-z20": ("Brain slices z20", "Jaccard"),
    "brain3d": ("Brain volumes", "Dice"),
    "hearts3d-phases": ("Hearts, end-diastole to end-systole", "Dice"),
    "hearts3d-people": ("Hearts of two patients, end-diastole", "Dice"),
}


def takes(name: str, group: str) -> bool:
    """Whether a method is tried on a case."""
    return group.startswith(_CASES.get(name, ("",)))


def rendered(record: Record) -> str:
    """A table for each case; rivals beside augreg on the pairs that they have."""
    rows = record["rows"]
    commits = sorted({row["commit"] for row in rows if row["method"] not in OWN})
    own = {row["commit"] for row in rows if row["method"] in OWN}
    said = [f"{record['split']} people", *([f"rivals' rows of commit {', '.join(commits)}"] if commits else [])]
    parts = [heading(record | {"commit": ", ".join(sorted(own))}, *said) + "\n"]
    for group, (title, measure) in _TITLES.items():
        mine = [row for row in rows if row["case"] == group]
        if mine:
            parts.append(f"### {title}, {record['split']}\n\n{_table(mine, measure)}")
    return "\n".join(parts)


def _table(rows: list[Row], measure: str) -> str:
    names = [name for name in (*OWN, *(rival.name for rival in RIVALS)) if any(row["method"] == name for row in rows)]
    beside = {row["pair"]: row for row in rows if row["method"] == COMPARED}
    lines = []
    for name in names:
        mine = {row["pair"]: row for row in rows if row["method"] == name}
        good = {pair: row for pair, row in mine.items() if "error" not in row}
        cells = [f"{len(good)}", _mean(good, list(good))]
        if beside:
            common = [pair for pair in good if pair in beside]
            other = name not in OWN and len(common) > 0
            cells += [_mean(beside, common), _difference(good, beside, common)] if other else ["", ""]
        done = list(good.values())
        cells += ["" if name == _NONE or not done else f"{median(row[part] for row in done):.3g}" for part in _TIMES]
        cells += (
            [f"{100 * mean(row['folding'] for row in done):.4f}", f"{min(row['least'] for row in done):.3f}"]
            if done
            else 2 * [""]
        )
        lines.append([name, *cells, f"{len(mine) - len(done)}"])
    compared = [f"{measure} of '{COMPARED}' there", "p"] if beside else []
    return table(["method", "pairs", measure, *compared, "CPU s", "s", "folding %", "least det", "failed"], lines)


def _mean(rows: dict[str, Row], pairs: list[str]) -> str:
    return f"{mean(rows[pair]['overlap'] for pair in pairs):.4f}" if pairs else ""


def _difference(rows: dict[str, Row], others: dict[str, Row], pairs: list[str]) -> str:
    """P of Wilcoxon's paired test, two-sided; a fixed image is one observation, the mean over its pairs."""
    by_fixed: dict[str, list[float]] = {}
    for pair in pairs:
        by_fixed.setdefault(pair.split()[0], []).append(others[pair]["overlap"] - rows[pair]["overlap"])
    if len(by_fixed) < _FEWEST:
        return ""
    return f"{wilcoxon([mean(values) for values in by_fixed.values()]).pvalue:.2g}"
