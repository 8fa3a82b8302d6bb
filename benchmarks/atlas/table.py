"""Segmentation by several atlases as tables: one for each case."""

from __future__ import annotations

from statistics import mean

from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row

_TITLES = {
    "brain2d": "Brain slices z08, 14 atlases: Dice of labels with 30 pixels or more",
    "brain3d": "Brain volumes of 1 mm, 5 atlases: Dice of all labels",
    "hearts3d": "Hearts at end-diastole, 12 atlases: Dice of right ventricle, myocardium, left ventricle",
    "hearts2d": "Their middle sections, 12 atlases, and the network of sections of hearts",
}


def rendered(record: Record) -> str:
    """The tables."""
    return "\n".join([heading(record), *(part for name in _TITLES if (part := _of(name, record)))])


def _of(name: str, record: Record) -> str:
    rows = [row for row in record["rows"] if row["case"] == name]
    ways = list(dict.fromkeys(row["way"] for row in rows))
    if not rows:
        return ""
    labels = sorted({key for row in rows for key in row if key.startswith("label ")})
    targets = len({row["target"] for row in rows})
    head = ["", "registrations", "Dice", *labels, "best", "CPU s a target", "of these fusion", "memory GB"]
    lines = [[way, *_line([row for row in rows if row["way"] == way], labels)] for way in ways]
    used = [i for i in range(len(head)) if i < 1 or any(line[i] for line in lines)]
    shown = [[line[i] for i in used] for line in lines]
    return f"**{_TITLES[name]}** ({targets} targets)\n\n" + table([head[i] for i in used], shown) + "\n"


def _line(rows: list[Row], labels: list[str]) -> list[str]:
    def of(key: str, form: str) -> str:
        values = [row[key] for row in rows if row.get(key) is not None]
        return format(mean(values), form) if values else ""

    memory = [row["memory_gb"] for row in rows if row.get("memory_gb")]
    return [
        of("registrations", ".0f"),
        of("dice", ".3f"),
        *(of(label, ".3f") for label in labels),
        of("best", ".3f"),
        of("cpu_seconds", ".2f"),
        of("fusion_seconds", ".2f"),
        format(max(memory), ".1f") if memory else "",
    ]
