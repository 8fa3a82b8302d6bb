"""The people of a study: who is learned from, who is tested, and which pairs are registered.

brain   slices z08 of `brain2d`, affinely aligned, 1 mm, cut to a field of view around the head: all ordered pairs of people
heart   the hearts that come with augreg, pixels, cut to a field of view around the ventricle: the two phases of a patient in
        both orders ("phases"), and end-diastole of two patients ("people")
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from augreg import datasets, io
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from benchmarks.harness.places import DATA, TEST_BRAINS

# corners of the brain's field of view, voxels; nothing but air is outside
_HEAD = ((16, 176), (22, 214))
# side of the heart's field of view
_CHEST = 160
_TEST_HEARTS = 10
# of four training people, one chooses settings
_CHOOSING = 3.5


@dataclass(frozen=True, eq=False)
class Subject:
    """A person's image.

    Parameters
    ----------
    person : who
    phase : which image of the person
    image, labels : on one grid, that of all subjects of a study
    """

    person: str
    phase: str
    image: Image
    labels: Labels

    @property
    def name(self) -> str:
        """Unique."""
        return f"{self.person} {self.phase}"


@dataclass(frozen=True, eq=False)
class Pair:
    """Two subjects to be registered; `group` says of what kind they are."""

    group: str
    fixed: Subject
    moving: Subject


@dataclass(frozen=True, eq=False)
class Study:
    """People to learn from, and people to be tested on.

    Parameters
    ----------
    name : brain or heart
    training, test : subjects; no person is in both
    """

    name: str
    training: tuple[Subject, ...]
    test: tuple[Subject, ...]

    @property
    def people(self) -> list[str]:
        """Those to learn from."""
        return _people(self.training)

    @property
    def pairs(self) -> list[Pair]:
        """Of the test people: both orders of two phases of a person, and of the first phases of two people."""
        first = self.test[0].phase
        ordered = itertools.permutations(self.test, 2)
        same = [Pair("phases", a, b) for a, b in ordered if a.person == b.person]
        ordered = itertools.permutations([one for one in self.test if one.phase == first], 2)
        return same + [Pair("people", a, b) for a, b in ordered]

    def choosing(self) -> Study:
        """A study of the training people alone, for the choice of settings: the last of them are its test people."""
        people = self.people
        count = round(len(people) / _CHOOSING)
        last = people[-count:]
        known = tuple(one for one in self.training if one.person not in last)
        return replace(self, training=known, test=tuple(one for one in self.training if one.person in last))

    def fewer(self, people: int) -> Study:
        """The study with the first so many training people only.

        Raises
        ------
        ValueError : if there are not so many.
        """
        if not 3 <= people <= len(self.people):
            raise ValueError(f"people: expected from 3 to {len(self.people)} people to learn from, got {people}")
        known = self.people[:people]
        return replace(self, training=tuple(one for one in self.training if one.person in known))


def read_study(name: str) -> Study:
    """The study of that name.

    Raises
    ------
    KeyError : for another name than brain or heart. FileNotFoundError : without the images.
    """
    return _STUDIES[name]()


def read_slices(level: str) -> list[Subject]:
    """The heads of all people of `brain2d` at one of its levels, z08 or z20."""
    people = sorted(path.name.split("_")[0] for path in _folder("brain2d").glob(f"*_{level}.nii.gz"))
    return [_head(person, level) for person in people]


def _brain() -> Study:
    return _split("brain", read_slices("z08"), TEST_BRAINS)


def _head(person: str, level: str) -> Subject:
    (left, right), (bottom, top) = _HEAD
    path = DATA / "brain2d" / f"{person}_{level}"
    image, labels = io.read_image(f"{path}.nii.gz"), io.read_labels(f"{path}_labels.nii.gz")
    grid = Grid((right - left, top - bottom))
    seen = np.s_[left:right, bottom:top]
    return Subject(person, level, Image(image.values[seen].astype(np.float32), grid), Labels(labels.values[seen], grid))


def _heart() -> Study:
    data = datasets.hearts(_CHEST)
    people = [
        Subject(subject, phase, image.with_values(image.values.astype(np.float32)), labels)
        for subject, phase, image, labels in zip(data.subjects, data.phases or (), data.images, data.labels or (), strict=True)
    ]
    return _split("heart", people, _people(people)[-_TEST_HEARTS:])


def _folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the images of the study, got nothing; they are not part of the repository")
    return folder


def _split(name: str, subjects: Sequence[Subject], test: Sequence[str]) -> Study:
    known = tuple(one for one in subjects if one.person not in test)
    return Study(name, known, tuple(one for one in subjects if one.person in test))


def _people(subjects: Sequence[Subject]) -> list[str]:
    return list(dict.fromkeys(one.person for one in subjects))


_STUDIES: dict[str, Callable[[], Study]] = {"brain": _brain, "heart": _heart}
STUDIES = tuple(_STUDIES)
