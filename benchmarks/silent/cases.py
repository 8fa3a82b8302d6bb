"""Real images under known maps, disturbed as scanners, screens and people disturb them.

The fixed image is a real one, the moving image is resampled by SimpleITK once: moving(y) = image(T^-1(y)), so that T maps fixed
to moving points. Then come noise, a change of contrast, and one disturbance: a frame that belongs to each image and not to the
scene (a circle, a fan, dead columns, a wedge, a band, burnt-in text, filled with one value), extreme pixels, a smaller field of
view, or an origin that is off by a share of the size. Everything follows from the seed of a case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import SimpleITK as sitk

import augreg as ar
from benchmarks.harness.places import DATA, TEST_BRAINS

Array = npt.NDArray[np.float64]

# people and blocks on which nothing was chosen
_TEST = {
    "brain2d": lambda name, _: name.split("_")[0] in TEST_BRAINS,
    "cardiac2d": lambda name, all_names: name.split("_")[0] in sorted({n.split("_")[0] for n in all_names})[-10:],
    "ants2d": lambda name, _: name >= "r62",
    "histology": lambda name, _: "lesion" in name,
    "hearts3d": lambda name, all_names: name[:3] in _last_of_blocks({n[:3] for n in all_names}),
    "brain3d": lambda name, _: name >= "1010",
}
FRAMES = ("circle", "fan", "columns", "wedge", "band", "text")
DISTURBANCES = ("plain", "noise", *FRAMES, "hot", "metal", "markers", "view", "inverted", "arch", "gamma", "origin", "turned")
KINDS = ("rigid", "affine", "bspline")
# points at which errors are measured, at most
_POINTS = 400


@dataclass(frozen=True, eq=False)
class Silent:
    """One pair.

    Parameters
    ----------
    key : set/image/disturbance/kind/criterion/seed
    fixed, moving : as a user has them
    points, targets : (N, D) mm, corresponding, where both images show the scene
    voxel : mm, the smaller spacing
    """

    key: str
    fixed: ar.Image
    moving: ar.Image
    points: Array
    targets: Array
    voxel: float

    @property
    def parts(self) -> list[str]:
        """Of the key."""
        return self.key.split("/")


def images(test: bool) -> list[tuple[str, Path]]:
    """Set and file of all images, without their label maps; those that thresholds were chosen on, or the others."""
    patterns = {
        "brain2d": "*_z??.nii.gz",
        "cardiac2d": "*_e?.png",
        "ants2d": "*.jpg",
        "histology": "*.jpg",
        "hearts3d": "*_e?.nii.gz",
        "brain3d": "????.nii.gz",
    }
    found = []
    for name, pattern in patterns.items():
        paths = sorted((DATA / name).glob(pattern))
        names = [path.name for path in paths]
        found += [(name, path) for path in paths if _TEST[name](path.name, names) == test]
    return found


def _last_of_blocks(numbers: set[str]) -> set[str]:
    """The last four of each block of twenty."""
    blocks: dict[int, list[str]] = {}
    for number in sorted(numbers):
        blocks.setdefault((int(number) - 1) // 20, []).append(number)
    return {number for block in blocks.values() for number in block[-4:]}


def cases(count: int, test: bool, seed: int = 0, only: Sequence[str] = ("",)) -> Iterator[Silent]:
    """`count` pairs: sets, images, disturbances and kinds in turn, everything else drawn."""
    by_set: dict[str, list[Path]] = {}
    for name, path in images(test):
        by_set.setdefault(name, []).append(path)
    # volumes take longer: one in six
    turns = [name for name in ("brain2d", "cardiac2d", "ants2d", "brain2d", "histology", "hearts3d") if name in by_set]
    for number in range(count):
        rng = np.random.default_rng([seed, number, int(test)])
        name = turns[number % len(turns)]
        path = by_set[name][int(rng.integers(len(by_set[name])))]
        disturbance = str(rng.choice(DISTURBANCES))
        kind = str(rng.choice(KINDS))
        key = f"{name}/{path.name.split('.')[0]}/{disturbance}/{kind}/{number}"
        if any(text in key for text in only):
            yield make(key, path, disturbance, kind, rng)


def make(key: str, path: Path, disturbance: str, kind: str, rng: np.random.Generator) -> Silent:
    """The pair of a file: see the module."""
    image = _read(path)
    ndim = image.GetDimension()
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    # (z, y, x), as SimpleITK has it
    values = sitk.GetArrayFromImage(image)
    air = float(np.median(np.concatenate([values[..., 0].ravel(), values[..., -1].ravel()])))
    T, moved_size = _map(image, disturbance, kind, rng)
    frame = sitk.Image([int(n) for n in moved_size], sitk.sitkFloat32)
    frame.SetSpacing(spacing.tolist())
    frame.SetOrigin(image.GetOrigin())
    frame.SetDirection(image.GetDirection())
    moved = sitk.GetArrayFromImage(sitk.Resample(image, frame, T.GetInverse(), sitk.sitkLinear, air))
    pair = [values.copy(), moved]
    span = float(np.percentile(values, 99.5) - np.percentile(values, 0.5)) or 1.0
    low = float(values.min())
    if disturbance != "plain":
        pair[1] = low + span * (np.clip(pair[1] - low, 0, None) / span) ** rng.uniform(0.75, 1.3)
        pair = [part + rng.normal(0, 0.02 * span, part.shape) * (part != air) for part in pair]
    keep = [np.ones(part.shape, bool) for part in pair]
    if disturbance in FRAMES:
        fill = float(rng.choice([-2000.0, low - 0.02 * span, low, low + span]))
        seed = int(rng.integers(1 << 30))
        keep = [_frame(disturbance, part.shape, np.random.default_rng(seed)) for part in pair]
        pair = [np.where(inside, part, fill) for part, inside in zip(pair, keep, strict=True)]
    if disturbance == "hot":
        for part in pair:
            spots = tuple(rng.integers(0, n, 8) for n in part.shape)
            part[spots] = low + span * 10.0 ** rng.uniform(1, 5)
    if disturbance in ("metal", "markers"):
        pair = [_spots(part, disturbance, low + span * (30.0 if disturbance == "metal" else 3.0), rng) for part in pair]
    if disturbance == "inverted":
        pair[1] = low + span - (pair[1] - low)
    if disturbance == "arch":
        share = (pair[1] - low) / span
        pair[1] = low + span * 4 * share * (1 - share)
    if disturbance == "gamma":
        pair[1] = low + span * np.clip((pair[1] - low) / span, 0, None) ** float(rng.choice([0.3, 0.5, 2.0, 3.0]))
    fixed_grid = ar.Grid(tuple(size.tolist()), tuple(spacing), image.GetOrigin(), np.reshape(image.GetDirection(), (ndim, ndim)))
    moving_grid = ar.Grid(tuple(moved_size.tolist()), tuple(spacing), image.GetOrigin(), fixed_grid.direction)
    points = _textured(values, keep[0], fixed_grid)
    targets = np.array([T.TransformPoint(p.tolist()) for p in points])
    inside = moving_grid.contains(targets)
    index = np.rint(moving_grid.indices_at(targets[inside])).astype(int)
    inside[inside] = keep[1].T[tuple(index.T)]
    points, targets = points[inside], targets[inside]
    if disturbance == "view":
        pair[1], moving_grid = _cut(pair[1], moving_grid, rng)
        seen = moving_grid.contains(targets)
        points, targets = points[seen], targets[seen]
    if disturbance == "origin":
        share = rng.uniform(0.2, 1.2) * np.where(rng.random(ndim) < 0.5, -1, 1) * (rng.random(ndim) < 0.7)
        offset = np.asarray(fixed_grid.direction) @ (share * size * spacing)
        moving_grid = ar.Grid(moving_grid.shape, moving_grid.spacing, tuple(offset + moving_grid.origin), moving_grid.direction)
        targets = targets + offset
    fixed, moving = (np.ascontiguousarray(part.T.astype(np.float32)) for part in pair)
    return Silent(key, ar.Image(fixed, fixed_grid), ar.Image(moving, moving_grid), points, targets, float(spacing.min()))


def _read(path: Path) -> sitk.Image:
    """Grey, float32; spacing 1 where the file's means nothing; brains in 3-D at 2 mm."""
    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() > 1:
        parts = [sitk.Cast(sitk.VectorIndexSelectionCast(image, c), sitk.sitkFloat32) for c in range(3)]
        image = (parts[0] + parts[1] + parts[2]) / 3
    image = sitk.Cast(image, sitk.sitkFloat32)
    if path.suffix != ".gz":
        image = sitk.GetImageFromArray(sitk.GetArrayFromImage(image))
    if "brain3d" in path.parts:
        size = [n // 2 for n in image.GetSize()]
        smooth = sitk.SmoothingRecursiveGaussian(image, 1.0)
        double = [2 * s for s in image.GetSpacing()]
        image = sitk.Resample(smooth, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), double, image.GetDirection())
    return image


