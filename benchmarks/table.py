"""Rows to Markdown: `python -m benchmarks.table benchmarks/results/first.json [--into benchmarks/README.md]`.

One table per group of cases. Of a case's repeats the median counts; over the cases of a group, times and errors are medians too,
and the errors of each case stand beside. A registration has failed if it gives no result, or leaves more than a quarter of the
error.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.rivals import METHODS

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
Row = dict[str, Any]
_OWN = "augreg"
# cases of a group up to which each has a column of its own
_MOST_COLUMNS = 6
_MEASURES = ("seconds", "cpu_seconds", "tre_mean", "tre_p90", "rtre_median", "ncc", "jaccard", "least_det")
# what stands between them is replaced: first the mark, then the end
_MARK = "table"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description="Render rows to Markdown.")
    parser.add_argument("rows", type=Path, metavar="ROWS.json")
    parser.add_argument(
        "--into", type=Path, metavar="PAGE.md", help="replace what stands between the marks there; default: print"
    )
    parser.add_argument("--mark", default=_MARK, help="the name of the marks (default table)")
    options = parser.parse_args()
    text = rendered(json.loads(options.rows.read_text(encoding="utf-8")))
    if options.into is None:
        print(text)
        return
    marks = f"<!-- {options.mark} -->\n", f"<!-- end of {options.mark} -->\n"
    begin, end = map(re.escape, marks)
    page, count = re.subn(f"(?s)(?<={begin}).*(?={end})", lambda _: text, options.into.read_text(encoding="utf-8"))
    if count != 1:
        parser.error(f"--into: expected one pair of marks {marks} in {options.into}, got {count}")
    options.into.write_text(page, encoding="utf-8")


def rendered(record: dict[str, Any]) -> str:
    """All tables, after a line about the machine."""
    machine, versions = record["machine"], record["versions"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; "
        f"{record['threads']} threads; {', '.join(f'{name} {versions[name]}' for name in sorted(versions, key=str.lower))}; "
        f"repeats: {_repeats(record['rows'])}; {record['date']}."
    ]
    for group, title in _TITLES.items():
        rows = [row for row in record["rows"] if row["case"].startswith(f"{group}/")]
        if rows:
            lines += ["", f"### {title}", "", *_table(rows, record["initial"])]
    return "\n".join(lines) + "\n"


def _repeats(rows: list[Row]) -> str:
    counts = set(Counter((row["case"], row["method"]) for row in rows).values())
    return f"{max(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _table(rows: list[Row], initial: dict[str, Row]) -> Iterator[str]:
    cases = list(dict.fromkeys(row["case"] for row in rows))
    kind = cases[0].split("-")[0]
    runs = {m.name: [row for row in rows if row["method"] == m.name] for m in METHODS if m.kind == kind}
    own = _median([_typical(runs[_OWN], case) for case in cases], "seconds")
    unit, key, scale = _measure(rows[0])
    shown = cases if len(cases) <= _MOST_COLUMNS else []
    # heading -> cell, of a method's typical row per case and all its rows
    columns: dict[str, Callable[[list[Row], list[Row]], str]] = {
        "s": lambda ends, _: _text(_median(ends, "seconds")),
        "CPU s": lambda ends, _: _text(_median(ends, "cpu_seconds")),
        f"/ {_OWN}": lambda ends, _: _text(_ratio(_median(ends, "seconds"), own)),
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

    yield _line(["method", *columns, *[f"{unit} {case.split('/')[1]}" for case in shown]])
    yield _line(["---", *["--:"] * (len(columns) + len(shown))])
    for name, mine in {"none": [], **runs}.items():
        ends = [_typical(mine, case) for case in cases] if mine else [initial[case] for case in cases]
        if mine or name == "none":
            cells = [_text(scale * end[key] if key in end else None) for end in ends[: len(shown)]]
            yield _line([name, *[cell(ends, mine) for cell in columns.values()], *cells])


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
    return sum(values) / len(values) if values else None


def _ratio(value: float | None, unit: float | None) -> float | None:
    return value / unit if value and unit else None


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
