"""augreg and its rivals on pairs of images: known warps, stained tissue, brains of different people.

Every repeat goes through all cases, every case through all methods: whatever disturbs the machine disturbs all of them. A row of
the output is one registration; rows that are there already are not run again. With `--before` the augreg of another checkout
is one of the rivals, and a table compares the two. With `--older` rivals' rows that are lacking are taken from other records.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness.record import Record, Row, Unusable, about, continued, read_record, write_record
from benchmarks.registration.cases import Case, read_cases
from benchmarks.registration.measures import identity, quality
from benchmarks.registration.process import Process
from benchmarks.registration.rivals import DISTRIBUTIONS, METHODS, Method
from benchmarks.registration.table import BEFORE, rendered

__all__ = ["options", "rendered", "run"]
# every method registers it once, untimed
_WARM_UP = "affine-brain/r16"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", default=[], metavar="PREFIX", help="cases, such as affine-512 or elastic-512/retina")
    parser.add_argument("--rivals", nargs="+", choices=list(DISTRIBUTIONS), help="software; all by default")
    names = list(dict.fromkeys(method.name for method in METHODS))
    parser.add_argument("--methods", nargs="+", choices=names, metavar="NAME", help="rows of the tables, such as 'augreg, fine'")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="of one registration")
    parser.add_argument(
        "--ants-python", type=Path, metavar="PATH", help="an interpreter that has antspyx; ANTs is left out without"
    )
    parser.add_argument(
        "--older", type=Path, nargs="+", default=[], metavar="RESULT.json", help="records with rows of rivals that are not run"
    )
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, whose augreg is compared")


def run(options: argparse.Namespace) -> None:
    """Measure what the output lacks."""
    cases = list(read_cases(tuple(options.only)))
    if not cases:
        raise Unusable(f"--only: expected the beginning of a case such as affine-512/camera, got {' '.join(options.only)}")
    chosen = [method for method in METHODS if not options.methods or method.name in options.methods]
    methods = [method for method in chosen if method.module in (options.rivals or DISTRIBUTIONS)]
    if options.before:
        own = [method for method in methods if method.module == "augreg"]
        methods += [replace(method, name=method.name + BEFORE) for method in own]
    pythons = {"ants": options.ants_python and str(options.ants_python)}
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        processes: dict[str, Process] = {}
        for method in methods:
            python = pythons.get(method.module, sys.executable)
            key = _process(method)
            if python is not None and key not in processes:
                tree = options.before.resolve() if key.endswith(BEFORE) else None
                processes[key] = Process(python, method.module, options.threads, Path(scratch), options.limit, tree)
                stack.callback(processes[key].close)
        usable = [method for method in methods if _process(method) in processes]
        measure(options.output, cases, usable, processes, options.threads, options.repeats)
    for path in options.older:
        write_record(options.output, completed(read_record(options.output), read_record(path)))


def _process(method: Method) -> str:
    return method.module + BEFORE * method.name.endswith(BEFORE)


def measure(
    output: Path, cases: list[Case], methods: list[Method], processes: dict[str, Process], threads: int, repeats: int
) -> None:
    """Run what the output lacks, and write it anew after every registration."""
    record = continued(output, about(threads, ()) | {"initial": {}, "rows": []})
    done = {(row["case"], row["method"], row["repeat"]) for row in record["rows"]}
    warm_up = next(read_cases((_WARM_UP,)), cases[0])
    for repeat in range(repeats):
        for case in cases:
            for method in methods:
                if method.kind != case.kind or (case.key, method.name, repeat) in done:
                    continue
                process = processes[_process(method)]
                row = _row(case, method, repeat, process, warm_up)
                package = DISTRIBUTIONS[method.module]
                if record["versions"].setdefault(package, process.version) != process.version:
                    raise Unusable(f"--output: {output} has rows of another version of {package}; give another name")
                record["versions"] = dict(sorted(record["versions"].items(), key=lambda item: item[0].lower()))
                record["initial"][case.key] = identity(case)
                record["rows"].append(row)
                record["date"] = time.strftime("%Y-%m-%d")
                write_record(output, record)
                print(f"{repeat} {case.key} {method.name}: {_said(row)}", file=sys.stderr, flush=True)


def completed(record: Record, older: Record) -> Record:
    """The record with an older one's rows of rivals, and their date, where it has none of that case and method."""
    own = {method.name for method in METHODS if method.module == "augreg"}
    known = {(row["case"], row["method"]) for row in record["rows"]}
    taken = [row for row in older["rows"] if row["method"] not in own and (row["case"], row["method"]) not in known]
    dated = [{"date": older["date"]} | row for row in taken]
    starts = {row["case"]: older["initial"][row["case"]] for row in taken}
    versions = older["versions"] | record["versions"]
    return record | {
        "versions": dict(sorted(versions.items(), key=lambda item: item[0].lower())),
        "initial": starts | record["initial"],
        "rows": [*record["rows"], *dated],
    }


def _row(case: Case, method: Method, repeat: int, process: Process, warm_up: Case) -> Row:
    answer, grid, points = process.register(method.function, case, warm_up)
    row: dict[str, Any] = {"case": case.key, "method": method.name, "repeat": repeat, "landmarks": case.landmarks} | answer
    if grid is not None and points is not None:
        try:
            row |= quality(case, grid, points)
        except ValueError as error:
            row["error"] = str(error)
    return row


def _said(row: Row) -> str:
    if "error" in row:
        return row["error"]
    return f"{row['seconds']:.2f} s, " + (f"TRE {row['tre_mean']:.2f} px" if "tre_mean" in row else f"NCC {row['ncc']:.3f}")
