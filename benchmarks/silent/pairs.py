"""Pairs of images that show nothing in common, and pairs of other contrasts that do, for mutual information.

Unrelated are two pictures, slices or volumes of different scenes, two parts of one picture that share nothing, and noise.
Related are images under known maps (see `benchmarks.silent.cases`), slices of two people, sections in two stains, and ultrasound
and MR of one prostate. What thresholds were chosen on and what they are reported on have no picture, person or tissue in common.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import SimpleITK as sitk
import skimage.data
import skimage.transform

import augreg as ar
from benchmarks.harness.places import DATA
from benchmarks.silent.cases import cases, images, make
from benchmarks.start.cases import sections

Array = npt.NDArray[np.float64]

_PHOTOGRAPHS = {
    False: ("camera", "astronaut", "coins", "immunohistochemistry", "retina", "moon", "rocket", "coffee", "cell", "grass"),
    True: ("chelsea", "hubble_deep_field", "microaneurysms", "clock", "page", "text", "gravel", "brick", "stereo_motorcycle"),
}
# its parts look alike
_PERIODIC = ("brick", "coins")
_SIDES = (96, 320)
_KINDS = {2: ("rigid", "affine", "bspline"), 3: ("rigid", "affine")}
# mm, of people and prostates; share of the diagonal, of sections
_PEOPLE, _PROSTATE, _SECTIONS = 8.0, 8.0, 0.02


@dataclass(frozen=True, eq=False)
class Related:
    """One pair.

    Parameters
    ----------
    key : family/.../kind/number
    fixed, moving : images
    points, targets : (N, D) mm, corresponding; none if the images have nothing in common
    limit : median error up to which a result is right, mm
    """

    key: str
    fixed: ar.Image
    moving: ar.Image
    points: Array
    targets: Array
    limit: float

    @property
    def transform(self) -> str:
        """What is registered with."""
        return self.key.split("/")[-2]


def unrelated(count: int, test: bool, seed: int = 0) -> Iterator[Related]:
    """`count` pairs in 2-D, of which a fifth are parts of one picture and a tenth noise."""
    flat = _flat(test)
    for number in range(count):
        rng = np.random.default_rng([seed, number, int(test), 1])
        kind = str(rng.choice(_KINDS[2]))
        if number % 10 == 0:
            names = ["noise", str(rng.choice(sorted(flat)))]
            parts = [_noise(rng), _picture(flat[names[1]], rng) if number % 20 else _noise(rng)]
        elif number % 5 == 1:
            name = str(rng.choice([name for name in sorted(flat) if name in _PHOTOGRAPHS[test] and name not in _PERIODIC]))
            names, parts = [name, name], list(_halves(_read(flat[name][0]), rng))
        else:
            names = [str(name) for name in rng.choice(sorted(flat), 2, replace=False)]
            parts = [_picture(flat[name], rng) for name in names]
        if rng.random() < 0.5:
            parts.reverse()
            names.reverse()
        yield _nothing(f"unrelated2d/{names[0]}-{names[1]}/{kind}/{number}", [_sized(part, rng) for part in parts])


def unrelated_volumes(count: int, test: bool, seed: int = 0) -> Iterator[Related]:
    """`count` pairs in 3-D."""
    solid = _solid(test)
    for number in range(count):
        rng = np.random.default_rng([seed, number, int(test), 2])
        kind = str(rng.choice(_KINDS[3]))
        names = [str(name) for name in rng.choice(sorted(solid), 2, replace=False)]
        volumes = [solid[name][int(rng.integers(len(solid[name])))] for name in names]
        yield _nothing(f"unrelated3d/{names[0]}-{names[1]}/{kind}/{number}", [_volume(path, test) for path in volumes])


def known(count: int, test: bool, seed: int = 0) -> Iterator[Related]:
    """Images under known maps, disturbed as those of `silent`."""
    for case in cases(count, test, seed):
        name, *_, kind, number = case.parts
        limit = {2: 5.0, 3: 3.0}[case.fixed.ndim] * case.voxel
        key = f"known{case.fixed.ndim}d/{name}/{case.parts[2]}/{kind}/{number}"
        yield Related(key, case.fixed, case.moving, case.points, case.targets, limit)


def people(count: int, test: bool, seed: int = 0) -> Iterator[Related]:
    """Slices of two people, the second one under a known map and in another contrast; people lie alike in this set."""
    slices = [path for name, path in images(test) if name == "brain2d"]
    for number in range(count):
        rng = np.random.default_rng([seed, number, int(test), 3])
        level = "_z08" if number % 2 else "_z20"
        alike = [path for path in slices if level in path.name]
        first, second = (alike[k] for k in rng.choice(len(alike), 2, replace=False))
        kind = str(rng.choice(_KINDS[2]))
        case = make("", second, str(rng.choice(["plain", "inverted", "arch", "gamma", "view"])), "affine", rng)
        # points of the second person's slice are those of the first one's, about
        key = f"people2d/{first.name[:4]}-{second.name[:4]}{level}/{kind}/{number}"
        yield Related(key, ar.read_image(first), case.moving, case.points, case.targets, _PEOPLE)


def stains(count: int, test: bool, seed: int = 0) -> Iterator[Related]:
    """Neighbouring sections in two stains, the second one turned by up to 14 degrees."""
    block = "lesion" if test else "kidney"
    for number in range(count):
        rng = np.random.default_rng([seed, number, int(test), 4])
        angle, kind = float(rng.uniform(-14, 14)), str(rng.choice(_KINDS[2]))
        case = sections(f"{block}/{number}", block, angle, False)
        key = f"stains2d/{block}/{kind}/{number}"
        yield Related(key, case.fixed, case.moving, case.points, case.targets, _SECTIONS * case.fixed.grid.diagonal)


def prostates(test: bool) -> Iterator[Related]:
    """Ultrasound and MR of a patient: their grids' centres, or their glands' centroids, at one place."""
    for scan in _scans(test):
        folder = DATA / "prostate"
        fixed, moving = (ar.read_image(folder / f"{scan}_{kind}.nii.gz") for kind in ("us", "mr"))
        points, targets = (np.asarray(ar.read_points(folder / f"{scan}_{kind}_points.csv")) for kind in ("us", "mr"))
        for lying in ("centres", "glands"):
            if lying == "centres":
                apart = moving.grid.center - fixed.grid.center
            else:
                maps = [ar.read_labels(folder / f"{scan}_{kind}_gland.nii.gz") for kind in ("us", "mr")]
                centroids = [part.grid.points_at(np.argwhere(part.values > 0).astype(float)).mean(axis=0) for part in maps]
                apart = centroids[1] - centroids[0]
            grid = ar.Grid(
                moving.grid.shape, moving.grid.spacing, tuple(np.asarray(moving.grid.origin) - apart), moving.grid.direction
            )
            placed = ar.Image(moving.values, grid)
            yield Related(f"prostate3d/{lying}/rigid/{scan}", fixed, placed, points, targets - apart, _PROSTATE)


def _scans(test: bool) -> list[str]:
    """One scan a patient; every third patient is tested."""
    with (DATA / "prostate" / "patients.csv").open(encoding="utf-8") as lines:
        scans = {row["patient"]: row["scan"] for row in reversed(list(csv.DictReader(lines)))}
    return [scans[patient] for number, patient in enumerate(sorted(scans)) if (number % 3 == 2) == test]


def _flat(test: bool) -> dict[str, list[Path | str]]:
    """Scenes and their pictures."""
    found: dict[str, list[Path | str]] = {name: [name] for name in _PHOTOGRAPHS[test]}
    for name, path in images(test):
        if name in ("brain2d", "cardiac2d", "ants2d"):
            # heads are one scene, whoever made the picture
            found.setdefault("hearts" if name == "cardiac2d" else "heads", []).append(path)
        elif name == "histology":
            found.setdefault("sections", []).append(path)
    return found


def _solid(test: bool) -> dict[str, list[Path]]:
    """Scenes and their volumes."""
    found = {"chest": [DATA / "chest3d" / "ct.mha"]}
    for name, path in images(test):
        if name in ("brain3d", "hearts3d"):
            found.setdefault(name, []).append(path)
    for kind in ("us", "mr"):
        found[f"prostate-{kind}"] = [DATA / "prostate" / f"{scan}_{kind}.nii.gz" for scan in _scans(test)]
    return found


def _read(what: Path | str) -> Array:
    """Grey, (row, column), 0 to 1."""
    if isinstance(what, Path):
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(what))).astype(float)
    else:
        values = getattr(skimage.data, what)()
        # of the stereo pair the left one
        values = (values[0] if isinstance(values, tuple) else values).astype(float)
    values = values[..., :3].mean(axis=-1) if values.ndim == 3 else values
    return (values - values.min()) / np.ptp(values)


def _picture(paths: list[Path | str], rng: np.random.Generator) -> Array:
    """A part of one of them, 60 to 100 % of each side."""
    whole = _read(paths[int(rng.integers(len(paths)))])
    count = (rng.uniform(0.6, 1.0, 2) * whole.shape).astype(int)
    first = [int(rng.integers(n - c + 1)) for n, c in zip(whole.shape, count, strict=True)]
    return whole[first[0] : first[0] + count[0], first[1] : first[1] + count[1]]


def _halves(whole: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Left and right, or upper and lower."""
    turned = whole.T if whole.shape[0] > whole.shape[1] or rng.random() < 0.3 else whole
    middle = turned.shape[1] // 2
    return turned[:, :middle], turned[:, middle:]


