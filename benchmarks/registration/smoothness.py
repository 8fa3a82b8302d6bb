"""How stiff the last B-spline should be: known elastic warps that no table has, one share of the smoothness after the other.

Warps of a fundus under eight seeds, of five photographs, and of three brain slices under three seeds each; the tables' own images
and warps are not among them, but for the fundus, whose warps are others. A share is `augreg.lp.plan`'s, of the smoothness, at
the finest level in 2-D.

AMD EPYC, 2 cores, busy, one thread, Python 3.11.7, numba 0.68.1, 2026-11-27; mean errors of fundus, photographs, brains, px, 22
warps:

    1.0 (before)  0.236 0.197 0.129    0.4 (as it is)  0.199 0.175 0.127    0.3   0.195 0.179 0.128
    0.2           0.193 0.179 0.132    0.1             0.202 0.187 0.139    0.03  0.229 0.208 0.151    0  0.369 0.323 0.227

The errors lie near borders, of the image or of what it shows: two to five times those of the middle within 40 pixels, where a
stiff spline goes straight on and the truth bends. A smoothness of 0.001 from the beginning is as good in the mean (0.189 0.177
0.129) and worse at worst (a page of text 0.331, 0.249 before, 0.256 now); stiffer ones are much worse (0.01: 0.380 0.490 0.154).
With 0.4, tried beside it: 3000 keypoints 0.217 0.160 0.127, with 1.25 times the time, one fundus at 0.44; bundles of half length
and width 5, 3 0.186 0.205 0.122 and 4, 4 0.240 0.171 0.117, each with one warp at 0.4 to 0.6; three levels of the dense stage
0.203 0.168 0.129, twice its iterations 0.200 0.171 0.135, noise 5 times 0.212 0.172 0.129. Before, ten steps of polish instead of
four 0.236 0.193 0.129.

Training people (14 pairs of z08 and of z20 each, mean Jaccard): the default 0.4905 0.4394 before and 0.4906 0.4412 with 0.4,
`quick` 0.3960 0.3336 and 0.3966 0.3344. Two stains, median rTRE: kidney 0.178 and 0.163 %, lesion 0.493 and 0.529 %, so where
images do not agree (cost of a keypoint 0.49, the kidney's 0.28, people's 0.15) smoothness stays.
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
