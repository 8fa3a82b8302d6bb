"""The table of the experiment with prostates, and comparisons patient by patient."""

from __future__ import annotations

from statistics import mean, stdev

from benchmarks.experiments.statistics import compared
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row

NAMES = {
    "none": "centres of the images",
    "program": "linear program, rigid, mutual information",
    "oracle": "oracle: centroids of the true glands",
    "affine": "affine map from features of both images",
    "cascade": "that map and a U-net in one lesson, composed",
    "frozen": "that map as it was, then velocities, bending",
    "marked": "marks of each image, moments",
    "together": "the same, marks of all seeds averaged",
    "bending": "then velocities, bending",
    "diffusion": "then velocities, diffusion",
    "plausible": "then velocities, `Plausible`",
    "critic": "then velocities, critic of elastic fields",
}
_MEASURES = (("dice", "gland Dice", 3), ("tre", "landmarks mm", 1), ("centroid", "centroid mm", 1), ("folding", "folding %", 3))
# with whose landmarks those of others are compared
JUDGE = "bending"


def rendered(record: Record) -> str:
    """Tables as Markdown."""
    rows, trained = record["rows"], record["trainings"]
    methods = [name for method in NAMES for name in sorted({row["method"] for row in rows}) if name.split("-w")[0] == method]
    header = ["", "seeds", *(name for _, name, _ in _MEASURES), "CPU ms", "training, CPU min"]
    lines = []
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        seeds = sorted({row["seed"] for row in mine})
        cells = [_cell([_mean([row for row in mine if row["seed"] == s], key) for s in seeds], d) for key, _, d in _MEASURES]
        spent = [one["cpu_seconds"] for one in trained if one["method"] == method]
        took = f"{mean(spent) / 60:.1f}" if spent else ""
        known = str(len(seeds)) if spent else ""
        lines.append([_title(method), known, *cells, f"{mean(row['cpu_ms'] for row in mine):.0f}", took])
    patients = len({row["patient"] for row in rows})
    scans = len({row["scan"] for row in rows})
    said = f"{scans} pairs of {patients} patients, who are in no training"
    return (
        table(header, lines)
        + "\n"
        + _comparisons(rows, methods, {one["method"] for one in trained})
        + heading(record, said)
        + "\n"
    )


def _title(name: str) -> str:
    """Of a method, with its weight where one was tried."""
    method, _, weight = name.partition("-w")
    return NAMES[method] + (f", weight {weight}" if weight else "")


def _comparisons(rows: list[Row], methods: list[str], taught: set[str]) -> str:
    """Patient by patient; of networks the seeds that both have, which begin with the same marks."""
    others = [method for method in methods if method != JUDGE]
    if JUDGE not in methods or not others:
        return ""
    header = [f"landmarks mm of marks, {NAMES[JUDGE]}, against", "difference", "95 % interval", "p", "better for"]
    lines = []
    for method in others:
        seeds = [{row["seed"] for row in rows if row["method"] == name} for name in (method, JUDGE)]
        both = [row for row in rows if method not in taught or row["seed"] in seeds[0] & seeds[1]]
        found = compared(_patients(both, JUDGE), _patients(both, method))
        low, high = found.interval
        better = found.people - found.higher
        lines.append(
            [
                _title(method),
                f"{found.difference:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                f"{found.p:.3f}",
                f"{better} of {found.people}",
            ]
        )
    return table(header, lines) + "\n"


def _patients(rows: list[Row], method: str) -> dict[str, float]:
    """Mean landmark error of every patient, over scans and seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == method:
            found.setdefault(row["patient"], []).append(row["tre"])
    return {patient: mean(values) for patient, values in found.items()}


def _mean(rows: list[Row], key: str) -> float:
    return mean(row[key] for row in rows)


def _cell(values: list[float], digits: int) -> str:
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"
