"""Brains of different people in 2-D, on the people that settings are chosen on: what the dense stage adds to an affine map.

Training people of `brain2d`, slices z08 and z20: each with the next one in the order of names and with the fifth after it, as
fixed image, 28 pairs a slice. Jaccard is the mean over the labels that both people have, the moving labels warped by nearest
neighbour; one that is moved out of view counts 0. Time is that of each part alone, in turns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from statistics import mean, median

import numpy as np

import augreg as ar
from augreg.metrics import mean_overlap
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA, TEST_BRAINS
from benchmarks.harness.record import Record, Row, about, write_record
from benchmarks.harness.timing import timed

_SLICES = ("z08", "z20")
# steps through the ring of names
_STEPS = (1, 5)
_NONE, _AFFINE, _DENSE, _SAFE = "none", "affine", "affine, dense", "affine, dense with guard 0.2"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=1000, help="the first so many pairs of each slice; all by default")


def run(options: argparse.Namespace) -> None:
    """Measure all."""
    set_threads(options.threads)
    record = about(options.threads, ("augreg", "numba", "numpy")) | {"rows": []}
    people = sorted(path.name[:4] for path in (DATA / "brain2d").glob("????_z08.nii.gz"))
    people = [person for person in people if person not in TEST_BRAINS]
    pairs = [(person, people[(i + step) % len(people)]) for step in _STEPS for i, person in enumerate(people)]
    for level in _SLICES:
        for number, pair in enumerate(pairs[: options.pairs]):
            for row in _rows(level, pair, warm_up=number == 0):
                record["rows"].append(row)
                print(row, file=sys.stderr, flush=True)
    write_record(options.output, record)


def _rows(level: str, pair: tuple[str, str], *, warm_up: bool) -> Iterator[Row]:
    fixed, moving = (ar.read_image(DATA / f"brain2d/{i}_{level}.nii.gz") for i in pair)
    labels = [ar.read_labels(DATA / f"brain2d/{i}_{level}_labels.nii.gz") for i in pair]
    both = np.intersect1d(labels[0].values, labels[1].values)
    affine, dense = (
        ar.LPRegistration(transform="affine"),
        {_DENSE: ar.DenseRegistration(), _SAFE: ar.DenseRegistration(guard=0.2)},
    )
    if warm_up:
        dense[_DENSE](fixed, moving, initial=affine(fixed, moving))
    found = {_NONE: (ar.Affine.identity(2), {}), _AFFINE: timed(lambda: affine(fixed, moving))}
    start = found[_AFFINE][0]
    for name, method in dense.items():
        found[name] = timed(lambda: method(fixed, moving, initial=start))  # noqa: B023
    for name, (phi, took) in found.items():
        overlap = mean_overlap(ar.jaccard(labels[0], ar.warp(labels[1], phi, fixed.grid), known=both[both != 0].tolist()))
        least = float(ar.jacobian_determinant(phi, fixed.grid).min())
        more = {"jaccard": overlap, "folding": ar.folding(phi, fixed.grid), "least": least}
        yield {"slice": level, "pair": " ".join(pair), "method": name, **took, **more}


def rendered(record: Record) -> str:
    """The table: a line for each way."""
    lines = []
    for name in (_NONE, _AFFINE, _DENSE, _SAFE):
        mine = [row for row in record["rows"] if row["method"] == name]
        cells = [f"{mean(row['jaccard'] for row in mine if row['slice'] == level):.3f}" for level in _SLICES]
        times = [
            f"{1000 * median(row[part] for row in mine):.0f}" if part in mine[0] else "" for part in ("cpu_seconds", "seconds")
        ]
        folds = f"{max(row['folding'] for row in mine):.2%}"
        lines.append([name, *cells, *times, folds, f"{min(row['least'] for row in mine):.3f}"])
    header = ["method", *(f"Jaccard, {level}" for level in _SLICES), "CPU ms", "ms", "folding", "least determinant"]
    return f"{heading(record)}\n\n{table(header, lines)}"
