"""Solvers of piecewise-linear programs in one run, on recorded sequences of programs (`benchmarks.record_programs`).

    python -m benchmarks.solvers runs/programs --output benchmarks/results/solvers.json --into benchmarks/README.md

Every program goes through all methods before the next one, in one thread. Some programs of a sequence are taken, evenly spread;
a warm or hot start is the solution of the program before: where steps compose (matrix groups) as the increment 0.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.record_programs import read_program
from benchmarks.solver_rivals import Clarabel, Linprog
from solvers import HiGHS, InteriorPoint, PiecewiseLinearProgram, Solution

Method = Callable[[PiecewiseLinearProgram, Solution | None], Solution]
_MARKS = "<!-- solvers -->\n", "<!-- end of solvers -->\n"
_OWN = "InteriorPoint"
# beginning of a sequence's name: title, tolerance, programs per sequence
_GROUPS = {
    "affine": ("Affine, 6 and 12 unknowns", 1e-6, 8),
    "spline": ("B-splines in 2-D, 300 to 400 unknowns", 1e-6, 2),
    "fine": ("B-splines in 2-D, 1664 and 2450 unknowns", 1e-6, 2),
    "head-26mm": ("B-spline in 3-D, 3600 unknowns", 1e-6, 2),
    "head-15.2mm": ("B-spline in 3-D, 10 584 unknowns, gap 1e-3", 1e-3, 2),
}
_PACKAGES = ("highspy", "clarabel", "scipy", "numba", "numpy")


def _methods(group: str, tolerance: float, limit: float) -> dict[str, tuple[Method, bool]]:
    """Name to solver, and whether it is given a start."""
    simplex, ipx = HiGHS("simplex", time_limit=limit), HiGHS("ipx", tolerance=tolerance, time_limit=limit)
    found: dict[str, tuple[Method, bool]] = {
        _OWN: (InteriorPoint(tolerance), False),
        f"{_OWN}, warm": (InteriorPoint(tolerance), True),
        "HiGHS ipx": (ipx, False),
        "HiGHS pdlp": (HiGHS("pdlp", tolerance=tolerance, time_limit=limit), False),
        "Clarabel": (Clarabel(tolerance, limit), False),
        "linprog highs-ipm": (Linprog("highs-ipm", limit), False),
    }
    if group in ("affine", "spline"):
        found["HiGHS simplex"] = (simplex, False)
        found["HiGHS simplex, hot"] = (simplex, True)
    if group == "affine":
        found["linprog highs-ds"] = (Linprog("highs-ds", limit), False)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solvers", description=__doc__.split("\n")[0])
    parser.add_argument("programs", type=Path, help="folder of recorded sequences")
    parser.add_argument("--output", type=Path, required=True, metavar="ROWS.json")
    parser.add_argument("--into", type=Path, metavar="PAGE.md", help="replace what stands between the marks there")
    parser.add_argument("--only", nargs="*", default=[], help="sequences whose names begin so")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per program, for the others")
    options = parser.parse_args()
    record = {
        "machine": machine(),
        "date": str(datetime.date.today()),
        "limit": options.limit,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "rows": [],
    }
    for solver, _ in _methods("affine", 1e-6, options.limit).values():
        # compile, and load libraries
        solver(read_program(next(options.programs.glob("affine*/*.npz"))), None)
    for group, (_, tolerance, count) in _GROUPS.items():
        methods = _methods(group, tolerance, options.limit)
        for folder in sorted(options.programs.glob(f"{group}*")):
            if folder.name.startswith(tuple(options.only) or ("",)):
                for row in _measured(folder, methods, tolerance, count):
                    record["rows"].append({"group": group, "sequence": folder.name, **row})
                print(folder.name, flush=True)
                options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = rendered(record)
    print(text)
    if options.into is not None:
        begin, end = map(re.escape, _MARKS)
        options.into.write_text(
            re.sub(f"(?s)(?<={begin}).*(?={end})", lambda _: text, options.into.read_text(encoding="utf-8")), encoding="utf-8"
        )


def _measured(folder: Path, methods: dict[str, tuple[Method, bool]], tolerance: float, count: int) -> Iterator[dict[str, Any]]:
    paths = sorted(folder.glob("*.npz"))
    # from the second on: each of them has one before it
    for number in sorted(set(np.linspace(1, len(paths) - 1, count).astype(int).tolist())):
        before, program = read_program(paths[number - 1]), read_program(paths[number])
        start = InteriorPoint(tolerance)(before)
        if folder.name.startswith("affine"):
            still = np.zeros_like(start.x)
            start = Solution.judged(before, still, start.multipliers, start.status, 0, 0.0)
        for name, (solver, started) in methods.items():
            begin, spent = time.perf_counter(), time.process_time()
            answer = solver(program, start if started else None)
            yield {
                "program": number,
                "method": name,
                "rows": program.matrix.shape[0],
                "unknowns": program.matrix.shape[1],
                "seconds": time.perf_counter() - begin,
                "cpu_seconds": time.process_time() - spent,
                "status": answer.status,
                "solver": answer.solver,
                "iterations": int(answer.iterations),
                "objective": answer.objective,
                "gap": answer.gap,
                "primal_residual": answer.primal_residual,
                "dual_residual": answer.dual_residual,
            }


def rendered(record: dict[str, Any]) -> str:
    """All tables, after a line about the machine."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; 1 thread; "
        f"{versions}; {record['date']}."
    ]
    for group, (title, tolerance, _) in _GROUPS.items():
        rows = [row for row in record["rows"] if row["group"] == group]
        if rows:
            lines += ["", f"### {title}", "", *_table(rows, tolerance)]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]], tolerance: float) -> Iterator[str]:
    keys = {(row["sequence"], row["program"]) for row in rows}
    sound = [row for row in rows if row["status"] == "optimal" and row["primal_residual"] < 1e-4]
    best = {key: min(row["objective"] for row in sound if (row["sequence"], row["program"]) == key) for key in keys}
    own = _typical([row for row in rows if row["method"] == _OWN], "cpu_seconds")
    heads = [
        "ms",
        "CPU ms",
        f"CPU / {_OWN}",
        "iterations",
        "gap",
        "above the best",
        "primal residual",
        "dual residual",
        "not solved",
    ]
    yield f"| method | {' | '.join(heads)} |"
    yield f"| --- |{' --: |' * len(heads)}"
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == name]
        good = [row for row in mine if row["status"] == "optimal"]
        failed = sum(row["status"] != "optimal" or row["gap"] > 10 * tolerance for row in mine)
        worst = [max((row[key] for row in good), default=np.nan) for key in ("gap", "primal_residual", "dual_residual")]
        above = max(
            ((row["objective"] - best[row["sequence"], row["program"]]) / (1 + abs(row["objective"])) for row in good),
            default=np.nan,
        )
        seconds, spent = _typical(mine, "seconds"), _typical(mine, "cpu_seconds")
        cells = [
            _ms(seconds),
            _ms(spent),
            f"{spent / own:.3g}",
            f"{median(row['iterations'] for row in mine):.0f}",
            f"{worst[0]:.1e}",
            f"{above:.1e}",
            f"{worst[1]:.1e}",
            f"{worst[2]:.1e}",
            f"{failed} of {len(mine)}",
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:.0f}"


def _typical(rows: list[dict[str, Any]], key: str) -> float:
    """Median over the sequences of their medians."""
    sequences = {row["sequence"] for row in rows}
    return median(median(row[key] for row in rows if row["sequence"] == name) for name in sequences)


if __name__ == "__main__":
    main()
