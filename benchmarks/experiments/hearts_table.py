"""The tables of the experiment with hearts, and comparisons person by person."""

from __future__ import annotations

from math import isfinite
from statistics import mean, stdev

from benchmarks.experiments.statistics import by_person, compared
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row

NAMES = {
    "none": "no registration",
    "program": "linear program, then dense",
    "syn_cc": "ANTs SyN, CC",
    "unsupervised": "velocities, local correlation alone",
    "labels": "velocities, labels",
    "targets": "velocities, matched outlines",
    "velocities": "velocities, logarithms of matched outlines (SVF-Net)",
    "marked": "velocities of marked images, labels",
    "marked_refined": "velocities of marked images, ten gradient steps",
    "marks": "marks of each image, moments",
    "together": "marks of three networks, then velocities",
    "refined": "marks of three networks, velocities, ten gradient steps",
}
# what others are compared with, where it was run
_LAST = ("refined", "marked_refined", "together", "marked")
TITLES = {
    "cardiac2d": ("People of `cardiac2d`, centred", (("distance", "distance px", 2), ("dice", "Dice", 3))),
    "hearts3d": ("Middle slices of `hearts3d`, three structures", (("dice", "Dice", 3), ("jaccard", "Jaccard", 3))),
    "volumes": ("`hearts3d` as volumes, three structures", (("dice", "Dice", 3), ("jaccard", "Jaccard", 3))),
}
_MORE = (("folding", "folding %", 3, 100), ("returned", "inverse, largest, px or mm", 4, 1))


def rendered(record: Record) -> str:
    """Tables as Markdown."""
    studies = [name for name in TITLES if any(row["study"] == name for row in record["rows"])]
    return "\n".join(_study(record, name) for name in studies) + "\n" + heading(record) + "\n"


def _study(record: Record, study: str) -> str:
    rows = [row for row in record["rows"] if row["study"] == study]
    methods = [method for method in NAMES if any(row["method"] == method for row in rows)]
    title, measures = TITLES[study]
    header = ["", "seeds", *(name for _, name, _ in measures), *(name for _, name, _, _ in _MORE), "CPU ms", "training, CPU min"]
    lines = []
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        seeds = sorted({row["seed"] for row in mine})
        cells = [_cell([mean(row[key] for row in mine if row["seed"] == seed) for seed in seeds], d) for key, _, d in measures]
        spent = [one["cpu_seconds"] for one in record["trainings"] if (one["study"], one["method"]) == (study, method)]
        for key, _, d, factor in _MORE:
            if key == "returned" and not spent and "refined" not in method:
                # inverses of others are found by iteration
                cells.append("")
                continue
            values = [factor * row[key] for row in mine if isfinite(row.get(key, float("nan")))]
            # of inverses the worst of all pairs counts
            cells.append(f"{(max if key == 'returned' else mean)(values):.{d}f}" if values else "")
        known = [str(len(seeds)), f"{mean(spent) / 60:.1f}"] if spent else [str(len(seeds)) if "refined" in method else "", ""]
        lines.append([NAMES[method], known[0], *cells, f"{mean(row['cpu_ms'] for row in mine):.0f}", known[1]])
    people = len({row["fixed"] for row in rows})
    pairs = len({(row["fixed"], row["moving"]) for row in rows})
    said = f"### {title}: {pairs} pairs of {people} people, who are in no training\n\n"
    return said + table(header, lines) + "\n" + _comparisons(rows, methods, measures[0])


def _comparisons(rows: list[Row], methods: list[str], measure: tuple[str, str, int]) -> str:
    key, heading_, digits = measure
    last = next((method for method in _LAST if method in methods), None)
    if last is None or len(methods) < 2:
        return ""
    lines = []
    mine = by_person([row for row in rows if row["method"] == last], key)
    for method in (one for one in methods if one != last):
        found = compared(mine, by_person([row for row in rows if row["method"] == method], key))
        low, high = found.interval
        better = found.higher if key == "dice" else found.people - found.higher
        interval = f"{low:+.{digits}f} to {high:+.{digits}f}"
        p = f"{found.p:.3f}" if found.p >= 0.001 else f"{found.p:.1g}"
        lines.append([NAMES[method], f"{found.difference:+.{digits}f}", interval, p, f"{better} of {found.people}"])
    return table([f"{heading_} of {NAMES[last]}, against", "difference", "95 % interval", "p", "better for"], lines)


def _cell(values: list[float], digits: int) -> str:
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"
