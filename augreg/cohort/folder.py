"""A folder with many images aligned to one.

    NAME.h5  NAME.nii.gz  [NAME_labels.nii.gz]    of every image: the transform, the image and its label map on the fixed grid
    cohort.csv                                    a line per image, in the order in which they were given
    records/                                      what is known of each image, by which another run knows what is there already

Files depend on the fixed image, the registration and the image alone: whoever makes them, and however often it was stopped, they
have the same bytes, and images that join a cohort later are all that there is to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from augreg.atlas import digests
from augreg.cohort.doubts import doubts_of
from augreg.cohort.lines import Line, table
from augreg.cohort.member import Members, Picture
from augreg.cohort.names import Names, bids, plain
from augreg.geometry.image import Image, Labels
from augreg.io import atomic, remove_partial
from augreg.registration import Registration
from augreg.registration.method import as_method
from augreg.tasks import at_work, place

TABLE, PAGE = "cohort.csv", "index.html"
# what is no derivative in the sense of BIDS
_OTHERS = ("records/", TABLE, PAGE)


@dataclass(frozen=True)
class CohortState:
    """How far it has come.

    Parameters
    ----------
    lines : of the images that are done or have failed, in the order of the images
    total : number of images
    """

    lines: tuple[Line, ...]
    total: int

    @property
    def failed(self) -> int:
        """Images without a result."""
        return sum(bool(line.failed) for line in self.lines)

    @property
    def kept(self) -> int:
        """Images that an earlier run has done."""
        return sum(line.kept for line in self.lines)


def write_cohort(
    fixed: Image,
    images: Sequence[str],
    registration: Registration,
    directory: str | os.PathLike[str],
    *,
    fixed_labels: Labels | None = None,
    labels: Sequence[str] = (),
    space: str | None = None,
    picture: Picture | None = None,
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[CohortState]:
    """Align images to a fixed one, yielding a state after each; the table is written when all are done.

    Parameters
    ----------
    fixed : the image that all are aligned to
    images : paths of the images, each once
    registration : a callable (fixed, moving) -> Transform that can be pickled, of which `augreg.atlas.digests` can say whether
        it is the same again. It is told of no label maps: these judge it
    directory : folder of the files, made if it does not exist; what is there of these inputs is kept
    fixed_labels : label map of the fixed image, for Dice
    labels : paths of the images' label maps, one each, or none
    space : name of the fixed image's space, for names of BIDS derivatives; None for plain names
    picture : draws a picture of every pair for a page, (pair, start, transform) -> bytes
    workers : number of processes of this machine
    scheduler : address of a Dask cluster that does the work instead; all its machines must see images and directory

    Raises
    ------
    ValueError : for no images, one given twice, label maps of another number, a fixed label map on another grid, a scheduler that
        does not answer. TypeError : for what is no registration, or none that could be the same again.
    RuntimeError : where worker after worker is killed; the same call goes on.
    """
    folder = Path(directory).absolute()
    paths, maps = _absolute(images), _absolute(labels)
    _check(fixed, fixed_labels, paths, maps)
    names = files_of(paths, space)
    method = as_method("registration", registration)
    # what cannot be known again is told before the work
    digests.of_registration(method)
    members = Members(fixed, fixed_labels, method, folder, paths, maps, tuple(names), picture)
    lines: dict[int, Line] = {}
    with place(workers, scheduler) as finished:
        (folder / "records").mkdir(parents=True, exist_ok=True)
        with at_work(folder) as alone:
            for number, line in finished(members, range(len(paths))):
                if not line.failed and not (folder / names[number].transform).exists():
                    raise ValueError(
                        f"{folder}: expected a folder that all workers share, the files are elsewhere; choose another"
                    )
                lines[number] = line
                yield CohortState(tuple(lines[i] for i in sorted(lines)), len(paths))
            ordered = [lines[i] for i in range(len(paths))]
            with atomic(folder / TABLE) as temporary:
                temporary.write_text(table(ordered, doubts_of(ordered)), encoding="utf-8")
            if space is not None:
                _describe(folder)
            # of workers that were killed
            if alone():
                for part in {(folder / name).parent for one in names for name in (one.transform, one.record)}:
                    if part.is_dir():
                        remove_partial(part, "*")


def files_of(images: Sequence[str], space: str | None = None) -> list[Names]:
    """Names of the files of each image, in the folder of the cohort; see `write_cohort`."""
    paths = _absolute(images)
    return plain(paths) if space is None else bids(paths, space)


def _check(fixed: Image, fixed_labels: Labels | None, images: Sequence[str], labels: Sequence[str]) -> None:
    if not images:
        raise ValueError("images: expected at least one, got none")
    for number, path in enumerate(images):
        if path in images[:number]:
            raise ValueError(f"images: expected each once, got {path} twice; leave one out")
    if labels and len(labels) != len(images):
        raise ValueError(f"labels: expected one label map per image, {len(images)}, got {len(labels)}")
    if fixed_labels is not None and not fixed_labels.grid.matches(fixed.grid):
        raise ValueError(f"fixed_labels: expected labels on the grid of the fixed image, got {fixed_labels.grid}; resample them")


def _absolute(paths: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Workers elsewhere have another current folder."""
    return tuple(os.path.abspath(path) for path in paths)


def _describe(folder: Path) -> None:
    """What BIDS wants to know of derivatives."""
    about = {"Name": folder.name, "BIDSVersion": "1.9.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "augreg"}]}
    for name, text in (
        ("dataset_description.json", json.dumps(about, indent=1)),
        (".bidsignore", "\n".join(_OTHERS)),
    ):
        with atomic(folder / name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
