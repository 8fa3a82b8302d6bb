"""Known fields on a chest CT: networks at three scales against one, in 3-D, beside the linear program.

Networks learn from fields of `lung_fields` and of breathing (keypoints of three patients, there and back) on the one image, seen
at 5 mm as a scanner with such voxels would see it; they are U-nets, equal in parameters. They are tested on fields that SimpleITK
makes, random B-splines of 8 mm on average, and on the motions of two other patients; both images have noise of 10 HU. Errors are
those of landmarks, edges of the fixed image at least 10 mm inside both images, and of points of the body, one voxel in 27, of
which many lie in uniform tissue or at the border of the image, where nothing tells where they went.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import SimpleITK as sitk
import torch

from augreg import io, metrics
from augreg.dense import DenseRegistration
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image
from augreg.geometry.resampling import resample
from augreg.geometry.transforms import Transform
from augreg.io.itk import to_sitk
from augreg.io.transforms import from_sitk_transform
from augreg.keypoints.boundary import find_keypoints
from augreg.keypoints.pyramid import rasters
from augreg.lp import LPRegistration
from augreg.networks import AtScale, Cascade, FlowRegistration, Network, Steered, UNet
from augreg.recipes import DEFAULT, shown
from augreg.recipes.shapes import fitting_strides
from augreg.registration import Chained
from augreg.synthesis import CorrespondenceField, RandomDeformations, lung_fields, make_pairs, training_pairs
from augreg.threads import set_threads
from augreg.training import Batches, pairs_from_generators, seen_differently
from benchmarks.experiments import trials
from benchmarks.experiments.software import nothing
from benchmarks.experiments.steering import Matched
from benchmarks.experiments.trials import Lesson, Registration, taught
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA
from benchmarks.harness.record import Record, Row
from benchmarks.harness.timing import timed

__all__ = ["options", "rendered", "run"]

SPACING = (5.0, 5.0, 5.0)
LARGEST, MEAN, NOISE = 20.0, 8.0, 10.0
WIDTH, STEPS, RATE, SCALES = 0.5, 200, 2e-3, (4, 2, 1)
LEARNED, TESTED = ("02", "03", "04"), ("05", "06")
# as many parameters at one scale, where there are more stages
WIDE = 0.653
# of matching, blocks of 10 and 5 mm
LOOKS, STIFFNESS = ((2, 5, 3), (1, 5, 2)), 10.0
FIELDS, MOTIONS = 6, 3
# meshes of SimpleITK's splines, and the least determinant of one that is taken
_MESHES, _LEAST_DET = (3, 4, 5), 0.2
# landmarks, about, and how far inside the images they are, mm
MARKS, INSIDE = 2000, 10.0
# HU below which there is no body
_BODY = -900.0
NAMES = {
    "none": "no registration",
    "program": "linear program",
    "short": "linear program, profiles of 3 voxels",
    "matched": "matching without a network",
    "one": "one scale",
    "three": "three scales, composed",
    "steered": "one scale after matching",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    trials.options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, and measure."""
    set_threads(1)
    torch.set_num_threads(1)
    trials.gathered("chest", listed(io.read_image(DATA / "chest3d" / "ct.mha")), options)


def averaged(image: Image) -> Image:
    """As smooth as voxels of SPACING make it: a Gaussian with the variance of their box, less that of the image's own."""
    own = np.asarray(image.grid.spacing)
    sigma = np.sqrt(np.maximum(np.square(SPACING) - own**2, 0) / 12) / own
    return image.with_values(scipy.ndimage.gaussian_filter(image.values.astype(np.float32), sigma))


def listed(image: Image) -> Iterator[tuple[str, Callable[[Path], list[Row]]]]:
    """The trials."""
    image = averaged(image)
    softwares: dict[str, Registration] = {
        "none": nothing,
        "program": LPRegistration(),
        "short": LPRegistration(profile=(3, 1)),
        "matched": FlowRegistration(Matched(Steered(UNet(3, 1, 0.1), LOOKS, STIFFNESS)), SPACING),
    }
    for name, method in softwares.items():
        yield name, functools.partial(_rows, name, {"alone": method}, image, {})
    for name in ("one", "three", "steered"):
        yield f"{name}-s0", functools.partial(_learned, name, image)


