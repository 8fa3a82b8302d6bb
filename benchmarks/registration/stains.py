"""Sections in two stains: correlation, mutual information and classes of superpixels, with and without a dense stage.

rTRE (median and mean, % of the diagonal) of the two pairs of `histology` and CPU seconds, one call each. It chose what is said of
`--criterion classes`; no record is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import augreg as ar
from benchmarks.harness.page import table
from benchmarks.harness.places import DATA
from benchmarks.registration.slides import PAIRS

_AS = "classes"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", default=list(_METHODS), choices=list(_METHODS))


def run(options: argparse.Namespace) -> None:
    """All methods on both pairs."""
    rows = []
    for name in options.only:
        row = [name]
        for fixed_name, moving_name in PAIRS.values():
            folder = DATA / "histology"
            fixed, moving = (ar.read_image(folder / f"{part}.jpg") for part in (fixed_name, moving_name))
            points = [ar.read_points(folder / f"{part}.csv") for part in (fixed_name, moving_name)]
            begin = time.process_time()
            known = {}
            if "classes" in name:
                known = {
                    f"{side}_labels": ar.lp.superpixel_classes(image) for side, image in (("fixed", fixed), ("moving", moving))
                }
            phi = _METHODS[name]()(fixed, moving, **known)
            took = time.process_time() - begin
            error = ar.tre(phi, *points) / fixed.grid.diagonal * 100
            row += [f"{np.median(error):.3f}", f"{error.mean():.3f}", f"{took:.1f}"]
        rows.append(row)
        print(row, flush=True)
    names = [f"{pair}, {what}" for pair in PAIRS for what in ("median %", "mean", "CPU s")]
    print(table(["method", *names], rows))


def _dense(first: ar.LPRegistration) -> ar.Chained:
    return ar.Chained(first, ar.DenseRegistration())


_METHODS: dict[str, Callable[[], Callable[..., ar.Transform]]] = {
    "ncc": ar.LPRegistration,
    "ncc, no dense": lambda: ar.LPRegistration(dense=None),
    "mi": lambda: ar.LPRegistration(criterion="mi"),
    "mi, dense": lambda: _dense(ar.LPRegistration(criterion="mi")),
    "classes": lambda: ar.LPRegistration(criterion=_AS),
    "classes, dense": lambda: _dense(ar.LPRegistration(criterion=_AS)),
    "classes affine, dense": lambda: _dense(ar.LPRegistration(criterion=_AS, transform="affine")),
    "classes affine, ncc": lambda: ar.Chained(ar.LPRegistration(criterion=_AS, transform="affine"), ar.LPRegistration()),
    "classes bspline, ncc": lambda: ar.Chained(ar.LPRegistration(criterion=_AS), ar.LPRegistration()),
}
