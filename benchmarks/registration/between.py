"""Pairs of images of different people, and of two phases of a heart, with label maps.

brain2d-z08, brain2d-z20   slices of `brain2d`, 1 mm; labels with 30 pixels or more in both, Jaccard
brain3d                    volumes of `brain3d`, 1 mm, not aligned; labels that both have, Dice
hearts3d-phases            volumes of `hearts3d`, 1.5 x 1.5 x 10 mm, end-diastole to end-systole of a patient; three labels, Dice
hearts3d-people            end-diastole of two patients

Training people are those that settings may be chosen on. Of the six people of `brain3d` three are; as a test all ordered pairs
are taken, as they were in earlier tables. Pairs come in the order of a ring of names, each person with the next one, then with
the next but one: the first pairs have all people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

import augreg as ar
from augreg.geometry._small import determinants
from benchmarks.harness.places import DATA, TEST_BRAINS
from benchmarks.registration.cases import Case

Split = Literal["training", "test"]
SPLITS: tuple[Split, ...] = ("training", "test")
_FEW_PIXELS = 30


@dataclass(frozen=True, eq=False)
class Between:
    """A pair.

    Parameters
    ----------
    group, name : of the case, and of the pair within it
    fixed, moving : images
    fixed_labels, moving_labels : structures
    """

    group: str
    name: str
    fixed: ar.Image
    moving: ar.Image
    fixed_labels: ar.Labels
    moving_labels: ar.Labels

    def case(self) -> Case:
        """As rivals get it: arrays and spacings."""
        # rivals that work on bytes want 0..255; slices have 0..1000
        scale = 255 / 1000 if self.group.startswith("brain2d") else 1.0
        images = [(scale * image.values).astype(np.float32) for image in (self.fixed, self.moving)]
        if self.group.startswith("brain2d"):
            images = [values.clip(0, 255) for values in images]
        nothing = np.empty((0, self.fixed.ndim))
        spacings = (self.fixed.grid.spacing, self.moving.grid.spacing)
        return Case(self.group, self.name, "elastic", images[0], images[1], nothing, nothing, spacings=spacings)

    def quality(self, at: npt.NDArray[np.floating]) -> dict[str, float]:
        """Overlap and folding of a map, given by the voxels of the moving image that those of the fixed one go to, (*shape, D).

        Labels are moved by nearest neighbour; one that is moved out of view counts 0. `folding` is the share of cells of voxels
        whose forward differences have a determinant that is not positive, `least` the smallest of these determinants, in mm.
        """
        index = np.rint(at).astype(np.int64)
        inside = np.all((index >= 0) & (index <= self.moving.grid.last), axis=-1)
        moved = np.where(inside, self.moving_labels.values[tuple(np.moveaxis(index * inside[..., None], -1, 0))], 0)
        fixed, moving = self.fixed_labels.values.ravel(), self.moving_labels.values
        size = int(max(fixed.max(), moving.max())) + 1
        here, there, before = (np.bincount(values.ravel(), minlength=size) for values in (fixed, moved, moving))
        both = np.bincount(fixed[fixed == moved.ravel()], minlength=size)
        flat = self.fixed.ndim == 2
        known = np.minimum(here, before) >= (_FEW_PIXELS if flat else 1)
        known[0] = False
        both, total = both[known], (here + there)[known]
        overlaps = both / (total - both) if flat else 2 * both / total
        determinants = self._determinants(at)
        return {
            "overlap": float(overlaps.mean()),
            "folding": float(np.mean(determinants <= 0)),
            "least": float(determinants.min()),
        }

    def _determinants(self, at: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Of forward differences, (*(shape - 1))."""
        ndim = self.fixed.ndim
        first = at[(slice(-1),) * ndim]
        steps = []
        for axis in range(ndim):
            ahead = [slice(-1)] * ndim
            ahead[axis] = slice(1, None)
            steps.append((at[tuple(ahead)] - first).astype(np.float64))
        volume = np.prod(self.moving.grid.spacing) / np.prod(self.fixed.grid.spacing)
        return volume * determinants(np.stack(steps, axis=-1))


def _ring(people: list[str], steps: range | tuple[int, ...]) -> list[tuple[str, str]]:
    return [(person, people[(i + step) % len(people)]) for step in steps for i, person in enumerate(people)]


def _slices(split: Split, level: str) -> list[tuple[str, str]]:
    names = sorted(path.name[:4] for path in (DATA / "brain2d").glob(f"????_{level}.nii.gz"))
    people = [name for name in names if (name in TEST_BRAINS) == (split == "test")]
    pairs = _ring(people, range(1, len(people)) if split == "test" else (1, 5))
    return [(f"{a}_{level}", f"{b}_{level}") for a, b in pairs]


def _heads(split: Split) -> list[tuple[str, str]]:
    names = sorted(path.name[:4] for path in (DATA / "brain3d").glob("????.nii.gz"))
    people = [name for name in names if split == "test" or name not in TEST_BRAINS]
    return _ring(people, range(1, len(people)))


def patients_of(split: Split) -> list[str]:
    """Of `hearts3d`."""
    names = sorted(path.name[:3] for path in (DATA / "hearts3d").glob("???_ed.nii.gz"))
    blocks: dict[int, list[str]] = {}
    for name in names:
        blocks.setdefault((int(name) - 1) // 20, []).append(name)
    tested = {name for block in blocks.values() for name in block[-4:]}
    return [name for name in names if (name in tested) == (split == "test")]


def _phases(split: Split) -> list[tuple[str, str]]:
    return [(f"{name}_ed", f"{name}_es") for name in patients_of(split)]


def _patients(split: Split) -> list[tuple[str, str]]:
    return [(f"{a}_ed", f"{b}_ed") for a, b in _ring(patients_of(split), (1,))]


# name of the case -> pairs of names of images, in the folder of the first word
PAIRS: dict[str, Callable[[Split], list[tuple[str, str]]]] = {
    "brain2d-z08": lambda split: _slices(split, "z08"),
    "brain2d-z20": lambda split: _slices(split, "z20"),
    "brain3d": _heads,
    "hearts3d-phases": _phases,
    "hearts3d-people": _patients,
}


def read(group: str, pair: tuple[str, str]) -> Between:
    """The images and label maps of a pair."""
    folder = DATA / group.split("-")[0]
    images = [ar.read_image(folder / f"{name}.nii.gz") for name in pair]
    labels = [ar.read_labels(folder / f"{name}_labels.nii.gz") for name in pair]
    return Between(group, " ".join(pair), *images, *labels)
