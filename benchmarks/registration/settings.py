"""What settings of the dense stage do: training people after an affine map, known warps and stains after a B-spline.

The start is found once for each pair, and every variant of `augreg.dense.settings` goes on from it. Variants are changes of what
stands there for the dimension and the kind of start; `as it is` has none. Test people are not touched.

AMD EPYC, 2 cores, busy, one thread, Python 3.11.7, numba 0.68.1, 2026-11-27, from what stood there before, 6, 10, 15 iterations
with half widths 2, noise ten times and floor 0.01 in 2-D, 3, 10, 15 iterations in 3-D; mean Jaccard of z08 and z20 of 28 pairs
each:

    before 0.4881 0.4375    half widths 3, 3, 2 0.4896 0.4398    noise 0 0.4917 0.4393    floor 0.003 0.4889 0.4383
    noise 0 and half widths 3, 3, 2 0.4926 0.4411, with floor 0.001 (as it is) 0.4941 0.4420,
    then with noise 3 0.4919 0.4428, with 4, 8, 12 iterations 0.4913 0.4401, 10, 20, 30 (floor 0.01) no better

Dice of three pairs of heads: before 0.644, six iterations at the finest level 0.6496, ten 0.6488, six with half widths 3, 2, 1
0.6497, with 1, 2, 1 0.6483; the first two pairs with six 0.6491, floor 0.001 0.6494, 6, 20, 30 iterations 0.6494, guard 0.01
0.6502. Stiffer or softer Gaussians, longer or shorter steps, less damping, one coarser level: at most 0.001 better there, most
worse. A second channel of gradient magnitudes, and means of fields of several settings or both directions: no better in 2-D.
Forces along gradients of both images (0.3, 0.5, 0.7 of the fixed one's): at most 0.0016 better, from 0.5 on worse.

After a B-spline the same changes harm: pixels for camera, coins, retina 0.127 0.119 0.632, with noise 0 0.220 0.133 0.833, with
floor 0.001 0.137 0.133 0.638; with half widths 3, 3, 2 0.128 0.121 0.634. So starts that have bent keep theirs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from statistics import mean, median
from typing import Any

import numpy as np

import augreg as ar
from augreg.dense.settings import SETTINGS
from augreg.threads import set_threads
from benchmarks.harness.record import Row, about
from benchmarks.registration.between import PAIRS, read
from benchmarks.registration.cases import Case, large_warps, read_cases
from benchmarks.registration.people import voxels

# name -> changes; of both dimensions
_VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "fewer iterations": {"iterations": (3, 10, 15)},
    "more iterations": {"iterations": (10, 20, 30)},
    "windows 2": {"radii": (2, 2, 2)},
    "windows 3": {"radii": (3, 3, 2)},
    "noise 0": {"wiener": 0.0},
    "noise 3": {"wiener": 3.0},
    "noise 10": {"wiener": 10.0},
    "floor 0.01": {"floor": 0.01},
    "floor 0.001": {"floor": 0.001},
    "all voxels": {"finest": None},
    "512 voxels": {"finest": 512},
}
_WARPS = ("elastic-512", "elastic-brain/", "elastic-histology")


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--only", nargs="+", choices=[*PAIRS, "warps", "large"], default=["brain2d-z08", "brain2d-z20", "brain3d", "warps"]
    )
    parser.add_argument("--pairs", type=int, default=28, help="the first so many training pairs of each case")
    parser.add_argument("--variants", nargs="+", choices=list(_VARIANTS), default=list(_VARIANTS), metavar="NAME")


def run(options: argparse.Namespace) -> None:
    """Measure all, and print means."""
    set_threads(options.threads)
    rows: list[Row] = []
    for case in options.only:
        warps = {"warps": partial(read_cases, _WARPS), "large": large_warps}
        for row in _warps(options, warps[case]()) if case in warps else _people(case, options):
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    print(json.dumps(about(options.threads, ("augreg", "numba", "numpy"))))
    for case, variant in dict.fromkeys((row["case"], row["variant"]) for row in rows):
        some = [row for row in rows if (row["case"], row["variant"]) == (case, variant)]
        quality, seconds = mean(row["quality"] for row in some), median(row["cpu_seconds"] for row in some)
        print(f"{case}: {variant}: {quality:.4f}, {len(some)} pairs, {seconds:.3f} CPU s of the dense stage")


def _people(case: str, options: argparse.Namespace) -> Iterator[Row]:
    for names in PAIRS[case]("training")[: options.pairs]:
        pair = read(case, names)
        start = _before_dense(ar.LPRegistration.for_people(), pair.fixed, pair.moving)
        for variant in options.variants:
            phi, seconds = _continued(variant, pair.fixed, pair.moving, start, bent=False)
            overlap = pair.quality(voxels(phi, pair))["overlap"]
            yield {"case": case, "pair": pair.name, "variant": variant, "quality": overlap, "cpu_seconds": seconds}


def _warps(options: argparse.Namespace, cases: Iterable[Case]) -> Iterator[Row]:
    for case in cases:
        fixed, moving = (ar.Image(values, ar.Grid(values.shape[:2])) for values in (case.fixed, case.moving))
        start = _before_dense(ar.LPRegistration(), fixed, moving)
        for variant in options.variants:
            phi, seconds = _continued(variant, fixed, moving, start, bent=True)
            errors = np.linalg.norm(phi(case.points) - case.targets, axis=1)
            # of stains, whose landmarks have outliers, the median in percent of the diagonal
            wrong = 100 * np.median(errors) / np.hypot(*fixed.grid.shape) if case.landmarks else errors.mean()
            yield {"case": case.key, "pair": case.name, "variant": variant, "quality": float(wrong), "cpu_seconds": seconds}


def _before_dense(registration: ar.LPRegistration, fixed: ar.Image, moving: ar.Image) -> ar.Transform:
    """Where its dense stage begins."""
    states = registration.steps(fixed, moving)
    found = next(states).transform
    for state in states:
        if state.stage.startswith("dense"):
            break
        found = state.transform
    return found


def _continued(variant: str, fixed: ar.Image, moving: ar.Image, start: ar.Transform, *, bent: bool) -> tuple[ar.Transform, float]:
    """The dense stage with a variant's settings, and its CPU seconds."""
    key = (fixed.ndim, bent)
    usual = SETTINGS[key]
    SETTINGS[key] = replace(usual, **_VARIANTS[variant])
    try:
        begin = time.process_time()
        return ar.DenseRegistration()(fixed, moving, initial=start), time.process_time() - begin
    finally:
        SETTINGS[key] = usual
