"""Short-axis images of hearts of two people: `cardiac2d`, with the left ventricle, and `hearts3d`, with three structures.

cardiac2d    end-diastole of two patients, centred, 160 x 160 pixels (`benchmarks.experiments.people`): all 90 ordered pairs of
             test patients. Networks learn from both phases of the 20 others.
hearts3d     the middle slice at end-diastole of 60 patients, 128 x 128 pixels, shifted by up to 10 as the files are. Tested are
             the last 4 patients of each block of 20 numbers, each as the fixed image with two of the others.
volumes      the same people and pairs, whole: the 6 to 18 slices of a heart as 12 of the nominal 10 mm, pixels of 1.5 mm, so
             that bases and tips of hearts lie on each other more or less. Networks see 64 x 64 x 12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from augreg import io
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample
from benchmarks.experiments.people import Pair, Study, Subject, read_study
from benchmarks.harness.places import DATA

_BLOCK, _TESTED, _CHOOSING = 20, 4, 4
# of volumes: slices, and the nominal size of a voxel, mm
_SLICES, _VOXEL = 12, (1.5, 1.5, 10.0)
# who is registered to a person: those so many places behind
_PARTNERS = (1, 7)


@dataclass(frozen=True, eq=False)
class Sections:
    """People to learn from, and pairs of others.

    Parameters
    ----------
    name : of the study
    training, test : subjects; no person is in both
    pairs : of test people
    structures : labels
    """

    name: str
    training: tuple[Subject, ...]
    test: tuple[Subject, ...]
    pairs: tuple[Pair, ...]
    structures: tuple[int, ...]


def read_sections(name: str, *, choosing: bool = False) -> Sections:
    """The study of that name; choosing tests some of the training people and learns from the others.

    Raises
    ------
    FileNotFoundError : without the images.
    """
    study, structures = (read_study("heart"), (1,)) if name == "cardiac2d" else (_hearts(name), (1, 2, 3))
    if choosing:
        study = study.choosing() if name == "cardiac2d" else _split(name, study.training, _CHOOSING)
    if name == "cardiac2d":
        pairs = [pair for pair in study.pairs if pair.group == "people"]
    else:
        count = len(study.test)
        partners = sorted({places % count for places in _PARTNERS} - {0})
        pairs = [Pair("people", study.test[i], study.test[(i + k) % count]) for i in range(count) for k in partners]
    return Sections(name, study.training, study.test, tuple(pairs), structures)


def _hearts(name: str) -> Study:
    folder = DATA / "hearts3d"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the images of the study, got nothing; they are not part of the repository")
    people = sorted(path.name.split("_")[0] for path in folder.glob("*_ed.nii.gz"))
    blocks: dict[int, list[str]] = {}
    for person in people:
        blocks.setdefault((int(person) - 1) // _BLOCK, []).append(person)
    tested = {person for block in blocks.values() for person in block[-_TESTED:]}
    subjects = [_KINDS[name](person) for person in people]
    return Study(
        name,
        tuple(one for one in subjects if one.person not in tested),
        tuple(one for one in subjects if one.person in tested),
    )


def _read(person: str) -> tuple[Image, Labels]:
    path = DATA / "hearts3d" / f"{person}_ed"
    return io.read_image(f"{path}.nii.gz"), io.read_labels(f"{path}_labels.nii.gz")


def _section(person: str) -> Subject:
    image, labels = _read(person)
    middle = image.grid.shape[2] // 2
    # pixels: the true spacing is lost
    grid = Grid(image.grid.shape[:2])
    return Subject(
        person, "ed", Image(image.values[:, :, middle].astype(np.float32), grid), Labels(labels.values[:, :, middle], grid)
    )


def _volume(person: str) -> Subject:
    image, labels = _read(person)
    wide, high, slices = image.grid.shape
    # as many slices over the same length, and then of the same length for all
    own, grid = Grid((wide, high, slices), _VOXEL), Grid((wide, high, _SLICES), _VOXEL)
    thick = own.with_spacing((*_VOXEL[:2], _VOXEL[2] * slices / _SLICES))
    seen = resample(Image(image.values.astype(np.float32), own), thick)
    return Subject(person, "ed", Image(seen.values, grid), Labels(resample(Labels(labels.values, own), thick).values, grid))


_KINDS: dict[str, Callable[[str], Subject]] = {"hearts3d": _section, "volumes": _volume}


def _split(name: str, subjects: tuple[Subject, ...], every: int) -> Study:
    tested = {one.person for one in subjects[every - 1 :: every]}
    known = tuple(one for one in subjects if one.person not in tested)
    return Study(name, known, tuple(one for one in subjects if one.person in tested))
