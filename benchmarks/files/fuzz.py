"""Damaged and hostile files for every reader.

Each mutant of a valid file (`benchmarks.files.mutants`) is read in a process with 4 GB of address space and 20 s. Right are:
refused in one line; read equal; read changed where the format has no checksum. Wrong are: changed although a checksum should have
told, an exception that is not refused input, a crash, no answer in time, anything unpickled, anything written outside.
"""

from __future__ import annotations

import argparse
import queue
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.files.mutants import KINDS, Kind, mutant, placed, write_valid
from benchmarks.harness.page import heading, table
from benchmarks.harness.process import Ended, Worker, surroundings
from benchmarks.harness.record import Record, Row, about, write_record

SECONDS = 20.0
OUTCOMES = ("refused", "equal", "warned", "changed", "untold", "traceback", "crash", "hang", "escaped")
FAULTS = ("untold", "traceback", "crash", "hang", "escaped")
_COMMAND = [sys.executable, "-m", "benchmarks.files.worker"]


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--count", type=int, default=10000, metavar="N", help="mutants in all (default 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[kind.name for kind in KINDS], help="kinds of files (default all)")


def run(options: argparse.Namespace) -> None:
    """Read all mutants; counts, and what went wrong."""
    kinds = [kind for kind in KINDS if options.only is None or kind.name in options.only]
    rows = fuzz(options.count, options.seed, kinds, options.workers)
    record = about(options.workers, ["augreg", "simpleitk", "nibabel", "pydicom", "tifffile", "pillow", "imagecodecs"])
    counts = [{"kind": kind.name, **Counter(r["outcome"] for r in rows if r["kind"] == kind.name)} for kind in kinds]
    faults = [row for row in rows if row["outcome"] in FAULTS]
    for row in faults[:20]:
        print(f"{row['kind']} {row['number']} {row['change']}: {row['outcome']}: {row['said']}", file=sys.stderr)
    about_it = {"count": options.count, "seed": options.seed, "rows": counts, "faults": faults[:200]}
    write_record(options.output, record | about_it)


def rendered(record: Record) -> str:
    """Outcomes by kind."""
    total = Counter[str]()
    for row in record["rows"]:
        total.update({outcome: row.get(outcome, 0) for outcome in OUTCOMES})
    rows = [*record["rows"], {"kind": "all", **total}]
    lines = [[row["kind"], *[str(row.get(outcome, 0)) for outcome in OUTCOMES]] for row in rows]
    return f"{heading(record)}\n\n{table(['file', *OUTCOMES], lines)}"


def fuzz(count: int, seed: int = 0, kinds: Sequence[Kind] = KINDS, workers: int = 2) -> list[Row]:
    """A row per mutant: `kind`, `number`, `change`, `outcome`, `said`."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        valid = folder / "valid"
        write_valid(valid)
        contents = {kind.name: (valid / kind.name / kind.name).read_bytes() for kind in KINDS}
        jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            jobs.put(number)

        def work(place: Path) -> None:
            worker, known = Worker(_COMMAND, surroundings(1)), {}
            place.mkdir()
            # a name that a traversal of one or two folders leads to
            marker = place.parent / f"escaped-{place.name}"
            try:
                while True:
                    try:
                        number = jobs.get_nowait()
                    except queue.Empty:
                        return
                    kind = kinds[number % len(kinds)]
                    if kind.name not in known:
                        path = placed(valid, kind, contents[kind.name], place / "read")
                        # the first call also imports and compiles
                        first = _read(worker, kind.reader, path, 10 * SECONDS)
                        if first["outcome"] != "read":
                            raise RuntimeError(f"{kind.name}: the valid file is not read: {first}")
                        known[kind.name] = first["digest"]
                    rng = np.random.default_rng([seed, number])
                    change, content = mutant(contents[kind.name], kind, contents, rng, marker)
                    path = placed(valid, kind, content, place / "read")
                    answer = _read(worker, kind.reader, path, SECONDS + 10 * (not worker.runs))
                    # with another head it is a file of another format
                    told = kind.told and content[:4] == contents[kind.name][:4]
                    outcome = _outcome(answer, known[kind.name], told)
                    left = {p.name for p in place.iterdir()} - {"read"}
                    if marker.exists() or left:
                        marker.unlink(missing_ok=True)
                        outcome = "escaped"
                    row = {"kind": kind.name, "number": number, "change": change, "outcome": outcome}
                    rows.append({**row, "said": answer.get("said", "") or answer["warned"]})
            except Exception as error:
                failures.append(error)
            finally:
                worker.close()

        failures: list[Exception] = []
        threads = [threading.Thread(target=work, args=(folder / f"work-{k}",)) for k in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
    return sorted(rows, key=lambda row: row["number"])


def _outcome(answer: Row, whole: str, told: bool) -> str:
    if answer["outcome"] != "read":
        return str(answer["outcome"])
    if answer["digest"] == whole:
        return "equal"
    if answer["warned"]:
        return "warned"
    return "untold" if told else "changed"


def _read(worker: Worker, reader: str, path: Path, seconds: float) -> Row:
    """What `benchmarks.files.worker` answers, or `crash`, or `hang`."""
    try:
        return worker.ask(f"{reader} {path}", seconds)
    except Ended as ended:
        return {"outcome": ended.kind, "said": str(ended), "warned": ""}
