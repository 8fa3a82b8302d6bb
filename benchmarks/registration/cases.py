"""The image pairs: real images under known warps, stained tissue with landmarks, brain slices of different people.

Warps T are made with SimpleITK: fixed(x) = image(T(x)), moving = image ** gamma, so T maps fixed to moving points; both images
carry independent noise. What T brings in from outside is 0. Spacing 1, x first; points are pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import SimpleITK as sitk
import skimage.data
import skimage.io
import skimage.transform

from benchmarks.harness.places import DATA, TEST_BRAINS
from benchmarks.registration.rivals import Array, Kind

Pixels = npt.NDArray[np.float32]
# of the random elastic warps: control cells per side, and the largest displacement as a share of the side
_CELLS, _ELASTIC = 5, 0.05
_NOISE = 3.0
# lattice points per side where errors are measured, and the least local standard deviation around their targets
_LATTICE, _TEXTURE = 40, 2.5 * _NOISE


@dataclass(frozen=True, eq=False)
class Case:
    """One pair.

    Parameters
    ----------
    group, name : a group has a table, a case a column of it
    kind : of the methods that are tried
    fixed, moving : (nx, ny) or (nx, ny, 3), 0..255
    points, targets : (N, 2) pixels, corresponding; N = 0 where nobody knows them
    landmarks : the points are an expert's
    labels : of fixed and moving, (nx, ny) each, where structures are known
    spacings : of fixed and moving, mm
    """

    group: str
    name: str
    kind: Kind
    fixed: Pixels
    moving: Pixels
    points: Array
    targets: Array
    landmarks: bool = False
    labels: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
    spacings: tuple[tuple[float, ...], tuple[float, ...]] = ((1.0, 1.0), (1.0, 1.0))

    @property
    def key(self) -> str:
        """Unique."""
        return f"{self.group}/{self.name}"


def read_cases(only: tuple[str, ...] = ()) -> Iterator[Case]:
    """Those whose keys start with one of `only`, made anew from seeds; without those whose images are not there.

    By default all but those that show how time grows with the size.
    """
    for key, make in _recipes().items():
        if key.startswith(only) if only else not key.split("/")[0].endswith(_SCALE):
            try:
                yield make(*key.split("/"))
            except FileNotFoundError:
                continue


def _recipes() -> dict[str, Callable[[str, str], Case]]:
    recipes: dict[str, Callable[[str, str], Case]] = {}
    for title, size, images in (("512", 512, _PHOTOGRAPHS), ("1024", 1024, _LARGE), ("brain", 256, _BRAINS)):
        for kind in get_args(Kind):
            for seed, (name, read) in enumerate(images.items()):
                recipes[f"{kind}-{title}/{name}"] = partial(_warped, kind=kind, read=read, size=size, seed=seed)
    for kind in get_args(Kind):
        for size in _SIZES:
            recipes[f"{kind}-{_SCALE}/{size}"] = partial(_warped, kind=kind, read=_LARGE["retina"], size=size, seed=7)
    for kind in get_args(Kind):
        for name, (first, second) in _STAINS.items():
            recipes[f"{kind}-histology/{name}"] = partial(_stained, kind=kind, first=first, second=second)
    for first, second in _PEOPLE:
        recipes[f"elastic-people/{first} {second}"] = partial(_people, first=first, second=second)
    for first, second in itertools.permutations(TEST_BRAINS, 2):
        recipes[f"elastic-brain2d/{first} {second}"] = partial(_labelled, first=first, second=second)
    return recipes


def training_warps() -> Iterator[Case]:
    """Known elastic warps to choose settings by: other images than the tables', or the fundus under other warps."""
    for number in range(8):
        yield _warped("fundus", f"{number}", kind="elastic", read=_LARGE["retina"], size=512, seed=101 + number)
    for number, name in enumerate(("astronaut", "chelsea", "coffee", "moon", "page")):
        yield _warped("photographs", name, kind="elastic", read=partial(_sample, name), size=512, seed=105 + number)
    for round_ in range(3):
        for number, name in enumerate(("r30", "r64", "r85")):
            read = partial(_shared, f"ants2d/{name}slice.jpg")
            yield _warped("brains", f"{name}-{round_}", kind="elastic", read=read, size=256, seed=120 + number + 10 * round_)


def training_turns() -> Iterator[Case]:
    """Known affine warps of photographs to choose settings by, under other maps than the tables'."""
    for name in ("retina", "coins", "moon", "coffee", "camera", "rocket"):
        for number in range(6):
            yield _warped(name, f"{number}", kind="affine", read=partial(_sample, name), size=512, seed=140 + number)


def large_warps() -> Iterator[Case]:
    """Known elastic warps of 2048 pixels, of images that have about half as many: how many voxels of large ones are needed."""
    more = {name: partial(_sample, name) for name in ("immunohistochemistry", "astronaut", "hubble_deep_field")}
    for name, read in {**_LARGE, **more}.items():
        yield _warped("large", name, kind="elastic", read=read, size=2048, seed=7)


def _shared(path: str) -> Array:
    return skimage.io.imread(DATA / path).swapaxes(0, 1).astype(float)


def _sample(name: str) -> Array:
    return getattr(skimage.data, name)().swapaxes(0, 1).astype(float)


