"""Pairs whose start is far: real images under known maps made by SimpleITK, sections in two stains with landmarks, label maps.

The moving image is resampled once, moving(y) = image(T^-1(y)), on a canvas that holds all of it, so that T maps fixed to moving
points; then come a gamma of 0.85 and noise of 2 % on both. In 3-D headers lie: the voxels are those of the image, moved a little,
and the direction cosines are another of the 24 turns, or 48 with mirrored ones.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import skimage.data
import skimage.transform

import augreg as ar
from benchmarks.harness.places import DATA, TEST_BRAINS

Array = npt.NDArray[np.float64]
# degrees between angles, and of the first one: none is among the candidates of the search
_APART, _FIRST = 15.0, 4.0
PHOTOGRAPHS = ("camera", "astronaut", "coins", "coffee", "immunohistochemistry", "retina", "moon", "rocket")
_SIDE = 384
# moved by at most so many voxels: what lies within counts as found
RIGHT = {2: 5.0, 3: 3.0}
# of sections, a share of the diagonal: the best affine map leaves 0.3 and 0.6 %
_SECTIONS = 0.02
_POINTS = 150


@dataclass(frozen=True, eq=False)
class Far:
    """One pair.

    Parameters
    ----------
    key : part/images/variant
    fixed, moving : images
    points, targets : (N, D) mm, corresponding; none for label maps
    limit : median error, mm, up to which the start was found
    given : more keywords of the registration
    options : what the case asks of the registration
    """

    key: str
    fixed: ar.Image
    moving: ar.Image
    points: Array
    targets: Array
    limit: float
    given: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def angles(count: int = 24) -> Iterator[Far]:
    """Photographs, brains and sections in two stains at any angle."""
    for name, image in _flat_images():
        for angle in _all(count):
            yield turned(f"angle/{name}/{angle:.0f}", image, angle, False)
    for block in ("kidney", "lesion"):
        for angle in _all(count):
            yield sections(f"angle/{block}/{angle:.0f}", block, angle, False)


def mirrored(count: int = 8) -> Iterator[Far]:
    """The same, seen from the other side."""
    asked = {"mirror": True}
    for name, image in _flat_images():
        for angle in _all(count):
            yield turned(f"mirror/{name}/{angle:.0f}", image, angle, True, asked)
    for block in ("kidney", "lesion"):
        for angle in _all(count):
            yield sections(f"mirror/{block}/{angle:.0f}", block, angle, True, asked)


def headers(mirror: bool) -> Iterator[Far]:
    """Volumes whose direction cosines are another of the 24 turns, or of the 24 mirrored ones."""
    for name, image in _solid_images():
        for number, signed in enumerate(_signed(mirror)):
            asked = {"mirror": True} if mirror else {}
            yield lying(f"{'flips' if mirror else 'cubes'}/{name}/{number}", image, signed, number, asked)


def contrasts(count: int = 6) -> Iterator[Far]:
    """Negatives at angles within the usual search."""
    for name, image in _flat_images():
        for angle in np.linspace(-13, 13, count):
            case = turned(f"negative/{name}/{angle:.0f}", image, float(angle), False, {"contrast": "any"})
            yield _negative(case)


def glands() -> Iterator[Far]:
    """Ultrasound and MR of the prostate, one pair a patient, by their gland maps; those of `which` patients."""
    folder = DATA / "prostate"
    with (folder / "patients.csv").open(encoding="utf-8") as lines:
        scans = {row["patient"]: row["scan"] for row in reversed(list(csv.DictReader(lines)))}
    for scan in sorted(scans.values()):
        fixed, moving = (ar.read_image(folder / f"{scan}_{kind}.nii.gz") for kind in ("mr", "us"))
        maps = [ar.read_labels(folder / f"{scan}_{kind}_gland.nii.gz") for kind in ("mr", "us")]
        points, targets = (np.asarray(ar.read_points(folder / f"{scan}_{kind}_points.csv")) for kind in ("mr", "us"))
        given = {"fixed_labels": maps[0], "moving_labels": maps[1]}
        yield Far(f"labels/glands/{scan}", fixed, moving, points, targets, np.inf, given, {"criterion": "labels"})


PARTS = {
    "angle": angles,
    "mirror": mirrored,
    "cubes": partial(headers, mirror=False),
    "flips": partial(headers, mirror=True),
    "negative": contrasts,
    "labels": glands,
}


def _all(count: int) -> list[float]:
    """Angles all around."""
    return [_FIRST + k * 360.0 / count for k in range(count)]


def _flat_images() -> Iterator[tuple[str, sitk.Image]]:
    for name in PHOTOGRAPHS:
        values = getattr(skimage.data, name)()
        values = values[..., :3].mean(axis=-1) if values.ndim == 3 else values.astype(float)
        small = _SIDE / max(values.shape)
        shape = [round(n * small) for n in values.shape]
        yield name, sitk.GetImageFromArray(skimage.transform.resize(values, shape, anti_aliasing=True).astype(np.float32))
    for path in [*sorted((DATA / "brain2d").glob("*_z08.nii.gz"))[:3], *sorted((DATA / "brain2d").glob("*_z20.nii.gz"))[-3:]]:
        if path.name.split("_")[0] not in TEST_BRAINS:
            yield path.name.split(".")[0], sitk.ReadImage(str(path), sitk.sitkFloat32)
    for path in sorted((DATA / "ants2d").glob("*.jpg"))[:3]:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
        yield path.stem, sitk.GetImageFromArray(sitk.GetArrayFromImage(image))


def _solid_images() -> Iterator[tuple[str, sitk.Image]]:
    """Brains at 3 mm, and hearts of training patients as they are."""
    for path in sorted((DATA / "brain3d").glob("????.nii.gz"))[:2]:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
        size = [round(n * s / 3) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
        smooth = sitk.SmoothingRecursiveGaussian(image, 1.5)
        yield (
            path.name.split(".")[0],
            sitk.Resample(smooth, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), (3, 3, 3), image.GetDirection()),
        )
    for path in sorted((DATA / "hearts3d").glob("*_ed.nii.gz"))[:1]:
        yield path.name.split(".")[0], sitk.ReadImage(str(path), sitk.sitkFloat32)


def turned(key: str, image: sitk.Image, angle: float, mirror: bool, options: dict[str, Any] | None = None) -> Far:
    """An image and itself, turned, shifted by up to 5 % of its sides and, before it all, mirrored."""
    rng = np.random.default_rng([ord(c) for c in key])
    T, frame = _onto_canvas(image, angle, mirror, rng)
    values = sitk.GetArrayFromImage(image)
    air = _air(values)
    moved = sitk.GetArrayFromImage(sitk.Resample(image, frame, T.GetInverse(), sitk.sitkLinear, air))
    low, span = float(values.min()), float(np.ptp(values))
    moved = low + span * (np.clip(moved - low, 0, None) / span) ** 0.85
    pair = [part + rng.normal(0, 0.02 * span, part.shape) for part in (values, moved)]
    points = _textured(values, image, rng)
    targets = np.array([T.TransformPoint(p.tolist()) for p in points])
    both = (_image(part, frame) for part, frame in zip(pair, (image, frame), strict=True))
    return Far(key, *both, points, targets, RIGHT[2] * min(image.GetSpacing()), options=options or {})


def sections(key: str, block: str, angle: float, mirror: bool, options: dict[str, Any] | None = None) -> Far:
    """Neighbouring sections in two stains, the second one turned and mirrored as it may have fallen."""
    rng = np.random.default_rng([ord(c) for c in key])
    paths = [path for path in sorted((DATA / "histology").glob(f"*{block}*")) if path.suffix in (".jpg", ".png")]
    images = [sitk.ReadImage(str(path)) for path in paths]
    plain = [sitk.GetImageFromArray(sitk.GetArrayFromImage(image).astype(np.float32), isVector=True) for image in images]
    points, other = (np.asarray(ar.read_points(path.with_suffix(".csv"))) for path in paths)
    T, frame = _onto_canvas(plain[1], angle, mirror, rng)
    moved = sitk.Resample(plain[1], frame, T.GetInverse(), sitk.sitkLinear, _air(sitk.GetArrayFromImage(plain[1])))
    targets = np.array([T.TransformPoint(p.tolist()) for p in other])
    fixed, moving = (_image(sitk.GetArrayFromImage(part), part) for part in (plain[0], moved))
    return Far(key, fixed, moving, points, targets, _SECTIONS * fixed.grid.diagonal, options=options or {})


def lying(key: str, image: sitk.Image, signed: Array, seed: int, options: dict[str, Any]) -> Far:
    """A volume moved a little within its voxels, with another header: the voxels' axes are said to point elsewhere."""
    rng = np.random.default_rng(seed)
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    turn = sitk.Euler3DTransform()
    turn.SetCenter(image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    thin = spacing.max() > 4
    turn.SetRotation(*(np.deg2rad(rng.uniform(-8, 8, 3)) * ((0, 0, 1) if thin else (1, 1, 1))).tolist())
    turn.SetTranslation((rng.uniform(-0.06, 0.06, 3) * spacing * size * ((1, 1, 0) if thin else (1, 1, 1))).tolist())
    values = sitk.GetArrayFromImage(image)
    moved = sitk.GetArrayFromImage(sitk.Resample(image, image, turn.GetInverse(), sitk.sitkLinear, _air(values)))
    span = float(np.ptp(values))
    pair = [(part + rng.normal(0, 0.02 * span, part.shape)).astype(np.float32) for part in (values, moved)]
    fixed, moving = (_image(part, image) for part in pair)
    # the same middle, other axes
    direction = signed @ np.asarray(fixed.grid.direction)
    origin = fixed.grid.center - direction @ (spacing * (size - 1) / 2)
    grid = ar.Grid(fixed.grid.shape, fixed.grid.spacing, tuple(origin), direction)
    points = _textured(values, image, rng)
    honest = np.array([turn.TransformPoint(p.tolist()) for p in points])
    targets = grid.points_at(fixed.grid.indices_at(honest))
    return Far(key, fixed, ar.Image(moving.values, grid), points, targets, RIGHT[3] * float(spacing.min()), options=options)


def _signed(mirror: bool) -> list[Array]:
    """The 24 turns of a cube, or the 24 mirrored ones."""
    found = [
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
    return [matrix for matrix in found if (np.linalg.det(matrix) < 0) == mirror]


def _negative(case: Far) -> Far:
    values = case.moving.values
    moving = case.moving.with_values(values.max() + values.min() - values)
    return Far(case.key, case.fixed, moving, case.points, case.targets, case.limit, case.given, case.options)


def _onto_canvas(image: sitk.Image, angle: float, mirror: bool, rng: np.random.Generator) -> tuple[sitk.Transform, sitk.Image]:
    """T, and a canvas that holds all that it moves."""
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    a = np.deg2rad(angle)
    matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    matrix = rng.uniform(0.95, 1.05) * matrix
    direction = np.reshape(image.GetDirection(), (2, 2))
    wide = np.abs(matrix) @ (size * spacing) / spacing
    canvas = np.ceil(1.12 * wide).astype(int)
    T = sitk.AffineTransform(2)
    T.SetCenter(image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    T.SetMatrix((direction @ matrix @ direction.T).ravel().tolist())
    T.SetTranslation((direction @ (spacing * ((canvas - size) / 2 + rng.uniform(-0.05, 0.05, 2) * canvas))).tolist())
    frame = sitk.Image([int(n) for n in canvas], sitk.sitkFloat32)
    frame.SetSpacing(spacing.tolist())
    frame.SetOrigin(image.GetOrigin())
    frame.SetDirection(image.GetDirection())
    return T, frame


def _image(values: npt.NDArray[Any], frame: sitk.Image) -> ar.Image:
    """(z, y, x[, C]) as augreg has it."""
    ndim = frame.GetDimension()
    grid = ar.Grid(
        tuple(int(n) for n in values.shape[:ndim][::-1]),
        frame.GetSpacing(),
        frame.GetOrigin(),
        np.reshape(frame.GetDirection(), (ndim, ndim)),
    )
    order = [*range(ndim)[::-1], *range(ndim, values.ndim)]
    return ar.Image(np.ascontiguousarray(np.transpose(values, order), dtype=np.float32), grid)


def _air(values: npt.NDArray[Any]) -> float:
    """What surrounds the scene."""
    return float(np.median(np.concatenate([values[0].ravel(), values[-1].ravel()])))


def _textured(values: npt.NDArray[Any], image: sitk.Image, rng: np.random.Generator) -> Array:
    """Points where something is to be seen, mm."""
    step = np.sqrt(sum(part**2 for part in np.gradient(values.astype(float))))
    inside = np.argwhere(step > np.percentile(step, 85))[:, ::-1]
    chosen = inside[rng.permutation(len(inside))[:_POINTS]].astype(float)
    return np.array([image.TransformContinuousIndexToPhysicalPoint(index.tolist()) for index in chosen])
