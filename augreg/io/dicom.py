"""DICOM files and folders as one volume, or a line that says why they are none and how to choose.

A name may end in a question: `FOLDER?series=UID`, `FILE.dcm?frame=2`, `FOLDER?series=UID&group=1&frame=3`.

    series   of several in a folder, by UID
    group    of frames of several sizes or orientations in one series (a scout beside its volume), from 1
    frame    of several volumes at one place (time points, echoes, diffusion directions, copies), from 1; of a film the frame; of
             a segmentation the segment's number

Doses keep their stored numbers, which are to be multiplied by DoseGridScaling.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from pydicom.dataset import Dataset

from augreg.geometry.grid import FloatArray
from augreg.io.dicom_frames import LABEL_MAP, MARKS, SEGMENTATION, Frame, frames_of, read_tags, text
from augreg.io.dicom_pixels import rescaled, stored_frames, value_type
from augreg.io.dicom_segments import segment_volume
from augreg.io.dicom_stack import Stack, alike, as_sitk, at_one_place, axes_of, place_of, stack_of, straightened
from augreg.io.files import FileWarning

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_OTHER_SUFFIXES = (
    ".nii",
    ".gz",
    ".mha",
    ".mhd",
    ".nrrd",
    ".nhdr",
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".svs",
)
_CHOICES = ("series", "group", "frame")


@dataclass(frozen=True)
class Chosen:
    """A file or folder, and what of it is asked for."""

    path: Path
    series: str = ""
    group: int | None = None
    frame: int | None = None


def chosen_of(path: str | os.PathLike[str]) -> Chosen:
    """The question behind a name, where there is one.

    Raises
    ------
    ValueError : for a question that is not known.
    """
    whole = os.fspath(path)
    name, mark, question = whole.rpartition("?")
    if not mark or os.path.lexists(whole) or not any(question.startswith(f"{choice}=") for choice in _CHOICES):
        return Chosen(Path(whole))
    asked = dict(parse_qsl(question, keep_blank_values=True))
    unknown = [key for key in asked if key not in _CHOICES]
    if unknown:
        raise ValueError(f"{whole}: expected series, group or frame after '?', got {', '.join(unknown)}")
    counted: dict[str, int] = {}
    for key in ("group", "frame"):
        if key in asked:
            if not asked[key].isdecimal() or int(asked[key]) < 1:
                raise ValueError(f"{whole}: expected a number from 1 after {key}=, got {asked[key]!r}")
            counted[key] = int(asked[key])
    return Chosen(Path(name), asked.get("series", ""), counted.get("group"), counted.get("frame"))


def is_dicom(path: Path) -> bool:
    """Whether a path is a folder, has a suffix of DICOM, or none of another format and its mark at byte 128."""
    if path.is_dir() or path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix.lower() in _OTHER_SUFFIXES:
        return False
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_dicom(chosen: Chosen) -> sitk.Image:
    """The volume of a folder or a file: three-dimensional, with its place in the world.

    Raises
    ------
    ValueError : where there is none, or where it is not clear which one is meant.
    """
    found = _frames(chosen)
    series = _series(found, chosen)
    frames = _group(series, chosen)
    first = read_tags(frames[0].path)
    assert first is not None
    if "MOSAIC" in frames[0].marks.get("ImageType", "").split("\\"):
        raise ValueError(
            f"{frames[0].path}: expected slices, got a Siemens mosaic, which holds all slices of a volume in one picture; "
            "convert it first, as with dcm2niix"
        )
    if text(first, "SOPClassUID") in (SEGMENTATION, LABEL_MAP):
        return segment_volume(frames, chosen.frame, str(chosen.path))
    return _volume(_one_volume(frames, chosen), str(chosen.path))


def _frames(chosen: Chosen) -> list[Frame]:
    path = chosen.path
    if not path.is_dir():
        dataset = read_tags(path)
        frames = [] if dataset is None else frames_of(path, dataset)
        if not frames:
            kind = "a file that is not DICOM" if dataset is None else _said(dataset)
            raise ValueError(f"{path}: expected an image, got {kind}")
        return frames
    found: list[Frame] = []
    for file in sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("._")):
        if file.stat().st_size > 132:
            dataset = read_tags(file)
            found += [] if dataset is None else frames_of(file, dataset)
    if not found:
        raise ValueError(f"{path}: expected a folder with a DICOM series, got none in it; give a file instead")
    return found


def _said(dataset: Dataset) -> str:
    name = getattr(getattr(dataset.get("SOPClassUID"), "name", None), "strip", str)()
    return f"a DICOM file without a picture ({ascii(name)[1:60].rstrip(chr(39)) or 'of a kind that is not known'})"


def _series(frames: Sequence[Frame], chosen: Chosen) -> list[Frame]:
    """The frames of one series, in the order of their numbers."""
    known: dict[str, list[Frame]] = {}
    for frame in sorted(frames, key=lambda f: (f.series, f.instance, f.path.name, f.number)):
        known.setdefault(frame.series, []).append(frame)
    if not chosen.series and len(known) > 1:
        listing = ", ".join(f"{uid or 'no UID'} ({len(some)} slices)" for uid, some in known.items())
        raise ValueError(
            f"{chosen.path}: expected one DICOM series, got {len(known)}: {listing}; choose with '{chosen.path}?series=UID'"
        )
    uid = chosen.series or next(iter(known))
    if uid not in known:
        raise ValueError(f"{chosen.path}: expected one of the series {', '.join(known)}, got {uid}")
    return known[uid]


def _group(frames: Sequence[Frame], chosen: Chosen) -> list[Frame]:
    """Frames of one size, spacing and orientation."""
    groups: list[list[Frame]] = []
    for frame in frames:
        fitting = next((group for group in groups if alike(group[0], frame)), None)
        if fitting is None:
            groups.append([frame])
        else:
            fitting.append(frame)
    if chosen.group is None and len(groups) > 1:
        listing = "; ".join(f"{k}: {_described(group)}" for k, group in enumerate(groups[:8], 1))
        raise ValueError(
            f"{chosen.path}: expected slices of one size and orientation, got {len(groups)} groups in one series ({listing}); "
            f"choose with '{_question(chosen, 'group=K')}'"
        )
    if chosen.group is not None and chosen.group > len(groups):
        raise ValueError(f"{chosen.path}: expected a group from 1 to {len(groups)}, got {chosen.group}")
    return groups[(chosen.group or 1) - 1]


def _described(group: Sequence[Frame]) -> str:
    first = group[0]
    normal = axes_of(first)[:, 2]
    plane = ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal)))]
    return (
        f"{len(group)} {plane} of {first.shape[0]} x {first.shape[1]} pixels of {first.spacing[0]:g} x {first.spacing[1]:g} mm, "
        f"as {first.name}"
    )


def _one_volume(frames: Sequence[Frame], chosen: Chosen) -> list[Frame]:
    """Frames at different places: of several at each, those that are asked for."""
    volumes, names = _volumes(frames)
    if chosen.frame is not None:
        if chosen.frame > len(volumes):
            raise ValueError(f"{chosen.path}: expected a frame from 1 to {len(volumes)}, got {chosen.frame}")
        return volumes[chosen.frame - 1]
    if len(volumes) == 1:
        return volumes[0]
    question = _question(chosen, "frame=N")
    if len(frames) == len(volumes):
        film = frames[0].position is None
        what = "frames that say nothing of their places" if film else "images at one place"
        some = "" if film else f" ({', '.join(frame.name for frame in frames[:4])}, ...)"
        raise ValueError(f"{chosen.path}: expected one volume, got {len(frames)} {what}{some}; choose one with '{question}'")
    sizes = [len(volume) for volume in volumes]
    if min(sizes) == max(sizes):
        listing = ", ".join(f"{k}: {name}" for k, name in enumerate(names[:8], 1)) + (", ..." if len(names) > 8 else "")
        raise ValueError(
            f"{chosen.path}: expected one volume, got {len(volumes)} of {sizes[0]} slices at the same places ({listing}); "
            f"choose one with '{question}'"
        )
    double = [[f.name for f in some] for some in _places(frames) if len(some) > 1]
    listing = "; ".join(" and ".join(some) for some in double[:4]) + ("; ..." if len(double) > 4 else "")
    raise ValueError(
        f"{chosen.path}: expected one slice at each place, got several at {len(double)} of {len(_places(frames))} places "
        f"({listing}); remove the copies, or take the first of each with '{_question(chosen, 'frame=1')}'"
    )


def _volumes(frames: Sequence[Frame]) -> tuple[list[list[Frame]], list[str]]:
    """Frames as volumes with at most one frame at a place, and their names: by a mark that tells them apart, or by number."""
    places = _places(frames)
    most = max(map(len, places))
    if most == 1:
        return [list(frames)], [""]
    values = {mark: [frame.marks.get(mark, "") for frame in frames] for mark in MARKS}
    varied = [mark for mark in MARKS if len(set(values[mark])) > 1]
    for marks in [*((mark,) for mark in varied), *((a, b) for a in varied for b in varied if a != b)]:
        keys = [tuple(values[mark][i] for mark in marks) for i in range(len(frames))]
        parts = [[f for f, key in zip(frames, keys, strict=True) if key == wanted] for wanted in sorted(set(keys), key=_natural)]
        if len(parts) == most and all(len(_places(part)) == len(part) == len(places) for part in parts):
            return parts, [" ".join(map("=".join, zip(marks, key, strict=True))) for key in sorted(set(keys), key=_natural)]
    parts = [[some[k] for some in places if k < len(some)] for k in range(most)]
    return parts, [f"from {part[0].name}" for part in parts]


def _natural(key: tuple[str, ...]) -> tuple[tuple[float, str], ...]:
    """Numbers in their order, before words."""
    return tuple((float(part) if part.replace(".", "", 1).lstrip("-").isdecimal() else np.inf, part) for part in key)


def _places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames by their place."""
    ordered = sorted(frames, key=lambda f: tuple(np.round(place_of(f), 2) + 0.0))
    places: list[list[Frame]] = []
    for frame in ordered:
        near = next((some for some in reversed(places[-8:]) if at_one_place(some[0], frame)), None)
        if near is None:
            places.append([frame])
        else:
            near.append(frame)
    rank = {id(frame): k for k, frame in enumerate(frames)}
    places = [sorted(some, key=lambda f: rank[id(f)]) for some in places]
    return sorted(places, key=lambda some: rank[id(some[0])])


