"""Brains of different people in 3-D.

All ordered pairs of `brain3d`, native space; Dice is the mean over the labels that both people have, the moving labels warped by
nearest neighbour. ANTs takes minutes a pair, so it gets the first `--ants-pairs` of them, each beside augreg's runs of that pair.
Rows that are there already are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np

import augreg as ar
from augreg.metrics import mean_overlap
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA, ROOT
from benchmarks.harness.process import finished, surroundings
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.harness.timing import timed

_SETTINGS: dict[str, Callable[[], ar.LPRegistration]] = {
    "augreg, affine": partial(ar.LPRegistration, transform="affine"),
    "augreg, 20 mm": partial(ar.LPRegistration, grid_spacing=20.0),
    "augreg": ar.LPRegistration,
    "augreg, for people": ar.LPRegistration.for_people,
    "augreg, 10 mm": partial(ar.LPRegistration, grid_spacing=10.0),
    "augreg, 7 mm": partial(ar.LPRegistration, grid_spacing=7.0, smoothness=1e-5),
}
_RIVAL = "ANTs SyNQuick[s]"
# in the rival's own environment: the time of the registration, and the labels it moves
_ANTS = """
import sys, time, ants
fixed, moving = (ants.image_read(path) for path in sys.argv[1:3])
begin, used = time.perf_counter(), time.process_time()
found = ants.registration(fixed, moving, type_of_transform="antsRegistrationSyNQuick[s]", random_seed=1)
print(time.perf_counter() - begin, time.process_time() - used)
labels = ants.image_read(sys.argv[3])
ants.image_write(ants.apply_transforms(fixed, labels, found["fwdtransforms"], interpolator="nearestNeighbor"), sys.argv[4])
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=1000, help="the first so many pairs; all by default")
    parser.add_argument("--ants-pairs", type=int, default=2)
    parser.add_argument("--ants-python", type=Path, metavar="PATH", help="an interpreter that has antspyx")


def run(options: argparse.Namespace) -> None:
    """Measure what the output lacks."""
    set_threads(options.threads)
    record = continued(options.output, about(options.threads, ("augreg", "SimpleITK")) | {"rows": []})
    people = sorted(path.name[:4] for path in (DATA / "brain3d").glob("????.nii.gz"))
    done = {(row["pair"], row["method"]) for row in record["rows"]}
    for number, pair in enumerate(list(itertools.permutations(people, 2))[: options.pairs]):
        rows: Iterator[Row] = _own(pair, done, warm_up=number == 0)
        if options.ants_python and number < options.ants_pairs and (" ".join(pair), _RIVAL) not in done:
            rows = itertools.chain(rows, [_ants(pair, options.ants_python, options.threads)])
        for row in rows:
            record["rows"].append(row)
            write_record(options.output, record)
            print(row, file=sys.stderr, flush=True)


def _own(pair: tuple[str, str], done: set[tuple[str, str]], *, warm_up: bool) -> Iterator[Row]:
    fixed, moving = (ar.read_image(DATA / f"brain3d/{i}.nii.gz") for i in pair)
    labels = _labels(pair)
    for name, settings in {"none": None, **_SETTINGS}.items():
        if (" ".join(pair), name) in done:
            continue
        phi, took = ar.Affine.identity(3), {"seconds": 0.0, "cpu_seconds": 0.0}
        if settings is not None:
            register = settings()
            if warm_up:
                register(fixed, moving)
            phi, took = timed(lambda: register(fixed, moving))  # noqa: B023
        dice = _dice(*labels, ar.warp(labels[1], phi, fixed.grid))
        yield {"pair": " ".join(pair), "method": name, **took, "dice": dice, "folding": ar.folding(phi, fixed.grid)}


def _ants(pair: tuple[str, str], python: Path, threads: int) -> Row:
    labels = _labels(pair)
    with tempfile.TemporaryDirectory() as scratch:
        files = [str(DATA / f"brain3d/{name}.nii.gz") for name in (*pair, f"{pair[1]}_labels")]
        out = f"{scratch}/moved.nii.gz"
        said, _, _ = finished([str(python), "-c", _ANTS, *files, out], surroundings(threads), ROOT)
        dice = _dice(*labels, ar.read_labels(out))
    seconds, used = map(float, said.split()[-2:])
    return {"pair": " ".join(pair), "method": _RIVAL, "seconds": seconds, "cpu_seconds": used, "dice": dice}


def _labels(pair: tuple[str, str]) -> tuple[ar.Labels, ar.Labels]:
    first, second = (ar.read_labels(DATA / f"brain3d/{i}_labels.nii.gz") for i in pair)
    return first, second


def _dice(fixed: ar.Labels, moving: ar.Labels, moved: ar.Labels) -> float:
    """The mean over the labels that both people have; one that is moved out of view counts 0."""
    both = np.intersect1d(fixed.values, moving.values)
    return mean_overlap(ar.dice(fixed, moved, known=both[both != 0].tolist()))


def rendered(record: Record) -> str:
    """The table: all pairs, and those that the rival has too."""
    rows = record["rows"]
    shared = {row["pair"] for row in rows if row["method"] == _RIVAL}
    own = {row["pair"] for row in rows if row["method"] != _RIVAL}
    of = [f"{what}, {len(pairs)} pairs" for pairs in (own, shared) for what in ("median CPU s", "median s", "mean Dice")]
    lines = []
    for name in ("none", *_SETTINGS, _RIVAL):
        if mine := [row for row in rows if row["method"] == name]:
            beside = [row for row in mine if row["pair"] in shared]
            cells = [cell for part in ([] if name == _RIVAL else mine, beside) for cell in _cells(part)]
            folds = [row["folding"] for row in mine if "folding" in row]
            lines.append([name, *cells, f"{max(folds):.2%}" if folds else ""])
    return f"{heading(record)}\n\n{table(['method', *of, 'folding'], lines)}"


def _cells(rows: list[Row]) -> list[str]:
    if not rows:
        return ["", "", ""]
    # rows of 2026-11-24 have no CPU seconds
    keys = ("cpu_seconds", "seconds")
    times = [f"{median(row[key] for row in rows):.2f}" if key in rows[0] else "" for key in keys]
    return [*times, f"{mean(row['dice'] for row in rows):.3f}"]
