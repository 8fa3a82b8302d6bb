"""Silent failures: `python -m benchmarks.silent --output benchmarks/results/silent.json [--count 600] [--learnt]`.

Of pairs of real images under known maps, disturbed in many ways: how many come out wrong (median error over textured points of
the scene above 5 pixels, 3 voxels in 3-D), how many of these without a doubt, and how many are doubted though right. A doubt is a
warning that says "check the result"; what a registration only reports (padding that was masked, centres that were aligned) is
none.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import augreg as ar
from augreg.threads import set_threads
from benchmarks.pages import about, heading, put_into, write_record
from benchmarks.silent_cases import Silent, cases

# voxels
_WRONG = {2: 5.0, 3: 3.0}


def main() -> None:
    """Command line."""
    options = _parser().parse_args()
    set_threads(1)
    rows = []
    for case in cases(options.count, not options.learnt, options.seed, options.only):
        rows.append(run(case))
        if rows[-1]["wrong"] != doubted(rows[-1]) or options.verbose:
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    record = about(1, ["augreg", "simpleitk", "numpy"]) | {"learnt": options.learnt, "seed": options.seed, "rows": rows}
    text = f"{heading(record)}\n\n{table(rows)}\n"
    print(text)
    if options.output:
        write_record(options.output, record)
    for page in options.into:
        put_into(page, "silent", text)


def run(case: Silent) -> dict[str, Any]:
    """Register and judge one pair."""
    _, _, disturbance, kind, _ = case.parts
    criterion = "mi" if disturbance in ("inverted", "arch") and int(case.parts[-1]) % 2 else "ncc"
    begin = time.process_time()
    *_, state = ar.LPRegistration(transform=kind, criterion=criterion).steps(case.fixed, case.moving)
    seconds = time.process_time() - begin
    errors = np.linalg.norm(state.transform(case.points) - case.targets, axis=1) / case.voxel
    error = float(np.median(errors)) if len(errors) else float("nan")
    return {
        "case": case.key,
        "criterion": criterion,
        "error": round(error, 3),
        "wrong": bool(error > _WRONG[case.fixed.ndim]),
        "warnings": list(state.warnings),
        "seconds": round(seconds, 3),
    }


def doubted(row: dict[str, Any]) -> bool:
    """Whether a warning doubts the result."""
    return any("check the result" in warning for warning in row["warnings"])


def table(rows: list[dict[str, Any]]) -> str:
    """Counts per disturbance, and of all."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["case"].split("/")[2]].append(row)
    lines = ["| disturbance | pairs | wrong | wrong, nothing said | right | right, but doubted |", "|---|---|---|---|---|---|"]
    for name, group in [*sorted(groups.items()), ("all", rows)]:
        wrong = [row for row in group if row["wrong"]]
        right = [row for row in group if not row["wrong"]]
        silent, alarms = sum(not doubted(row) for row in wrong), sum(doubted(row) for row in right)
        lines.append(f"| {name} | {len(group)} | {len(wrong)} | {silent} | {len(right)} | {alarms} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silent", description="Count silent failures.")
    parser.add_argument("--output", type=Path, metavar="ROWS.json")
    parser.add_argument("--into", type=Path, nargs="+", default=[], metavar="PAGE.md", help="pages that show the table")
    parser.add_argument("--count", type=int, default=600, help="pairs")
    parser.add_argument("--learnt", action="store_true", help="the images on which thresholds were chosen, not the test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="cases whose names hold one of them")
    parser.add_argument("--verbose", action="store_true", help="every pair, not only the surprises")
    return parser


if __name__ == "__main__":
    main()
