"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.page import heading, table
from benchmarks.synthesis.profile import profile_table


def rendered(record: dict[str, Any]) -> str:
    """A section per part that ran."""
    card = [f"{record['card']}, CUDA {record['cuda']}"] if "card" in record else []
    text = heading(record, *card) + "\n"
    shown = {
        "networks": _rows,
        "inference": _rows,
        "rendering": _rows,
        "pairs": _pairs,
        "slices": _learned,
        "volumes": _learned,
    }
    for name, part in record["parts"].items():
        text += f"\n### {name}: {part['seconds']:.0f} s\n\n"
        if "error" in part:
            text += f"{part['error']}\n\n"
        text += shown[name](part)
    return text


def _rows(part: dict[str, Any]) -> str:
    return _table(part.get("rows", []))


def _pairs(part: dict[str, Any]) -> str:
    text = _table(part.get("speed", []))
    rows = [row for row in part.get("steps", []) if "step" in row]
    for case, batch in dict.fromkeys((row["case"], row["batch"]) for row in rows):
        text += f"\n{case}. " + profile_table([row for row in rows if (row["case"], row["batch"]) == (case, batch)])
    return text


def _learned(part: dict[str, Any]) -> str:
    names = ("steps", "planned", "steps_per_second", "pairs_per_second", "waiting")
    stages = [{name: one.get(name) for name in names} for one in part.get("stages", [])]
    text = f"Width {part.get('width')}, batches of {part.get('batch')}, {_cell(part.get('memory_gb'))} GB.\n\n" + _table(stages)
    rows = []
    for learned, tests in part.get("tests", {}).items():
        # volumes have one test, slices one after each stage
        for level, found in (tests if learned != "volumes" else {"volumes": tests}).items():
            rows += [{"learned from": learned, "tested": level, "how": how, **measures} for how, measures in found.items()]
    return text + "\n" + _table(rows)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table(names, [[_cell(row.get(name)) for name in names] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return " x ".join(map(str, value))
    return str(value)