def _volume(frames: Sequence[Frame], name: str) -> sitk.Image:
    stack = stack_of(frames, name)
    _tell_guesses(frames, name)
    scales = [frame.scale for frame in stack.frames]
    slices: list[npt.NDArray[Any] | None] = [None] * len(frames)
    kinds: set[np.dtype[Any]] = set()
    order = sorted(range(len(frames)), key=lambda k: (str(stack.frames[k].path), stack.frames[k].number))
    stored: list[tuple[int, npt.NDArray[Any]]] = []
    for path, some in groupby(order, key=lambda k: stack.frames[k].path):
        ks = list(some)
        dataset = read_tags(path, pixels=True)
        assert dataset is not None
        stored += zip(ks, stored_frames(dataset, [stack.frames[k].number for k in ks], str(path)), strict=True)
        kinds.add(value_type(dataset, scales))
    kind = np.result_type(*kinds)
    for k, array in stored:
        slices[k] = rescaled(array, scales[k], kind)
    shapes = {array.shape for array in slices if array is not None}
    if len(shapes) > 1:
        raise ValueError(f"{name}: expected all slices grey or all in colour, got both; sort them into folders of their own")
    values = np.stack([np.swapaxes(array, 0, 1) for array in slices if array is not None], axis=2)
    place = place_of(stack.frames[0])
    if not stack.regular:
        values, stack, place = _straightened(values, stack, name)
    return as_sitk(values, axes_of(stack.frames[0]), place, (*stack.frames[0].spacing, stack.apart))


