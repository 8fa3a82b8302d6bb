"""Images to try things with: hearts that come with augreg, or the user's own.

* `hearts()`: 30 patients of the Sunnybrook Cardiac Data (Radau et al. 2009, The MIDAS Journal; public domain, CC0), of each a
  mid-ventricular short-axis MR slice at end-diastole and one at end-systole; `augreg/data/hearts/README.md` has their source;
* `own_images(paths)`: the user's, with label maps that lie beside them (`_labels` or `_lv`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.io import FileWarning, read_image, read_labels

_HEARTS = Path(__file__).parent / "data" / "hearts"
_LABEL_SUFFIXES = ("_labels", "_lv")
_PHASES = ("ed", "es")
_IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".jpg", ".tif", ".tiff", ".bmp")
_FEWEST = 4


@dataclass(frozen=True, eq=False)
class SampleData:
    """Images of several subjects; what belongs to an image stands at its number.

    Parameters
    ----------
    images : images of all subjects, subject after subject
    labels : one label map per image; None where there are none
    names : file names of the images, without suffix
    subjects : name of the person in each image
    phases : "ed" (end-diastole) or "es" (end-systole) of each image; None where images are not phases of a motion
    source : one line that says where they come from
    """

    images: tuple[Image, ...]
    labels: tuple[Labels, ...] | None
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    phases: tuple[str, ...] | None
    source: str


def hearts(side: int | None = None) -> SampleData:
    """30 patients at end-diastole and end-systole, in turns: 60 slices of 256 x 256 pixels, and label 1 in the left ventricle.

    Their pixel spacing is lost (about 1.4 mm) and counts as 1.

    Parameters
    ----------
    side : cut to squares of so many pixels, the ventricle at end-diastole in the middle: both images of a patient are shifted
        alike, by whole pixels, and 0 stands where a square reaches beyond its image. None leaves them whole.
    """
    names = tuple(sorted(path.name.removesuffix("_lv.png") for path in _HEARTS.glob("*_lv.png")))
    subjects, _, phases = zip(*(name.rpartition("_") for name in names), strict=True)
    images = [read_image(_HEARTS / f"{name}.png") for name in names]
    labels = [read_labels(_HEARTS / f"{name}_lv.png") for name in names]
    if side is not None:
        first = {subject: labels[number] for number, subject in reversed([*enumerate(subjects)])}
        corners = [_middle(first[subject]) - side // 2 for subject in subjects]
        images = [
            Image(_cut(image.values, corner, side), Grid((side, side))) for image, corner in zip(images, corners, strict=True)
        ]
        labels = [
            Labels(_cut(part.values, corner, side), Grid((side, side))) for part, corner in zip(labels, corners, strict=True)
        ]
    return SampleData(
        images=tuple(images),
        labels=tuple(labels),
        names=names,
        subjects=subjects,
        phases=phases,
        source=f"Sunnybrook Cardiac Data, {len(set(subjects))} patients at end-diastole and end-systole",
    )


def _middle(labels: Labels) -> npt.NDArray[np.intp]:
    """The pixel in the middle of what is labelled."""
    return np.rint(np.argwhere(labels.values > 0).mean(axis=0)).astype(np.intp)


def _cut(values: npt.NDArray[Any], corner: npt.NDArray[np.intp], side: int) -> npt.NDArray[Any]:
    """So many pixels from a corner on; 0 beyond the image."""
    return np.pad(values, side)[tuple(slice(c + side, c + 2 * side) for c in corner)]


def sample_data(images: Sequence[str] | None = None) -> SampleData:
    """The images given, else those of the folder that the environment variable AUGREG_DATA names, else `hearts`.

    Raises
    ------
    FileNotFoundError, ValueError : for images that cannot be used.
    """
    folder = os.environ.get("AUGREG_DATA")
    if images:
        return own_images([Path(path) for path in images], "The images given")
    if folder:
        found = sorted(path for path in Path(folder).glob("*") if path.name.lower().endswith(_IMAGE_SUFFIXES))
        if not found:
            raise FileNotFoundError(f"AUGREG_DATA: expected a folder with images, got none in {folder}")
        return own_images(found, f"The folder {Path(folder).name} named by AUGREG_DATA")
    return hearts()


def own_images(paths: Sequence[Path], source: str) -> SampleData:
    """Images, and label maps beside them.

    Of images of several kinds (`SUBJECT_KIND`), only the first kind is taken; but end-diastole and end-systole (`_ed`, `_es`),
    two phases of one motion, stay together.

    Raises
    ------
    ValueError : for images of fewer than four subjects.
    """
    images = sorted((path for path in paths if not _stem(path).endswith(_LABEL_SUFFIXES)), key=_stem)
    kinds = sorted({_kind(path) for path in images})
    subjects = {_subject(path) for path in images}
    several = 1 < len(kinds) < len(images) and len(subjects) < len(images)
    motion = several and kinds == list(_PHASES)
    if several and not motion:
        images = [path for path in images if _kind(path) == kinds[0]]
        source += f", the images ending in _{kinds[0]}"
    names = tuple(_stem(path) for path in images)
    of = tuple(_subject(path) for path in images) if several else names
    if len(set(of)) < _FEWEST:
        raise ValueError(f"images: expected those of at least {_FEWEST} subjects, got {len(set(of))}")
    maps = [_label_map(path) for path in images]
    known = [path for path in maps if path is not None]
    if 0 < len(known) < len(images):
        lacking = [path.name for path, found in zip(images, maps, strict=True) if found is None]
        warnings.warn(
            f"label maps: expected one beside every image or none, {len(lacking)} of {len(images)} images have none, such as "
            f"{lacking[0]}; no label map is used",
            FileWarning,
            stacklevel=2,
        )
    labels = tuple(read_labels(path) for path in known) if len(known) == len(images) else None
    phases = tuple(_kind(path) for path in images) if motion else None
    return SampleData(tuple(read_image(path) for path in images), labels, names, of, phases, source)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in _IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _subject(path: Path) -> str:
    return _stem(path).rpartition("_")[0]


def _kind(path: Path) -> str:
    return _stem(path).rpartition("_")[2]


def _label_map(path: Path) -> Path | None:
    stem = _stem(path)
    candidates = [path.with_name(f"{stem}{kind}{path.name[len(stem) :]}") for kind in _LABEL_SUFFIXES]
    return next((candidate for candidate in candidates if candidate.is_file()), None)