def network(name: str, shape: tuple[int, ...]) -> Network:
    """One scale, three of a third of the parameters each, or one that learns what matching leaves."""

    def unet(scale: int, width: float) -> Network:
        found = UNet(3, 1, width, fitting_strides(tuple(-(-n // scale) for n in shape)))
        return found if scale == 1 else AtScale(found, scale)

    if name == "one":
        return unet(1, WIDE)
    if name == "steered":
        return Steered(unet(1, WIDE), LOOKS, STIFFNESS)
    return Cascade([unet(scale, WIDTH) for scale in SCALES])


def breathing(image: Image, cases: Sequence[str]) -> CorrespondenceField:
    """Motions of patients, moved to the middle of the image."""
    read = [
        [io.read_points(DATA / "lungpoints" / f"{case}_{phase}_keypoints.csv") for phase in ("insp", "exp")] for case in cases
    ]
    return CorrespondenceField.placed([(points, partners) for points, partners in read], image.grid)


def known(image: Image, seed: int) -> Batches:
    """Pairs of the image as networks see it: one a step, in both directions."""
    coarse = resample(image, image.grid.with_spacing(SPACING))
    families = (*lung_fields(LARGEST), *[breathing(coarse, LEARNED)] * 2)
    generator = RandomDeformations.of([coarse], families)
    pairs = seen_differently(pairs_from_generators(lambda _: generator, 1, seed), gamma=0.0, noise=0.005, seed=seed)
    return shown(replace(DEFAULT, symmetric=True), pairs, seed)


def held_out(image: Image) -> Iterator[tuple[str, Image, Image, Transform]]:
    """Pairs with known fields: of SimpleITK, and of other patients."""
    rng = np.random.default_rng(11)
    coarse = resample(image, image.grid.with_spacing(SPACING))
    for number in range(FIELDS):
        yield "SimpleITK", *spline(image, coarse, np.random.default_rng([12, number]), rng)
    generator = RandomDeformations.of([coarse], (breathing(coarse, TESTED),))
    for pair in training_pairs(make_pairs(generator, 5, range(MOTIONS)), coarse.grid):
        yield "breathing", noisy(pair.fixed, rng), noisy(pair.moving, rng), pair.displacement


def spline(image: Image, coarse: Image, rng: np.random.Generator, noise: np.random.Generator) -> tuple[Image, Image, Transform]:
    """fixed = image o T, moving = image, T of SimpleITK; drawn again where it folds."""
    grid = coarse.grid
    frame = sitk.Image([int(n) for n in grid.shape], sitk.sitkFloat32)
    frame.SetSpacing(grid.spacing)
    frame.SetOrigin(grid.origin)
    frame.SetDirection(np.asarray(grid.direction).ravel().tolist())
    points, body = grid.points(), coarse.values > _BODY
    while True:
        transform = sitk.BSplineTransformInitializer(frame, [int(rng.choice(_MESHES))] * 3)
        numbers = rng.normal(size=len(transform.GetParameters()))
        transform.SetParameters(numbers.tolist())
        size = np.linalg.norm(from_sitk_transform(transform)(points[body]) - points[body], axis=-1).mean()
        transform.SetParameters((MEAN / size * numbers).tolist())
        phi = from_sitk_transform(transform)
        inner = points[2:-2:3, 2:-2:3, 2:-2:3].reshape(-1, 3)
        if np.linalg.det(phi.jacobian(inner)).min() > _LEAST_DET:
            break
    seen = sitk.Resample(to_sitk(image), frame, transform, sitk.sitkLinear, float(image.values.min()))
    fixed = coarse.with_values(np.ascontiguousarray(sitk.GetArrayFromImage(seen).transpose(2, 1, 0)))
    return noisy(fixed, noise), noisy(coarse, noise), phi


def noisy(image: Image, rng: np.random.Generator) -> Image:
    """With noise."""
    return image.with_values((image.values + NOISE * rng.standard_normal(image.values.shape)).astype(np.float32))


def errors(registration: Registration, image: Image) -> dict[str, dict[str, float]]:
    """Of every kind of field, mean distance of points of the body and of landmarks before and after, mm, folding, CPU seconds."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for kind, fixed, moving, truth in held_out(image):
        some = (slice(1, None, 3),) * 3
        points = fixed.grid.points()[some][fixed.values[some] > _BODY]
        goal = truth(points)
        points, goal = (part[moving.grid.contains(goal)] for part in (points, goal))
        phi, took = timed(functools.partial(registration, fixed, moving))
        marks = landmarks(fixed, moving, truth)
        ends = ((points, goal), (phi(points), goal), (marks, truth(marks)), (phi(marks), truth(marks)))
        each = [float(np.linalg.norm(one - other, axis=-1).mean()) for one, other in ends]
        found.setdefault(kind, []).append((*each, 100 * metrics.folding(phi, fixed.grid), took["cpu_seconds"]))
    parts = ("before", "after", "tre_before", "tre", "folding", "s")
    return {
        kind: {part: round(float(np.mean(column)), 4) for part, column in zip(parts, zip(*cases, strict=True), strict=True)}
        for kind, cases in found.items()
    }


def landmarks(fixed: Image, moving: Image, truth: Transform) -> FloatArray:
    """Places (N, D) mm on edges of the fixed image, well inside both images."""
    (raster,) = rasters(fixed, None, [float(min(fixed.grid.spacing))])
    points = find_keypoints(raster, MARKS).points

    def inside(grid: Grid, places: FloatArray) -> npt.NDArray[np.bool_]:
        least = np.asarray(INSIDE) / grid.spacing
        indices = grid.indices_at(places)
        return np.all((indices >= least) & (indices <= grid.last - least), axis=-1)

    return points[inside(fixed.grid, points) & inside(moving.grid, truth(points))]


def _learned(name: str, image: Image, folder: Path) -> list[Row]:
    shape = image.grid.with_spacing(SPACING).shape
    lesson = Lesson(functools.partial(network, name, shape), known(image, 0), steps=STEPS, rate=RATE)
    flow, said = taught(lesson, 0, folder, SPACING)
    ways: dict[str, Registration] = {"alone": flow, "twice": Chained(flow, flow), "dense": Chained(flow, DenseRegistration())}
    return _rows(name, ways, image, said)


def _rows(name: str, ways: dict[str, Registration], image: Image, said: Row, _: Path | None = None) -> list[Row]:
    return [
        {"method": name, "how": how, "field": kind, **known, **said}
        for how, method in ways.items()
        for kind, known in errors(method, image).items()
    ]


def rendered(record: Record) -> str:
    """The table."""
    rows = record["rows"]
    kinds = list(dict.fromkeys(row["field"] for row in rows))
    lines = []
    for name, title in NAMES.items():
        for how in ("alone", "twice", "dense"):
            found = {row["field"]: row for row in rows if (row["method"], row["how"]) == (name, how)}
            if found:
                one = found[kinds[0]]
                cells = [
                    f"{found[kind][part]:.{digits}f}"
                    for kind in kinds
                    for part, digits in (("tre", 2), ("after", 2), ("folding", 3))
                ]
                learned = [f"{one['parameters'] / 1e6:.2f} M", f"{one['cpu'] / 60:.1f}"] if "parameters" in one else ["", ""]
                lines.append([title + (f", {how}" if how != "alone" else ""), *cells, f"{one['s']:.2f}", *learned])
    said = [part for kind in kinds for part in (f"{kind}: landmarks, mm", "points, mm", "folding %")]
    return f"{heading(record)}\n\n{table(['mean distance', *said, 'CPU s', 'parameters', 'training, CPU min'], lines)}"
