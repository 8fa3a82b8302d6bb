"""Registration between people, and of beating hearts: augreg and its rivals on the same pairs, test people or training people.

The cases are those of `between`. A row is one registration, images in memory: seconds, CPU seconds of all threads, overlap of
labels, folding. augreg runs in this process and its rivals each in their own, all warm. Rivals take minutes for a volume: they
get the first pairs of each case, `--rival-pairs`, and the table compares over the pairs that a rival has. Rows are kept as they
come. Those of a rival stay when only augreg has changed: every row has the commit that made it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import augreg as ar
from augreg.threads import set_threads
from benchmarks.harness.record import Record, Row, Unusable, about, read_record, write_record
from benchmarks.harness.timing import timed
from benchmarks.registration.between import PAIRS, SPLITS, Between, read
from benchmarks.registration.cases import Case
from benchmarks.registration.people_table import OWN, RIVALS, rendered, takes
from benchmarks.registration.process import Process

__all__ = ["options", "rendered", "run"]

# pairs of each case that rivals get: some minutes a volume of a head
_RIVAL_PAIRS = {"brain2d-z08": 16, "brain2d-z20": 16, "brain3d": 2, "hearts3d-phases": 6, "hearts3d-people": 6}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[""], metavar="PREFIX", help="cases, such as brain2d or hearts3d-phases")
    names = [*OWN, *(rival.name for rival in RIVALS)]
    parser.add_argument("--methods", nargs="+", choices=names, default=names, metavar="NAME", help=f"rows: {', '.join(names)}")
    parser.add_argument("--pairs", type=int, default=1000, help="the first so many pairs of each case; all by default")
    parser.add_argument("--rival-pairs", type=int, help=f"the first so many pairs of each case; default: {_RIVAL_PAIRS}")
    parser.add_argument("--rows", type=int, default=10**6, help="stop after so many new rows")
    parser.add_argument("--limit", type=float, default=1800.0, metavar="SECONDS", help="of one registration of a rival")
    parser.add_argument("--ants-python", type=Path, metavar="PATH", help="an interpreter that has antspyx; left out without")
    parser.add_argument(
        "--convexadam-python", type=Path, metavar="PATH", help="an interpreter that has convexadam; left out without"
    )


def run(options: argparse.Namespace) -> None:
    """Measure what the output lacks."""
    set_threads(options.threads)
    record = _continued(
        options.output, about(options.threads, ("augreg", "numba", "numpy")) | {"split": options.split, "rows": []}
    )
    done = {(row["case"], row["pair"], row["method"]) for row in record["rows"]}
    with contextlib.ExitStack() as stack:
        rivals = _Rivals(options, record, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(rivals.close)
        for row in itertools.islice(_rows(options, rivals, done), options.rows):
            record["rows"].append(row | {"commit": record["commit"]})
            write_record(options.output, record)
            print(row, file=sys.stderr, flush=True)


def _continued(path: Path, record: Record) -> Record:
    """The new record with the rows that are there already: those of rivals, and of augreg if they are of the same commit.

    Raises
    ------
    Unusable : if they are of another machine, split or number of threads.
    """
    if not path.exists():
        return record
    known = read_record(path)
    for part in ("machine", "threads", "split"):
        if known.get(part) != record.get(part):
            found = f"expected rows of {part} {record.get(part)}, got {known.get(part)}; give another name, or remove it"
            raise Unusable(f"--output: {path}: {found}")
    rows = [row for row in known["rows"] if row["method"] not in OWN or row["commit"] == record["commit"]]
    return record | {"versions": known["versions"] | record["versions"], "rows": rows}


def _rows(options: argparse.Namespace, rivals: _Rivals, done: set[tuple[str, str, str]]) -> Iterator[Row]:
    for group in PAIRS:
        if not group.startswith(tuple(options.only)):
            continue
        for number, names in enumerate(PAIRS[group](options.split)[: options.pairs]):
            few = _RIVAL_PAIRS[group] if options.rival_pairs is None else options.rival_pairs
            missing = [name for name in options.methods if (group, " ".join(names), name) not in done]
            missing = [name for name in missing if takes(name, group)]
            missing = [name for name in missing if name in OWN or (number < few and rivals.has(name))]
            if not missing:
                continue
            pair = read(group, names)
            for name in missing:
                found = _own(name, pair) if name in OWN else rivals.registered(name, pair)
                yield {"case": group, "pair": pair.name, "method": name} | found


_warm: set[tuple[str, int]] = set()


def _own(name: str, pair: Between) -> Row:
    register = OWN[name]
    if (name, pair.fixed.ndim) not in _warm:
        register(pair.fixed, pair.moving)
        _warm.add((name, pair.fixed.ndim))
    phi, took = timed(lambda: register(pair.fixed, pair.moving))
    return took | pair.quality(voxels(phi, pair))


def voxels(phi: ar.Transform, pair: Between) -> npt.NDArray[np.float32]:
    """Where the fixed image's voxels go, some rows at a time."""
    grid, moving = pair.fixed.grid, pair.moving.grid
    out = np.empty((*grid.shape, grid.ndim), dtype=np.float32)
    for i in range(grid.shape[0]):
        row = np.stack(np.meshgrid(i, *map(np.arange, grid.shape[1:]), indexing="ij"), axis=-1)
        out[i] = moving.indices_at(phi(grid.points_at(row[0].astype(float))))
    return out


class _Rivals:
    """Their processes, started when needed."""

    def __init__(self, options: argparse.Namespace, record: Record, scratch: Path) -> None:
        self._options, self._record, self._scratch = options, record, scratch
        self._pythons: dict[str, Path | None] = {"ants": options.ants_python, "convexadam": options.convexadam_python}
        self._processes: dict[str, Process] = {}
        self._known = {rival.name: rival for rival in RIVALS}

    def has(self, name: str) -> bool:
        """Whether it can be run."""
        return self._pythons.get(self._known[name].module, Path(sys.executable)) is not None

    def registered(self, name: str, pair: Between) -> Row:
        """A row, or why there is none."""
        rival, limit = self._known[name], self._options.limit
        python = str(self._pythons.get(rival.module) or sys.executable)
        if rival.module not in self._processes:
            self._processes[rival.module] = Process(python, rival.module, self._options.threads, self._scratch, limit)
        process, case = self._processes[rival.module], pair.case()
        answer, at, _ = process.register(rival.function, case, _small(case))
        self._record["versions"][rival.module] = process.version
        return answer if at is None else answer | pair.quality(at)

    def close(self) -> None:
        """End all."""
        for process in self._processes.values():
            process.close()


def _small(case: Case) -> Case:
    """Something of the kind to warm up with."""
    ndim = len(case.spacings[0])
    every = tuple(slice(None, None, 2 if ndim == 2 or n > 64 else 1) for n in case.fixed.shape)
    spacings = [tuple(s * (e.step or 1) for s, e in zip(spacing, every, strict=True)) for spacing in case.spacings]
    nothing = np.empty((0, ndim))
    fixed, moving = (np.ascontiguousarray(values[every]) for values in (case.fixed, case.moving))
    return Case(case.group, "small", "elastic", fixed, moving, nothing, nothing, spacings=(spacings[0], spacings[1]))