def _noise(rng: np.random.Generator) -> Array:
    """White, or smooth at some scale."""
    shape = rng.integers(60, 300, 2)
    return scipy.ndimage.gaussian_filter(rng.normal(size=shape), float(rng.choice([0.0, 1.0, 3.0, 8.0])))


def _sized(values: Array, rng: np.random.Generator) -> ar.Image:
    """Its longer side of a random length, some noise, sometimes of inverted contrast."""
    side = int(rng.integers(*_SIDES))
    shape = [max(32, round(n * side / max(values.shape))) for n in values.shape]
    small = skimage.transform.resize(values, shape, anti_aliasing=True)
    small = (small - small.min()) / (np.ptp(small) or 1.0)
    small = 1 - small if rng.random() < 0.3 else small
    values = (255 * small + rng.normal(0, 2, shape)).T.astype(np.float32)
    return ar.Image(values, ar.Grid(values.shape))


def _volume(path: Path, test: bool) -> ar.Image:
    """Of the one chest a half; brains at 2 mm."""
    image = ar.read_image(path)
    values, grid = image.values.astype(np.float32), image.grid
    if path.name == "ct.mha":
        cut = slice(0, grid.shape[2] // 2) if test else slice(grid.shape[2] // 2, None)
        values = values[..., cut]
    elif "brain3d" in path.parts:
        values = scipy.ndimage.gaussian_filter(values, 1.0)[::2, ::2, ::2]
    spacing = (2.0, 2.0, 2.0) if "brain3d" in path.parts else grid.spacing
    return ar.Image(np.ascontiguousarray(values), ar.Grid(values.shape, spacing))


def _nothing(key: str, pair: list[ar.Image]) -> Related:
    """Both with their middles at one place, as whoever registers them would have them."""
    fixed, moving = pair
    apart = fixed.grid.center - moving.grid.center
    placed = ar.Grid(moving.grid.shape, moving.grid.spacing, tuple(np.asarray(moving.grid.origin) + apart), moving.grid.direction)
    empty = np.zeros((0, fixed.ndim))
    return Related(key, fixed, ar.Image(moving.values, placed), empty, empty, 0.0)