def _tell_guesses(frames: Sequence[Frame], name: str) -> None:
    """Warn of what the tags of slices with a position leave open; pictures without one are photographs, which have no place."""
    placed = [frame for frame in frames if frame.position is not None]
    guesses = []
    if any(frame.orientation is None for frame in placed):
        guesses.append("no ImageOrientationPatient in its tags; rows along x and columns along y are taken, as ITK does")
    if not all(frame.spaced for frame in placed):
        guesses.append("no PixelSpacing in its tags; 1 mm is taken, as ITK does")
    references = {frame.reference for frame in placed} - {""}
    if len(references) > 1:
        guesses.append(f"slices of {len(references)} frames of reference; their positions are taken as if of one")
    for guess in guesses:
        warnings.warn(f"{name}: {guess}", FileWarning, stacklevel=6)


def _straightened(values: npt.NDArray[Any], stack: Stack, name: str) -> tuple[npt.NDArray[Any], Stack, FloatArray]:
    steps = np.diff(stack.distances)
    if stack.tilt > 0.1:
        why = f"slices tilted by {stack.tilt:.1f} degrees against their stack"
    elif np.ptp(steps) > 0.02 * stack.apart:
        why = f"slices from {steps.min():g} to {steps.max():g} mm apart"
    else:
        why = f"slices shifted by up to {np.abs(stack.shifts).max():.3g} mm within their plane"
    warnings.warn(
        f"{name}: {why}: resampled on a regular grid, linearly, with the least value {values.min():g} outside the slices",
        FileWarning,
        stacklevel=2,
    )
    return straightened(values, stack)


def _question(chosen: Chosen, question: str) -> str:
    asked: Mapping[str, Any] = {"series": chosen.series, "group": chosen.group}
    before = "".join(f"{key}={value}&" for key, value in asked.items() if value)
    return f"{chosen.path}?{before}{question}"
