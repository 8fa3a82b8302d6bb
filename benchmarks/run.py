"""The runner: `python -m benchmarks.run --output benchmarks/results/first.json [--ants-python PATH]`.

Every repeat goes through all cases, every case through all methods: whatever disturbs the machine disturbs all of them. A row of
the output is one registration; rows that are there already are not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, read_cases
from benchmarks.machine import machine
from benchmarks.measures import identity, quality
from benchmarks.process import Process
from benchmarks.rivals import DISTRIBUTIONS, METHODS, Method

# every method registers it once, untimed
_WARM_UP = "affine-brain/r16"


def main() -> None:
    """Command line."""
    options = _parser().parse_args()
    pythons = dict.fromkeys(options.rivals or DISTRIBUTIONS, sys.executable)
    if options.ants_python:
        pythons["ants"] = str(options.ants_python)
    else:
        pythons.pop("ants", None)
    cases = list(read_cases(tuple(options.only)))
    if not cases:
        sys.exit(f"--only: expected the beginning of a case such as affine-512/camera, got {' '.join(options.only)}")
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        processes = {m: Process(python, m, options.threads, Path(scratch), options.limit) for m, python in pythons.items()}
        for process in processes.values():
            stack.callback(process.close)
        measure(options.output, cases, processes, options.threads, options.repeats)


def measure(output: Path, cases: list[Case], processes: dict[str, Process], threads: int, repeats: int) -> None:
    """Run what the output lacks, and write it anew after every registration."""
    record = _begun(output, threads)
    done = {(row["case"], row["method"], row["repeat"]) for row in record["rows"]}
    warm_up = next(read_cases((_WARM_UP,)), cases[0])
    for repeat in range(repeats):
        for case in cases:
            for method in METHODS:
                if method.kind != case.kind or method.module not in processes or (case.key, method.name, repeat) in done:
                    continue
                process = processes[method.module]
                row = _row(case, method, repeat, process, warm_up)
                package = DISTRIBUTIONS[method.module]
                if record["versions"].setdefault(package, process.version) != process.version:
                    sys.exit(f"--output: {output} has rows of another version of {package}; give another name")
                record["initial"][case.key] = identity(case)
                record["rows"].append(row)
                record["date"] = datetime.date.today().isoformat()
                _write(output, record)
                print(f"{repeat} {case.key} {method.name}: {_said(row)}", file=sys.stderr, flush=True)


def _row(case: Case, method: Method, repeat: int, process: Process, warm_up: Case) -> dict[str, Any]:
    answer, grid, points = process.register(method.function, case, warm_up)
    row = {"case": case.key, "method": method.name, "repeat": repeat, "landmarks": case.landmarks} | answer
    if grid is not None and points is not None:
        try:
            row |= quality(case, grid, points)
        except ValueError as error:
            row["error"] = str(error)
    return row


def _said(row: dict[str, Any]) -> str:
    if "error" in row:
        return row["error"]
    return f"{row['seconds']:.2f} s, " + (f"TRE {row['tre_mean']:.2f} px" if "tre_mean" in row else f"NCC {row['ncc']:.3f}")


def _begun(output: Path, threads: int) -> dict[str, Any]:
    record = {"machine": machine(), "threads": threads, "date": "", "versions": {}, "initial": {}, "rows": []}
    if not output.exists():
        return record
    known = json.loads(output.read_text(encoding="utf-8"))
    if known["machine"] != machine() or known["threads"] != threads:
        sys.exit(f"--output: {output} has rows of another machine or another number of threads; give another name")
    return known


def _write(output: Path, record: dict[str, Any]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(".part")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure augreg and its rivals.")
    parser.add_argument("--output", type=Path, required=True, metavar="ROWS.json", help="is continued where it exists")
    parser.add_argument("--only", nargs="+", default=[], metavar="PREFIX", help="cases, such as affine-512 or elastic-512/retina")
    parser.add_argument("--rivals", nargs="+", choices=list(DISTRIBUTIONS), help="all by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="of one registration")
    parser.add_argument(
        "--ants-python", type=Path, metavar="PATH", help="an interpreter that has antspyx; ANTs is left out without"
    )
    return parser


if __name__ == "__main__":
    main()
