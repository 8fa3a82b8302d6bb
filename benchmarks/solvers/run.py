"""Solvers of piecewise-linear programs, on recorded sequences of programs (`run programs`).

Every program goes through all methods before the next one, in one thread. Some programs of a sequence are taken, evenly spread;
a warm or hot start is the solution of the program before: where steps compose (matrix groups) as the increment 0. Sequences that
the output has are not solved again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.harness.timing import timed
from benchmarks.solvers.programs import read_program
from solvers import HiGHS, InteriorPoint, PiecewiseLinearProgram, Solution

Method = Callable[[PiecewiseLinearProgram, Solution | None], Solution]
_OWN = "InteriorPoint"
# beginning of a sequence's name: title, tolerance, programs per sequence
_GROUPS = {
    "affine": ("Affine, 6 and 12 unknowns", 1e-6, 8),
    "spline": ("B-splines in 2-D, 300 to 800 unknowns", 1e-6, 2),
    "fine": ("B-splines in 2-D, 1664 and 2450 unknowns", 1e-6, 2),
    "head-26mm": ("B-spline in 3-D, 3600 unknowns", 1e-6, 2),
    "head-15.2mm": ("B-spline in 3-D, 10 584 unknowns, gap 1e-3", 1e-3, 2),
}
# of which the largest of all programs is shown, and its heading
_WORST = {
    "gap": "gap",
    "above": "above the best",
    "primal_residual": "primal residual",
    "dual_residual": "dual residual",
}
_PACKAGES = ("highspy", "clarabel", "scipy", "numba", "numpy")


def _methods(group: str, tolerance: float, limit: float) -> dict[str, tuple[Method, bool]]:
    """Name to solver, and whether it is given a start."""
    from benchmarks.solvers.rivals import Clarabel, Linprog  # tables are made without them

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


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("programs", type=Path, help="folder of recorded sequences")
    parser.add_argument("--only", nargs="*", default=[], help="sequences whose names begin so")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per program, for the others")


def run(options: argparse.Namespace) -> None:
    """Solve what the output lacks."""
    record = continued(options.output, about(1, _PACKAGES) | {"limit": options.limit, "rows": []})
    done = {row["sequence"] for row in record["rows"]}
    for solver, _ in _methods("affine", 1e-6, options.limit).values():
        # compile, and load libraries
        solver(read_program(next(options.programs.glob("affine*/*.npz"))), None)
    for group, (_, tolerance, count) in _GROUPS.items():
        methods = _methods(group, tolerance, options.limit)
        for folder in sorted(options.programs.glob(f"{group}*")):
            if folder.name.startswith(tuple(options.only) or ("",)) and folder.name not in done:
                for row in _measured(folder, methods, tolerance, count):
                    record["rows"].append({"group": group, "sequence": folder.name, **row})
                print(folder.name, flush=True)
                write_record(options.output, record)


def _measured(folder: Path, methods: dict[str, tuple[Method, bool]], tolerance: float, count: int) -> Iterator[Row]:
    paths = sorted(folder.glob("*.npz"))
    # from the second on, if there are two: each of them has one before it
    first = min(1, len(paths) - 1)
    for number in sorted(set(np.linspace(first, len(paths) - 1, count).astype(int).tolist())):
        program = read_program(paths[number])
        start = _start(folder, tolerance, paths[number - 1]) if number else None
        rows: list[Row] = []
        for name, (solver, started) in methods.items():
            if started and start is None:
                continue
            answer, took = timed(lambda: solver(program, start if started else None))  # noqa: B023
            rows.append(
                {
                    "program": number,
                    "method": name,
                    "rows": program.matrix.shape[0],
                    "unknowns": program.matrix.shape[1],
                    **took,
                    "status": answer.status,
                    "solver": answer.solver,
                    "iterations": int(answer.iterations),
                    "objective": answer.objective,
                    "gap": answer.gap,
                    "primal_residual": answer.primal_residual,
                    "dual_residual": answer.dual_residual,
                }
            )
        yield from compared(rows)


def _start(folder: Path, tolerance: float, path: Path) -> Solution:
    """What is known when the program after that of a file comes."""
    before = read_program(path)
    start = InteriorPoint(tolerance)(before)
    if not folder.name.startswith("affine"):
        return start
    return Solution.judged(before, np.zeros_like(start.x), start.multipliers, start.status, 0, 0.0)


def compared(rows: list[Row]) -> Iterator[Row]:
    """The rows of a program with `above`: the relative distance to the lowest objective that any solver has found."""
    lowest = min((row["objective"] for row in rows if _solved(row) and row["primal_residual"] < 1e-4), default=np.nan)
    for row in rows:
        yield row | ({"above": (row["objective"] - lowest) / (1 + abs(row["objective"]))} if _solved(row) else {})


def _solved(row: Row) -> bool:
    return row["status"] == "optimal"


def rendered(record: Record) -> str:
    """All tables, after a line about the machine."""
    parts = [heading(record) + "\n"]
    for group, (title, tolerance, _) in _GROUPS.items():
        rows = [row for row in record["rows"] if row["group"] == group]
        if rows:
            parts.append(f"### {title}\n\n" + _table(rows, tolerance))
    return "\n".join(parts)


def _table(rows: list[Row], tolerance: float) -> str:
    own = _typical([row for row in rows if row["method"] == _OWN], "cpu_seconds")
    heads = ["ms", "CPU ms", f"CPU / {_OWN}", "iterations", *_WORST.values(), "not solved"]
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == name]
        good = [row for row in mine if _solved(row)]
        failed = sum(not _solved(row) or row["gap"] > 10 * tolerance for row in mine)
        worst = [max((row[key] for row in good), default=np.nan) for key in _WORST]
        seconds, spent = _typical(mine, "seconds"), _typical(mine, "cpu_seconds")
        cells = [
            _ms(seconds),
            _ms(spent),
            f"{spent / own:.3g}",
            f"{median(row['iterations'] for row in mine):.0f}",
            *[f"{value:.1e}" for value in worst],
            f"{failed} of {len(mine)}",
        ]
        lines.append([name, *cells])
    return table(["method", *heads], lines)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:.0f}"


def _typical(rows: list[Row], key: str) -> float:
    """Median over the sequences of their medians."""
    sequences = {row["sequence"] for row in rows}
    return median(median(row[key] for row in rows if row["sequence"] == name) for name in sequences)
