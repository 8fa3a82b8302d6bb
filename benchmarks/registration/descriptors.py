"""Would the dense stage serve images of other contrasts if it compared descriptors instead of brightness?

Images become vectors of descriptors, which the dense stage compares as it does colours, by local correlation:

    self-similarity     exp(-d / mean d), d the distances between patches at pairs of neighbours (MIND-SSC, Heinrich et al. 2013)
    gradients           g g^T / (|g|^2 + eta^2), which forgets the sign of the gradient g

on ultrasound and MR of `prostate` (dice of the glands, distance of landmarks) and on the stains of `histology` (rTRE). A dense
stage is asked for the last part of a registration, so it starts where the first one should have ended: the centroids of the
glands on each other, or the B-spline. Of the patients every third is used, the one of them that no test takes.

AMD EPYC, 2 cores, one thread, Python 3.11.7, numba 0.68.1, numpy 2.4.6, 2026-11-27; means of 17 patients, Dice and mm:
none 0.829 and 6.1, brightness 0.535 and 14.5, self-similarity 0.631 and 10.1, gradients 0.588 and 11.8. Median rTRE of
the two stains in percent: none 0.181 and 0.501, brightness 0.178 and 0.482, colour 0.178 and 0.493, self-similarity 0.189
and 0.520, gradients 0.206 and 0.504. So no descriptor helps, and the stage is left out where the criterion is not correlation.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from statistics import mean, median

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

import augreg as ar
from augreg.threads import set_threads
from benchmarks.harness.places import DATA
from benchmarks.harness.record import Row, about
from benchmarks.registration.cases import read_cases

# of patches, of gradients, voxels
_PATCH, _SCALE = 0.8, 1.0
# share of the deviation below which a gradient is noise
_ETA = 0.1


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=("prostate", "histology"), default=["prostate", "histology"])


def run(options: argparse.Namespace) -> None:
    """Measure all, and print means."""
    set_threads(options.threads)
    found: list[Row] = []
    for source in options.only:
        for row in {"prostate": _prostate, "histology": _histology}[source]():
            found.append(row)
            print(row, file=sys.stderr, flush=True)
    print(json.dumps(about(options.threads, ("augreg", "numba", "numpy"))))
    for (source, way), rows in _grouped(found).items():
        numbers = {name: round(mean(row[name] for row in rows), 4) for name in rows[0] if isinstance(rows[0][name], float)}
        print(json.dumps({"source": source, "descriptor": way, "pairs": len(rows)} | numbers))


def _grouped(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["source"], row["descriptor"]), []).append(row)
    return found


def self_similarity(image: ar.Image) -> ar.Image:
    """One channel for each pair of neighbours that are no opposites."""
    values = image.luminance().values.astype(np.float32)
    steps = [sign * np.eye(image.ndim, dtype=int)[axis] for axis in range(image.ndim) for sign in (1, -1)]
    wide = np.pad(values, 1, mode="edge")

    def moved(step: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return wide[tuple(slice(1 + s, 1 + s + n) for s, n in zip(step, values.shape, strict=True))]

    pairs = [(a, b) for a, b in itertools.combinations(steps, 2) if (a + b).any()]
    distances = np.stack([gaussian_filter((moved(a) - moved(b)) ** 2, _PATCH) for a, b in pairs], axis=-1)
    distances -= distances.min(axis=-1, keepdims=True)
    typical = distances.mean(axis=-1, keepdims=True)
    # where nothing differs nothing is similar
    typical = np.clip(typical, 1e-3 * typical.mean(), 1e3 * typical.mean())
    return image.with_values(np.exp(-distances / typical).astype(np.float32))


def gradients(image: ar.Image) -> ar.Image:
    """The D (D + 1) / 2 products of the normalised gradient."""
    values = gaussian_filter(image.luminance().values.astype(np.float32), _SCALE)
    parts = np.gradient(values, *image.grid.spacing)
    square = sum(part**2 for part in parts)
    share = 1 / (square + (_ETA * values.std() / min(image.grid.spacing)) ** 2)
    products = [a * b * share for a, b in itertools.combinations_with_replacement(parts, 2)]
    return image.with_values(np.stack(products, axis=-1).astype(np.float32))


_WAYS: dict[str, Callable[[ar.Image], ar.Image]] = {
    "brightness": lambda image: image.luminance(),
    "colour": lambda image: image,
    "self-similarity": self_similarity,
    "gradients": gradients,
}


def _registered(way: str, fixed: ar.Image, moving: ar.Image, start: ar.Transform) -> ar.Transform:
    return ar.DenseRegistration(guard=0.2)(_WAYS[way](fixed), _WAYS[way](moving), initial=start)


def _prostate() -> Iterator[Row]:
    folder = DATA / "prostate"
    scans: dict[str, str] = {}
    with open(folder / "patients.csv", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            scans.setdefault(line["patient"], line["scan"])
    for scan in [scans[patient] for patient in sorted(scans)][1::3]:
        fixed, moving = (ar.read_image(folder / f"{scan}_{kind}.nii.gz") for kind in ("us", "mr"))
        glands = [ar.read_labels(folder / f"{scan}_{kind}_gland.nii.gz") for kind in ("us", "mr")]
        points = [ar.read_points(folder / f"{scan}_{kind}_points.csv") for kind in ("us", "mr")]
        centres = [gland.grid.points_at(np.argwhere(gland.values).mean(axis=0)) for gland in glands]
        start = ar.Affine(np.eye(3), centres[1] - centres[0])
        for way in ("none", "brightness", "self-similarity", "gradients"):
            phi = start if way == "none" else _registered(way, fixed, moving, start)
            dice = ar.dice(glands[0], ar.warp(glands[1], phi, fixed.grid))[1]
            yield {
                "source": "prostate",
                "pair": scan,
                "descriptor": way,
                "dice": float(dice or 0.0),
                "distance": float(ar.tre(phi, *points).mean()),
            }


def _histology() -> Iterator[Row]:
    for case in read_cases(("elastic-histology",)):
        fixed, moving = (ar.Image(values, ar.Grid(values.shape[:2])) for values in (case.fixed, case.moving))
        start = ar.LPRegistration(dense=None)(fixed, moving)
        for way in ("none", *_WAYS):
            phi = start if way == "none" else _registered(way, fixed, moving, start)
            errors = np.linalg.norm(phi(case.points) - case.targets, axis=1) / np.hypot(*case.fixed.shape[:2])
            yield {
                "source": f"histology {case.name}",
                "pair": case.name,
                "descriptor": way,
                "rtre": 100 * float(median(errors)),
                "rtre90": 100 * float(np.percentile(errors, 90)),
            }
