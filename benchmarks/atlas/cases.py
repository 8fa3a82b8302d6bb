"""Whom atlases segment, and whom they are.

brain2d    slices z08, 1 mm. test: the 8 test people by the 14 training people. training: each of these by the 13 others.
           Dice of labels with 30 pixels or more in the target
brain3d    volumes of heads, 1 mm, not aligned. test: each of 6 people by the 5 others. training: each of 3 by 2. All labels
hearts3d   end-diastole, 1.5 x 1.5 x 10 mm. test: the test patients by 12 training patients, evenly taken; training: every fourth
           of the other training patients by the same 12. Three labels
hearts2d   the same people, the middle section of each, pixels: what networks of `python -m benchmarks run hearts` know
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import augreg as ar
from augreg.atlas import Atlas
from benchmarks.harness.places import DATA, TEST_BRAINS
from benchmarks.registration.between import Split, patients_of

_FEW_PIXELS, _HEARTS = 30, 12


@dataclass(frozen=True)
class Case:
    """Targets and atlases, by name.

    Parameters
    ----------
    name : of the case, and of the folder of its images
    targets, atlases : names of images; a target is never its own atlas
    suffix : of the files of images, after the name
    least : voxels that a label needs in the target to be counted
    folder : of the images, where it has not the name of the case
    """

    name: str
    targets: tuple[str, ...]
    atlases: tuple[str, ...]
    suffix: str = ""
    least: int = 1
    folder: str = ""

    def of(self, target: str) -> tuple[str, ...]:
        """The atlases of a target."""
        return tuple(name for name in self.atlases if name != target)

    def read(self, name: str) -> Atlas:
        """An image with its labels."""
        stem = f"{DATA / (self.folder or self.name) / name}{self.suffix}"
        found = Atlas(ar.read_image(f"{stem}.nii.gz"), ar.read_labels(f"{stem}_labels.nii.gz"))
        return _middle(found) if self.name == "hearts2d" else found

    def dice(self, found: ar.Labels, truth: ar.Labels) -> dict[int, float]:
        """Of every label that counts; 0 for one that was not found."""
        names, sizes = np.unique(truth.values, return_counts=True)
        counted = [int(name) for name, size in zip(names, sizes, strict=True) if name != 0 and size >= self.least]
        overlaps = ar.dice(found, truth, known=counted)
        return {name: overlaps[name] or 0.0 for name in counted}


def cases(split: Split) -> dict[str, Case]:
    """By name."""
    slices = sorted(path.name[:4] for path in (DATA / "brain2d").glob("????_z08.nii.gz"))
    heads = sorted(path.name[:4] for path in (DATA / "brain3d").glob("????.nii.gz"))
    trained = [name for name in slices if name not in TEST_BRAINS]
    mine = [name for name in heads if split == "test" or name not in TEST_BRAINS]
    hearts = patients_of("training")
    atlases = [hearts[i * len(hearts) // _HEARTS] for i in range(_HEARTS)]
    others = [name for name in hearts if name not in atlases][::4]
    patients = tuple(patients_of("test") if split == "test" else others)
    return {
        "brain2d": Case(
            "brain2d", tuple(sorted(TEST_BRAINS) if split == "test" else trained), tuple(trained), "_z08", _FEW_PIXELS
        ),
        "brain3d": Case("brain3d", tuple(mine), tuple(mine)),
        "hearts3d": Case("hearts3d", patients, tuple(atlases), "_ed"),
        "hearts2d": Case("hearts2d", patients, tuple(atlases), "_ed", folder="hearts3d"),
    }


def boxed(here: Atlas, maps: Sequence[Atlas], side: int) -> tuple[Atlas, list[Atlas]]:
    """What lies in a box amid the grid of a target and the maps on it."""
    where = tuple(slice(max(n // 2 - side // 2, 0), n // 2 + side // 2) for n in here.image.grid.shape)

    def cut(one: Atlas) -> Atlas:
        values = one.image.values[where]
        grid = ar.Grid(values.shape, one.image.grid.spacing)
        return Atlas(ar.Image(values, grid), ar.Labels(np.asarray(one.labels.values)[where].astype(np.int64), grid))

    return cut(here), [cut(one) for one in maps]


def _middle(heart: Atlas) -> Atlas:
    """Its middle section, as `benchmarks.experiments.sections` has it."""
    k = heart.image.grid.shape[2] // 2
    grid = ar.Grid(heart.image.grid.shape[:2])
    image = ar.Image(heart.image.values[:, :, k].astype(np.float32), grid)
    return Atlas(image, ar.Labels(heart.labels.values[:, :, k], grid))
