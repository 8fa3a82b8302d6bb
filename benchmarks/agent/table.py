"""The tables of the experiments with agents."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median

from benchmarks.agent.brains import NEAR
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row

PROSTATES = {
    "none": "as it begins",
    "program": "linear program, rigid, mutual information",
    "moments": "marks of each image, moments",
    "affine": "affine map from both images, taught by labels, three times",
    "affine-images": "affine map from both images, from the same states, three times",
    "agent-images": "agent, gains, images",
    "agent-alone": "agent, gains, marks alone",
    "agent-double-q": "agent, double Q, marks alone",
}
BRAINS = {
    "none": "as it begins",
    "program": "linear program, rigid, mutual information, starts to 45 degrees",
    "agent": "agent, gains",
    "agent-program": "agent, then linear program",
    "affine": "affine map, three times, nearest rigid map",
    "affine-program": "affine map, three times, then linear program",
}
# mm within which a gland counts as found
FOUND = 5.0


def rendered(record: Record) -> str:
    """Tables as Markdown."""
    rows, parts = record["rows"], []
    for subject, names, one in (("prostates", PROSTATES, _prostate), ("brains", BRAINS, _brain)):
        lines = []
        for method, title in names.items():
            mine = [row for row in rows if _of(row, subject, method)]
            if mine:
                spent = [row["cpu_seconds"] / 60 for row in record["trainings"] if _of(row, subject, method)]
                moves = [row["moves"] for row in mine if "moves" in row]
                said = f"{median(moves):.0f}, {max(moves)}" if moves else ""
                ms = f"{mean(row['cpu_ms'] for row in mine):.0f}"
                lines.append([title, *one(mine), said, ms, f"{mean(spent):.1f}" if spent else ""])
        last = ["moves, median and most", "CPU ms", "training, CPU min"]
        if lines:
            parts.append(f"### {_TITLES[subject]}\n\n{table(['', *_HEADERS[subject], *last], lines)}")
    return "\n".join(parts) + "\n" + heading(record) + "\n"


_TITLES = {
    "prostates": "Prostates, 21 pairs of 16 test patients, three starts each",
    "brains": "Brains, 24 cases of 8 test people",
}
_HEADERS = {
    "prostates": [f"centroids within {FOUND:g} mm", "centroid mm", "points mm", "gland Dice", "landmarks mm"],
    "brains": [f"within {NEAR:g} px", "median px", "largest px"],
}


def _prostate(rows: Sequence[Row]) -> list[str]:
    found = 100 * mean(row["centroid"] < FOUND for row in rows)
    off, points, dice, tre = (mean(row[name] for row in rows) for name in ("centroid", "points", "dice", "tre"))
    return [f"{found:.0f} %", f"{off:.1f}", f"{points:.1f}", f"{dice:.3f}", f"{tre:.1f}"]


def _of(row: Row, subject: str, method: str) -> bool:
    return (row["subject"], row["method"]) == (subject, method)


def _brain(rows: Sequence[Row]) -> list[str]:
    errors = [row["error"] for row in rows]
    return [f"{sum(error < NEAR for error in errors)} of {len(errors)}", f"{median(errors):.3f}", f"{max(errors):.2f}"]
