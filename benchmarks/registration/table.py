"""Registrations as tables.

One table per group of cases. Of a case's repeats the median counts; over the cases of a group, times and errors are medians too,
and the errors of each case stand beside. A registration has failed if it gives no result, or leaves more than a quarter of the
error. Rows with a date of their own are older than the record, and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from statistics import mean, median

from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row
from benchmarks.registration.rivals import METHODS

_TITLES = {
    "affine-512": "Known affine warps, 512 pixels",
    "elastic-512": "Known elastic warps, 512 pixels",
    "affine-1024": "Known affine warps, 1024 pixels",
    "elastic-1024": "Known elastic warps, 1024 pixels",
    "affine-brain": "Known affine warps of brain slices (ants2d), 256 pixels",
    "elastic-brain": "Known elastic warps of brain slices (ants2d), 256 pixels",
    "affine-histology": "Differently stained tissue (histology), affine",
    "elastic-histology": "Differently stained tissue (histology), elastic",
    "elastic-people": "Brain slices of different people (ants2d)",
    "affine-scale": "Time against size: a fundus under an affine warp, seconds",
    "elastic-scale": "Time against size: the same under an elastic warp, seconds",
    "elastic-brain2d": "Brain slices of the test people of brain2d, all ordered pairs",
}
_OWN = "augreg"
# ends the name of a method of another checkout
BEFORE = ", before"
# cases of a group up to which each has a column of its own
_MOST_COLUMNS = 6
_MEASURES = ("seconds", "cpu_seconds", "tre_mean", "tre_p90", "rtre_median", "ncc", "jaccard", "least_det")


def rendered(record: Record) -> str:
    """All tables, after a line about the machine."""
    older = sorted({row["date"] for row in record["rows"] if "date" in row} - {record["date"]})
    said = [f"rows of {date} are marked" for date in older]
    parts = [heading(record, f"repeats: {_repeats(record['rows'])}", *said) + "\n"]
    for group, title in _TITLES.items():
        rows = [row for row in record["rows"] if row["case"].startswith(f"{group}/")]
        if rows:
            parts.append(f"### {title}\n\n" + _table(rows, record["initial"], record["date"]))
    if any(row["method"].endswith(BEFORE) for row in record["rows"]):
        parts.append("### Compared with another checkout\n\n" + _compared(record["rows"]))
    return "\n".join(parts)


def _repeats(rows: list[Row]) -> str:
    counts = set(Counter((row["case"], row["method"]) for row in rows).values())
    return f"{max(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _table(rows: list[Row], initial: dict[str, Row], today: str) -> str:
    cases = list(dict.fromkeys(row["case"] for row in rows))
    kind = cases[0].split("-")[0]
    names = [m.name + end for m in METHODS if m.kind == kind for end in ("", BEFORE)]
    runs = {name: [row for row in rows if row["method"] == name] for name in names}
    own = _median([_typical(runs[_OWN], case) for case in cases], "cpu_seconds")
    unit, key, scale = _measure(rows[0])
    shown = cases if len(cases) <= _MOST_COLUMNS else []
    # heading -> cell, of a method's typical row per case and all its rows
    columns: dict[str, Callable[[list[Row], list[Row]], str]] = {
        "s": lambda ends, _: _text(_median(ends, "seconds")),
        "CPU s": lambda ends, _: _text(_median(ends, "cpu_seconds")),
        f"CPU s / {_OWN}": lambda ends, _: _text(_ratio(_median(ends, "cpu_seconds"), own)),
    }
    if unit.startswith("Jaccard"):
        columns["mean Jaccard"] = lambda ends, _: _text(_mean(ends, key))
    elif unit != "NCC":
        columns["mean TRE px"] = lambda ends, _: _text(_median(ends, "tre_mean"))
        columns["90 % px"] = lambda ends, _: _text(_median(ends, "tre_p90"))
    if kind == "elastic":
        columns["least det"] = lambda ends, _: _text(min((end["least_det"] for end in ends if end), default=None))
    columns["failed"] = lambda _, all_: (
        f"{sum(_failed(row, initial[row['case']]) for row in all_)} of {len(all_)}" if all_ else ""
    )

    lines = []
    for name, mine in {"none": [], **runs}.items():
        ends = [_typical(mine, case) for case in cases] if mine else [initial[case] for case in cases]
        if mine or name == "none":
            cells = [_text(scale * end[key] if key in end else None) for end in ends[: len(shown)]]
            older = min((row.get("date", today) for row in mine), default=today)
            lines.append(
                [name if older == today else f"{name} ({older})", *[cell(ends, mine) for cell in columns.values()], *cells]
            )
    return table(["method", *columns, *[f"{unit} {case.split('/')[1]}" for case in shown]], lines)


def _compared(rows: list[Row]) -> str:
    """Every method with the same of the other checkout: medians of the ratios of runs of the same case and repeat."""
    runs = {(row["case"], row["method"], row["repeat"]): row for row in rows if "error" not in row}
    pairs = [(key, row, runs[was]) for key, row in runs.items() if (was := (key[0], key[1] + BEFORE, key[2])) in runs]
    lines = []
    for group, name in dict.fromkeys((key[0].split("/")[0], key[1]) for key, *_ in pairs):
        mine = [(now, was) for key, now, was in pairs if key[0].split("/")[0] == group and key[1] == name]
        ratios = [_text(median(now[part] / was[part] for now, was in mine)) for part in ("seconds", "cpu_seconds")]
        found = [_text(_mean([pair[i] for pair in mine], _quality(mine[0][0]))) for i in (1, 0)]
        same = sum(all(now.get(part) == was.get(part) for part in _MEASURES[2:]) for now, was in mine)
        lines.append([f"{group}: {name}", *ratios, _quality(mine[0][0]), *found, f"{same} of {len(mine)}"])
    return table(["", "s, ratio", "CPU s, ratio", "mean of", "before", "now", "equal"], lines)


def _quality(row: Row) -> str:
    return next(part for part in ("jaccard", "tre_mean", "ncc") if part in row)


def _measure(row: Row) -> tuple[str, str, float]:
    """What the columns of the cases hold: unit, key, factor."""
    if row["landmarks"]:
        return "rTRE %", "rtre_median", 100.0
    if row["case"].split("/")[0].endswith("scale"):
        return "s", "seconds", 1.0
    if "jaccard" in row or row["case"].startswith("elastic-brain2d"):
        return "Jaccard", "jaccard", 1.0
    return ("TRE px", "tre_mean", 1.0) if row["case"].split("/")[0] != "elastic-people" else ("NCC", "ncc", 1.0)


def _typical(rows: list[Row], case: str) -> Row:
    """Medians over the repeats of a case that gave a transform; empty if none did."""
    good = [row for row in rows if row["case"] == case and "error" not in row]
    return {key: median(row[key] for row in good) for key in _MEASURES if good and key in good[0]}


def _failed(row: Row, start: Row) -> bool:
    return "error" in row or ("tre_mean" in row and row["tre_mean"] > start["tre_mean"] / 4)


def _median(ends: list[Row], key: str) -> float | None:
    """Over the cases."""
    values = [end[key] for end in ends if key in end]
    return median(values) if values else None


def _mean(ends: list[Row], key: str) -> float | None:
    values = [end[key] for end in ends if key in end]
    return mean(values) if values else None


def _ratio(value: float | None, unit: float | None) -> float | None:
    return value / unit if value and unit else None


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
