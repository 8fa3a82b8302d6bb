"""How stiff the last B-spline should be: known elastic warps that no table has, one share of the smoothness after the other.

Warps of a fundus under eight seeds, of five photographs, and of three brain slices under three seeds each; the tables' own images
and warps are not among them, but for the fundus, whose warps are others. A share is `augreg.lp.plan`'s, of the smoothness, at
the finest level in 2-D.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from statistics import mean, median

import numpy as np

import augreg as ar
from augreg.lp import plan
from augreg.threads import set_threads
from benchmarks.harness.record import about
from benchmarks.registration.cases import Case, training_warps

SHARES = (1.0, 0.4, 0.3, 0.2, 0.1, 0.03)


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--cases", type=int, default=100, help="the first so many of each group")


def run(options: argparse.Namespace) -> None:
    """Measure all, and print means."""
    set_threads(options.threads)
    groups: dict[str, list[Case]] = {}
    for case in training_warps():
        groups.setdefault(case.group, []).append(case)
    print(json.dumps(about(options.threads, ("augreg", "numba", "numpy"))))
    for share in options.shares:
        for group, cases in groups.items():
            found = list(_measured(cases[: options.cases], share))
            errors, seconds = [error for error, _ in found], [taken for _, taken in found]
            text = f"TRE mean {mean(errors):.4f} px, largest {max(errors):.3f}, {median(seconds):.3f} CPU s, {len(errors)} warps"
            print(f"share {share:g}: {group}: {text}", flush=True)


def _measured(cases: list[Case], share: float) -> Iterator[tuple[float, float]]:
    """Mean error, px, and CPU seconds of every case."""
    usual = plan._LAST
    plan._LAST = share
    try:
        for case in cases:
            fixed, moving = (ar.Image(values, ar.Grid(values.shape)) for values in (case.fixed, case.moving))
            begin = time.process_time()
            phi = ar.LPRegistration()(fixed, moving)
            taken = time.process_time() - begin
            yield float(np.linalg.norm(phi(case.points) - case.targets, axis=1).mean()), taken
    finally:
        plan._LAST = usual