def _map(image: sitk.Image, disturbance: str, kind: str, rng: np.random.Generator) -> tuple[sitk.Transform, Array]:
    """T and the moving image's size: within what is searched by default, unless the disturbance is `turned`."""
    ndim, size, spacing = image.GetDimension(), np.array(image.GetSize()), np.array(image.GetSpacing())
    center = np.array(image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    angle, scale = np.deg2rad(rng.uniform(-14, 14)), 1.0
    shift = rng.uniform(-0.12, 0.12, ndim) * size * spacing
    moved = size.copy()
    if kind != "rigid":
        scale = rng.uniform(0.88, 1.12)
    if disturbance == "turned" and ndim == 2:
        angle = np.deg2rad(float(rng.choice([20, 30, 45, 60, 90, 120, 180, -90])))
        scale = 1.0 if kind == "rigid" else float(rng.choice([0.5, 0.7, 1.0, 1.5, 2.0]))
        moved = np.ceil(size * scale * (1.0 if abs(np.sin(2 * angle)) < 1e-6 else 1.3)).astype(int)
        if abs(np.cos(angle)) < 1e-6:
            moved = moved[::-1]
        shift = spacing * (moved - size) / 2
    if ndim == 2:
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    else:
        shift[2] = rng.uniform(-0.8, 0.8) * spacing[2]
        tilt = (0.02, 0.02) if spacing[2] > 4 else tuple(rng.uniform(-0.1, 0.1, 2))
        turn = np.reshape(sitk.Euler3DTransform((0, 0, 0), *tilt, angle).GetMatrix(), (3, 3))
    matrix = turn * scale
    if kind != "rigid" and disturbance != "turned":
        matrix = matrix @ (np.eye(ndim) + rng.uniform(-0.03, 0.03, (ndim, ndim)))
    if ndim == 3 and spacing[2] > 4:
        matrix[2], matrix[:, 2] = (0, 0, 1), (0, 0, 1)
    direction = np.reshape(image.GetDirection(), (ndim, ndim))
    affine = sitk.AffineTransform(ndim)
    affine.SetCenter(center.tolist())
    affine.SetMatrix((direction @ matrix @ direction.T).ravel().tolist())
    affine.SetTranslation((direction @ shift).tolist())
    return affine, moved


def _frame(what: str, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which voxels show the scene, (z, y, x): the same place of the image, whatever it shows."""
    h, w = shape[-2:]
    y, x = np.mgrid[:h, :w]
    if what == "circle":
        keep = (x - w / 2) ** 2 + (y - h / 2) ** 2 < (rng.uniform(0.36, 0.47) * min(h, w)) ** 2
    elif what == "fan":
        keep = np.abs(np.arctan2(x - w / 2, y + 0.1 * h)) < rng.uniform(0.4, 0.6)
    elif what == "columns":
        keep = ~((x // rng.integers(3, 7)) % 8 == 0)
    elif what == "wedge":
        keep = x / w + y / h > rng.uniform(0.4, 0.6)
    elif what == "band":
        edge = int(rng.uniform(0.04, 0.12) * min(h, w))
        keep = (x >= edge) & (x < w - edge) & (y >= edge) & (y < h - edge)
    else:
        # letters: blocks of 5 x 7 cells, as a screen burns them in
        keep = np.ones((h, w), bool)
        cell = max(1, min(h, w) // 120)
        for row, column in ((0.04, 0.05), (0.12, 0.05), (0.9, 0.5)):
            for letter in range(7):
                glyph = np.kron(rng.random((7, 5)) < 0.5, np.ones((cell, cell), bool))
                top, left = int(row * h), int(column * w) + 6 * cell * letter
                part = keep[top : top + glyph.shape[0], left : left + glyph.shape[1]]
                part &= ~glyph[: part.shape[0], : part.shape[1]]
    return np.broadcast_to(keep, shape)


def _spots(part: Array, what: str, value: float, rng: np.random.Generator) -> Array:
    """Some bright blobs, in each image elsewhere: implants, or markers on the skin."""
    out = part.copy()
    axes = np.meshgrid(*[np.arange(n) for n in part.shape], indexing="ij")
    for _ in range(1 if what == "metal" else 4):
        center = [rng.uniform(0.2, 0.8) * n for n in part.shape]
        radius = rng.uniform(0.03, 0.05) * part.shape[-1] * (1.0 if what == "metal" else 0.5)
        out[sum((a - c) ** 2 for a, c in zip(axes, center, strict=True)) < radius**2] = value
    return out


def _cut(part: Array, grid: ar.Grid, rng: np.random.Generator) -> tuple[Array, ar.Grid]:
    """A part of the moving image, 75 to 40 % of one axis in the plane."""
    axis = int(rng.integers(2))
    n = grid.shape[axis]
    count = int(n * rng.uniform(0.45, 0.8))
    first = int(rng.integers(n - count + 1))
    corner = np.zeros(grid.ndim)
    corner[axis] = first
    shape = tuple(count if a == axis else m for a, m in enumerate(grid.shape))
    cut = [slice(None)] * grid.ndim
    cut[grid.ndim - 1 - axis] = slice(first, first + count)
    return part[tuple(cut)], ar.Grid(shape, grid.spacing, tuple(grid.points_at(corner)), grid.direction)


def _textured(values: Array, keep: npt.NDArray[np.bool_], grid: ar.Grid) -> Array:
    """Points of the scene where there is something to align, (N, D) mm."""
    flat = 2.0 if grid.ndim == 2 else (0.5, 1.5, 1.5)
    strength = scipy.ndimage.gaussian_gradient_magnitude(values.astype(float), flat) * keep
    index = np.argwhere(strength > 0.25 * np.percentile(strength[strength > 0], 98))
    index = index[:: max(1, len(index) // _POINTS)][:, ::-1]
    return grid.points_at(index.astype(float))
