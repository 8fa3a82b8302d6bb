"""Silent failures: registrations that come out wrong though nothing is said.

Of pairs of real images under known maps, disturbed in many ways: how many come out wrong (median error over textured points of
the scene above 5 pixels, 3 voxels in 3-D), how many of these without a doubt, and how many are doubted though right. A doubt is a
warning that says "check the result"; what a registration only reports (padding that was masked, centres that were aligned) is
none. A run that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict

import numpy as np

import augreg as ar
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.harness.timing import timed
from benchmarks.silent.cases import Silent, cases

# voxels
_WRONG = {2: 5.0, 3: 3.0}
# after so many pairs the record is written
_EVERY = 20


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--count", type=int, default=600, help="pairs")
    parser.add_argument("--learnt", action="store_true", help="the images on which thresholds were chosen, not the test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="cases whose names hold one of them")
    parser.add_argument("--verbose", action="store_true", help="every pair, not only the surprises")


def run(options: argparse.Namespace) -> None:
    """Register all pairs."""
    set_threads(1)
    settings = {"learnt": options.learnt, "seed": options.seed}
    record = continued(options.output, about(1, ["augreg", "simpleitk", "numpy"]) | settings | {"rows": []})
    rows, done = record["rows"], {row["case"] for row in record["rows"]}
    for case in cases(options.count, not options.learnt, options.seed, options.only):
        if case.key in done:
            continue
        rows.append(judged(case))
        if rows[-1]["wrong"] != doubted(rows[-1]) or options.verbose:
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if len(rows) % _EVERY == 0:
            write_record(options.output, record)
    write_record(options.output, record)


def judged(case: Silent) -> Row:
    """Register and judge one pair."""
    _, _, disturbance, kind, _ = case.parts
    criterion = "mi" if disturbance in ("inverted", "arch") and int(case.parts[-1]) % 2 else "ncc"
    register = ar.LPRegistration(transform=kind, criterion=criterion)
    (*_, state), took = timed(lambda: list(register.steps(case.fixed, case.moving)))
    errors = np.linalg.norm(state.transform(case.points) - case.targets, axis=1) / case.voxel
    error = float(np.median(errors)) if len(errors) else float("nan")
    return {
        "case": case.key,
        "criterion": criterion,
        "error": round(error, 3),
        "wrong": bool(error > _WRONG[case.fixed.ndim]),
        "warnings": list(state.warnings),
        "seconds": round(took["cpu_seconds"], 3),
    }


def doubted(row: Row) -> bool:
    """Whether a warning doubts the result."""
    return any("check the result" in warning for warning in row["warnings"])


def rendered(record: Record) -> str:
    """Counts per disturbance, and of all."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in record["rows"]:
        groups[row["case"].split("/")[2]].append(row)
    lines = []
    for name, group in [*sorted(groups.items()), ("all", record["rows"])]:
        wrong = [row for row in group if row["wrong"]]
        right = [row for row in group if not row["wrong"]]
        silent, alarms = sum(not doubted(row) for row in wrong), sum(doubted(row) for row in right)
        lines.append([name, *map(str, (len(group), len(wrong), silent, len(right), alarms))])
    head = ["disturbance", "pairs", "wrong", "wrong, nothing said", "right", "right, but doubted"]
    return f"{heading(record)}\n\n{table(head, lines)}"
