"""Damaged and hostile files for every reader: `python -m benchmarks.fuzz [--count 10000] [--seed 0] [--output RESULTS.json]`.

Each mutant of a valid file (`benchmarks.fuzz_files`) is read in a process with 4 GB of address space and 20 s. Right are: refused
in one line; read equal; read changed where the format has no checksum. Wrong are: changed although a checksum should have told,
an exception that is not refused input, a crash, no answer in time, anything unpickled, anything written outside.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz_files import KINDS, Kind, mutant, placed, write_valid
from benchmarks.pages import about, heading, put_into, write_record

SECONDS = 20.0
OUTCOMES = ("refused", "equal", "warned", "changed", "untold", "traceback", "crash", "hang", "escaped")
FAULTS = ("untold", "traceback", "crash", "hang", "escaped")


class Worker:
    """A process that reads, started again when it dies."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def read(self, reader: str, path: Path, seconds: float) -> dict[str, Any]:
        """What `benchmarks.fuzz_worker` answers, or `crash`, or `hang`."""
        if self.process is None:
            command = [sys.executable, "-m", "benchmarks.fuzz_worker"]
            threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(command, encoding="utf-8", env={**os.environ, **threads}, **pipes)
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{reader} {path}\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._ended("crash")
        if not select.select([process.stdout], [], [], seconds)[0]:
            return self._ended("hang")
        line = process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else self._ended("crash")
        return answer

    def _ended(self, outcome: str) -> dict[str, Any]:
        assert self.process is not None
        self.process.kill()
        status = self.process.wait()
        self.close()
        return {"outcome": outcome, "said": f"status {status}", "warned": ""}

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.kill()
            self.process.wait()
        self.process = None


def fuzz(count: int, seed: int = 0, kinds: Sequence[Kind] = KINDS, workers: int = 2) -> list[dict[str, Any]]:
    """A row per mutant: `kind`, `number`, `change`, `outcome`, `said`."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        valid = folder / "valid"
        write_valid(valid)
        contents = {kind.name: (valid / kind.name / kind.name).read_bytes() for kind in KINDS}
        jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            jobs.put(number)

        def work(place: Path) -> None:
            worker, known = Worker(), {}
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
                        first = worker.read(kind.reader, path, 10 * SECONDS)
                        if first["outcome"] != "read":
                            raise RuntimeError(f"{kind.name}: the valid file is not read: {first}")
                        known[kind.name] = first["digest"]
                    rng = np.random.default_rng([seed, number])
                    change, content = mutant(contents[kind.name], kind, contents, rng, marker)
                    path = placed(valid, kind, content, place / "read")
                    answer = worker.read(kind.reader, path, SECONDS + 10 * (worker.process is None))
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


def _outcome(answer: dict[str, Any], whole: str, told: bool) -> str:
    if answer["outcome"] != "read":
        return str(answer["outcome"])
    if answer["digest"] == whole:
        return "equal"
    if answer["warned"]:
        return "warned"
    return "untold" if told else "changed"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Outcomes by kind."""
    lines = ["| file | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 1) + "|"]
    for name in dict.fromkeys(row["kind"] for row in rows):
        found = Counter(row["outcome"] for row in rows if row["kind"] == name)
        lines.append(f"| {name} | " + " | ".join(str(found[outcome]) for outcome in OUTCOMES) + " |")
    total = Counter(row["outcome"] for row in rows)
    lines.append("| all | " + " | ".join(str(total[outcome]) for outcome in OUTCOMES) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10000, metavar="N", help="mutants in all (default 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[kind.name for kind in KINDS], help="kinds of files (default all)")
    parser.add_argument("--output", type=Path, metavar="RESULTS.json", help="counts, and what went wrong")
    parser.add_argument("--into", type=Path, nargs="+", default=[], metavar="PAGE.md", help="pages that show the table")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.only is None or kind.name in options.only]
    rows = fuzz(options.count, options.seed, kinds, options.workers)
    record = about(options.workers, ["augreg", "simpleitk", "nibabel", "pydicom", "tifffile", "pillow", "imagecodecs"])
    record |= {"count": options.count, "seed": options.seed}
    text = f"{heading(record)}\n\n{table(rows)}\n"
    print(text)
    faults = [row for row in rows if row["outcome"] in FAULTS]
    for row in faults[:20]:
        print(f"{row['kind']} {row['number']} {row['change']}: {row['outcome']}: {row['said']}")
    if options.output is not None:
        counts = {kind.name: dict(Counter(r["outcome"] for r in rows if r["kind"] == kind.name)) for kind in kinds}
        write_record(options.output, record | {"outcomes": counts, "faults": faults[:200]})
    for page in options.into:
        put_into(page, "fuzz", text)


if __name__ == "__main__":
    main()
