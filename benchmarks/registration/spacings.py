"""Are fine B-splines worth their programs? Known elastic warps by spacing of the control points, against the dense stage.

A B-spline of fewer pixels between its control points has more unknowns: 10 000 of them at a seventieth of a photograph's side.
Each is found in two ways: as the plan does it where there are many unknowns (programs for a coarser one, the finest is only
polished), and by programs alone to the end (`polish=0`). Beside them stands the default, a coarse B-spline and the dense stage
behind it.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median

import numpy as np

import augreg as ar
from augreg.lp.models import SplineModel
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, write_record
from benchmarks.harness.timing import timed
from benchmarks.registration.cases import Case, read_cases
from benchmarks.registration.rivals.augreg import image

# control points along the longest side
_CELLS = (16, 24, 34, 48, 70)


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--only", nargs="+", default=["elastic-512"], metavar="PREFIX", help="cases of the benchmark registration"
    )


def run(options: argparse.Namespace) -> None:
    """Register every case by every setting."""
    set_threads(options.threads)
    record: Record = about(options.threads, ("numba", "numpy")) | {"rows": []}
    for case in read_cases(tuple(options.only)):
        for name, registration in _settings(case).items():
            row = _row(case, name, registration)
            record["rows"].append(row)
            write_record(options.output, record)
            print(row, file=sys.stderr, flush=True)


def _settings(case: Case) -> dict[str, ar.LPRegistration]:
    side = max(case.fixed.shape[:2]) - 1
    found = {"default: 16 cells, then dense": ar.LPRegistration()}
    for cells in _CELLS:
        found[f"{cells} cells"] = ar.LPRegistration(grid_spacing=side / cells, dense=None)
    for cells in _CELLS:
        found[f"{cells} cells, programs alone"] = ar.LPRegistration(grid_spacing=side / cells, dense=None, polish=0)
    return found


def _row(case: Case, name: str, registration: ar.LPRegistration) -> Row:
    fixed, moving = (image(values, spacing) for values, spacing in zip((case.fixed, case.moving), case.spacings, strict=True))
    # the first call in a process loads kernels
    if name.startswith("default"):
        registration(fixed, moving)
    states, took = timed(lambda: list(registration.steps(fixed, moving)))
    splines = [part for part in states[-1].transform.transforms if isinstance(part, ar.BSpline)]
    errors = np.linalg.norm(states[-1].transform(case.points) - case.targets, axis=1)
    return {
        "case": case.key,
        "setting": name,
        "unknowns": SplineModel(splines[-1], 0.0, True).unknowns,
        "cpu_seconds": took["cpu_seconds"],
        "solve_seconds": states[-1].solve_seconds,
        "tre_mean": float(errors.mean()),
        "tre_p90": float(np.percentile(errors, 90)),
    }


def rendered(record: Record) -> str:
    """A row per setting: medians over the cases, and each case's error."""
    rows = record["rows"]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    lines = []
    for name in dict.fromkeys(row["setting"] for row in rows):
        mine = [row for row in rows if row["setting"] == name]
        typical = [f"{median(row[key] for row in mine):.3g}" for key in ("cpu_seconds", "solve_seconds", "tre_mean", "tre_p90")]
        errors = [f"{row['tre_mean']:.3g}" for case in cases for row in mine if row["case"] == case]
        lines.append([name, f"{median(row['unknowns'] for row in mine):.0f}", *typical, *errors])
    columns = ["unknowns", "CPU s", "in the solver s", "mean TRE px", "90 % px"]
    return heading(record) + "\n\n" + table(["setting", *columns, *[f"TRE px {case.split('/')[1]}" for case in cases]], lines)