_PHOTOGRAPHS = {name: partial(_sample, name) for name in ("camera", "coins", "retina", "immunohistochemistry")}
_LARGE = {
    "retina": partial(_sample, "retina"),
    "kidney": partial(_shared, "histology/kidney_HE.jpg"),
    "lesion": partial(_shared, "histology/lesion_HE.jpg"),
}
_BRAINS = {name: partial(_shared, f"ants2d/{name}slice.jpg") for name in ("r16", "r27", "r62")}
_STAINS = {"kidney": ("kidney_HE", "kidney_PanCytokeratin"), "lesion": ("lesion_HE", "lesion_proSPC")}
_PEOPLE = (("r16", "r64"), ("r27", "r30"), ("r62", "r85"))
_SCALE, _SIZES = "scale", (256, 512, 1024, 2048, 4096)
# the grey of known warps, Rec. 709; made before anyone sees an image, and the same for all
_GREY = np.array([0.2126, 0.7152, 0.0722])


def _fitted(image: Array, side: int) -> Array:
    """Grey, the longest side with `side` pixels."""
    grey = image if image.ndim == 2 else image @ _GREY
    shape = [round(n * side / max(grey.shape)) for n in grey.shape]
    return skimage.transform.resize(grey, shape, order=3, anti_aliasing=max(grey.shape) > side).clip(0, 255)


def _warped(group: str, name: str, *, kind: Kind, read: Callable[[], Array], size: int, seed: int) -> Case:
    image = _fitted(read(), size)
    rng = np.random.default_rng([seed, size, kind == "elastic"])
    transform = _affine(rng, image.shape) if kind == "affine" else _bspline(rng, image.shape)
    source = sitk.GetImageFromArray(image.T)
    warped = sitk.GetArrayFromImage(sitk.Resample(source, source, transform, sitk.sitkBSpline, 0.0)).T
    fixed = _noisy(warped, rng)
    moving = _noisy(255 * (image / 255) ** rng.choice([0.8, 1.25]), rng)
    points = _lattice(image.shape)
    targets = np.array([transform.TransformPoint(p) for p in points.tolist()])
    seen = _textured(image, targets)
    return Case(group, name, kind, fixed, moving, points[seen], targets[seen])


def _noisy(image: Array, rng: np.random.Generator) -> Pixels:
    return (image + rng.normal(0, _NOISE, image.shape)).clip(0, 255).astype(np.float32)


def _affine(rng: np.random.Generator, shape: tuple[int, ...]) -> sitk.Transform:
    """Rotation by 10 degrees, scales up to 8 %, shift by 8 % of the sides, all signs random."""
    angle = np.deg2rad(10.0) * rng.choice([-1, 1])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    transform = sitk.AffineTransform(2)
    transform.SetMatrix((rotation @ np.diag(1 + rng.uniform(-0.08, 0.08, 2))).ravel().tolist())
    transform.SetCenter([(n - 1) / 2 for n in shape])
    transform.SetTranslation([0.08 * n * rng.choice([-1, 1]) for n in shape])
    return transform


def _bspline(rng: np.random.Generator, shape: tuple[int, ...]) -> sitk.Transform:
    """A random cubic B-spline, scaled to the largest displacement."""
    domain = sitk.Image([int(n) for n in shape], sitk.sitkUInt8)
    transform = sitk.BSplineTransformInitializer(domain, [_CELLS] * 2, 3)
    parameters = rng.normal(size=len(transform.GetParameters()))
    transform.SetParameters(parameters.tolist())
    lattice = np.stack(np.meshgrid(*[np.linspace(0, n - 1, 40) for n in shape], indexing="ij"), axis=-1).reshape(-1, 2)
    moved = np.array([transform.TransformPoint(p) for p in lattice.tolist()]) - lattice
    largest = np.linalg.norm(moved, axis=1).max()
    transform.SetParameters((parameters * _ELASTIC * max(shape) / largest).tolist())
    return transform


def _lattice(shape: tuple[int, ...]) -> Array:
    axes = [np.rint(np.linspace(0.06 * n, 0.94 * n, _LATTICE)) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def _textured(image: Array, points: Array) -> npt.NDArray[np.bool_]:
    """Which points (N, 2) lie in the image, at places where there is something to be seen, (N,)."""
    window = max(image.shape) // 32
    mean, square = (scipy.ndimage.uniform_filter(values, window) for values in (image, image**2))
    return scipy.ndimage.map_coordinates(square - mean**2, points.T, order=1, mode="constant") > _TEXTURE**2


def _stained(group: str, name: str, *, kind: Kind, first: str, second: str) -> Case:
    fixed, moving = (_shared(f"histology/{stem}.jpg").astype(np.float32) for stem in (first, second))
    points, targets = (np.loadtxt(DATA / f"histology/{stem}.csv", delimiter=",", skiprows=1) for stem in (first, second))
    return Case(group, name, kind, fixed, moving, points, targets, landmarks=True)


def _people(group: str, name: str, *, first: str, second: str) -> Case:
    fixed, moving = (_shared(f"ants2d/{stem}slice.jpg").astype(np.float32) for stem in (first, second))
    nothing = np.empty((0, 2))
    return Case(group, name, "elastic", fixed, moving, nothing, nothing)


def _labelled(group: str, name: str, *, first: str, second: str) -> Case:
    # 0 .. 1000 in the files
    fixed, moving = (_volume(f"brain2d/{person}_z08.nii.gz") for person in (first, second))
    labels = tuple(_volume(f"brain2d/{person}_z08_labels.nii.gz").astype(np.int64) for person in (first, second))
    nothing = np.empty((0, 2))
    images = ((255 / 1000 * values).clip(0, 255).astype(np.float32) for values in (fixed, moving))
    return Case(group, name, "elastic", *images, nothing, nothing, labels=(labels[0], labels[1]))


def _volume(path: str) -> Array:
    if not (DATA / path).exists():
        raise FileNotFoundError(path)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(DATA / path))).squeeze().T
