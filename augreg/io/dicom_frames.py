"""What DICOM's tags say of every frame: where it lies, what tells it from others of its place, how its numbers are scaled.

A file holds one frame, or many (enhanced CT and MR, segmentations, doses, films). Tags are read as text where the standard has
text: pydicom's own conversion warns of every value that is written in an unusual way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from augreg.geometry.grid import FloatArray

# images of projections have their spacing at the detector (CR, DX, XA, RF)
_PROJECTIONS = tuple(f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("1", "1.1", "1.1.1", "12.1", "12.2"))
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "ImagePlanePixelSpacing")
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
_DIRECTORY = "1.2.840.10008.1.3.10"
# what tells frames of one place apart, in the order in which it is asked
MARKS = (
    "ReferencedSegmentNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "FrameReferenceTime",
    "ImageType",
    "FrameType",
    "ComplexImageComponent",
    "ConvolutionKernel",
    "KVP",
    "ContrastBolusAgent",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
# the same of Siemens and GE, in tags of their own
_PRIVATE_B = ((0x0019, 0x100C), (0x0043, 0x1039))


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Parameters
    ----------
    path, number : file and frame in it, from 0
    series : UID
    instance : number in the series
    shape : columns, rows
    spacing : of columns (along a row) and of rows, mm
    spaced : whether the tags say so; else it is 1
    position : of the first pixel's centre, (3,) mm, if it is known
    orientation : directions along a row and down a column, (2, 3), if they are known
    reference : UID of the frame of reference in which positions are given; empty if it is not known
    thickness : SpacingBetweenSlices or SliceThickness, mm, if one is known
    scale : slope and intercept
    marks : values of `MARKS`, where there are some
    """

    path: Path
    number: int
    series: str
    instance: int
    shape: tuple[int, int]
    spacing: tuple[float, float]
    spaced: bool
    position: FloatArray | None
    orientation: FloatArray | None
    reference: str
    thickness: float | None
    scale: tuple[float, float]
    marks: dict[str, str]

    @property
    def name(self) -> str:
        """As it is named in messages."""
        return self.path.name if self.number == 0 and "frames" not in self.marks else f"{self.path.name} frame {self.number + 1}"


def read_tags(path: Path, *, pixels: bool = False) -> Dataset | None:
    """The data set of a DICOM file; None for what is not one, and for the directory of a disc.

    Raises
    ------
    ValueError : for a DICOM file that is damaged.
    """
    with open(path, "rb") as file:
        head = file.read(132)
    marked = head[128:] == b"DICM"
    # older files begin with their first tag
    if not marked and head[:2] not in (b"\x08\x00", b"\x02\x00"):
        return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=not marked)
        kind = text(dataset, "SOPClassUID") or text(getattr(dataset, "file_meta", Dataset()), "MediaStorageSOPClassUID")
        if kind == _DIRECTORY or (not marked and "Rows" not in dataset):
            return None
    except Exception as error:
        # pydicom raises whatever its parser meets
        if not marked:
            return None
        raise ValueError(f"{path}: expected a whole DICOM file, got one that was cut or changed; copy it again") from error
    return dataset


def text(dataset: Dataset, keyword: str | tuple[int, int]) -> str:
    """A value as text, without its padding; empty where there is none."""
    tag = tag_for_keyword(keyword) if isinstance(keyword, str) else keyword
    if tag is None or tag not in dataset:
        return ""
    item = dataset.get_item(tag)
    if isinstance(item, RawDataElement) and isinstance(item.value, bytes):
        kind = item.VR if item.VR not in (None, "UN") else (dictionary_VR(tag) if isinstance(keyword, str) else "UN")
        if kind in ("DS", "IS", "UI", "CS", "TM", "DT", "DA", "LO", "SH", "AS"):
            return item.value.decode("latin-1").strip(" \0")
    value = dataset[tag].value
    if value is None or isinstance(value, bytes):
        return "" if value is None else value.decode("latin-1").strip(" \0")
    return "\\".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def numbers(dataset: Dataset, keyword: str, count: int | None = None) -> FloatArray | None:
    """Numbers of a tag, or None where they are missing or not so many.

    Raises
    ------
    ValueError : for text that is no number, NaN and infinity.
    """
    found = text(dataset, keyword)
    if not found:
        return None
    try:
        values = np.array([float(part) for part in found.split("\\")])
    except ValueError:
        raise ValueError(f"expected numbers in the tag {keyword}, got {found[:40]!r}") from None
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite numbers in the tag {keyword}, got {found[:40]!r}")
    return values if count is None or len(values) == count else None


def frames_of(path: Path, dataset: Dataset) -> list[Frame]:
    """The frames of a file; none, if it holds no picture.

    Raises
    ------
    ValueError : for tags that contradict themselves.
    """
    size = [numbers(dataset, name, 1) for name in ("Columns", "Rows")]
    if size[0] is None or size[1] is None:
        return []
    try:
        return list(_frames(path, dataset, (int(size[0][0]), int(size[1][0]))))
    except (ValueError, IndexError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}; the file is damaged, or was made by faulty software") from error


def _frames(path: Path, dataset: Dataset, shape: tuple[int, int]) -> Iterator[Frame]:
    if min(shape) < 1:
        raise ValueError(f"expected a picture, got {shape[0]} x {shape[1]} pixels")
    count = int(_first(numbers(dataset, "NumberOfFrames"), 1))
    if not 1 <= count <= 10**6:
        raise ValueError(f"expected a number of frames, got {count}")
    shared = _item(dataset, "SharedFunctionalGroupsSequence")
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if each and len(each) < count:
        raise ValueError(f"expected a description of each of {count} frames, got {len(each)}")
    spacings = _SPACINGS[1::-1] if text(dataset, "SOPClassUID") in _PROJECTIONS else _SPACINGS
    offsets = _offsets(dataset, count)
    for number in range(count):
        # of what a frame says itself, what all share, and what the file says, the nearest counts
        places = [place for place in (each[number] if each else None, shared, dataset) if place is not None]
        plane, measures, whole = ("PlanePositionSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence")
        position = _found(places, plane, "ImagePositionPatient", 3)
        orientation = _found(places, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
        detector = _item(dataset, "DetectorInformationSequence")
        if detector is not None:
            position = numbers(detector, "ImagePositionPatient", 3) if position is None else position
            orientation = numbers(detector, "ImageOrientationPatient", 6) if orientation is None else orientation
        rows = None if orientation is None else _checked(orientation.reshape(2, 3))
        if offsets is not None and position is not None:
            axes = np.eye(3)[:2] if rows is None else rows
            position = position + offsets[number] * np.cross(axes[0], axes[1])
        elif count > 1 and not each:
            position = None  # frames of a film: the file's position says nothing of each
        said = next((s for name in spacings if (s := _found(places, measures, name, 2)) is not None), None)
        steps = np.ones(2) if said is None else said
        if steps.min() <= 0:
            raise ValueError(f"expected pixels of a size, got a spacing of {steps[0]:g} x {steps[1]:g} mm")
        apart = [_found(places, measures, name, 1) for name in ("SpacingBetweenSlices", "SliceThickness")]
        slope = _first(_found(places, whole, "RescaleSlope", 1), 1.0)
        marks = dict(_marks(places))
        if count > 1:
            marks["frames"] = str(count)
        yield Frame(
            path=path,
            number=number,
            series=text(dataset, "SeriesInstanceUID"),
            instance=int(_first(numbers(dataset, "InstanceNumber", 1), 0)),
            shape=shape,
            spacing=(float(steps[1]), float(steps[0])),
            spaced=said is not None,
            position=position,
            orientation=rows,
            reference=text(dataset, "FrameOfReferenceUID"),
            thickness=next((abs(float(a[0])) for a in apart if a is not None and a[0] != 0), None),
            # a slope of 0 is a blank that was filled in
            scale=(slope or 1.0, _first(_found(places, whole, "RescaleIntercept", 1), 0.0)),
            marks=marks,
        )


def _marks(places: Sequence[Dataset]) -> Iterator[tuple[str, str]]:
    """Values of `MARKS`: of the file itself, and one or two levels down in what is said of a frame."""
    for level, place in enumerate(places):
        inner = [place]
        if level < len(places) - 1:
            inner = [item for element in place if element.VR == "SQ" for item in element.value]
            inner += [item for one in inner for element in one if element.VR == "SQ" for item in element.value]
        for one in inner:
            for name in MARKS:
                if (value := text(one, name)) and (level < len(places) - 1 or name != "ReferencedSegmentNumber"):
                    yield name, value
            for tag in _PRIVATE_B:
                if value := text(one, tag):
                    yield "DiffusionBValue", value.split("\\")[0]


def _offsets(dataset: Dataset, count: int) -> FloatArray | None:
    """Of frames along the normal, mm: those of a dose, and of a reconstruction in nuclear medicine."""
    if (given := numbers(dataset, "GridFrameOffsetVector")) is not None:
        if len(given) < count:
            raise ValueError(f"expected an offset for each of {count} frames, got {len(given)}")
        # relative to the first, or positions in the patient's axes
        return given - given[0]
    slices, apart = numbers(dataset, "SliceVector"), numbers(dataset, "SpacingBetweenSlices", 1)
    if slices is not None and apart is not None and len(slices) == count and len(set(slices)) == count:
        return (slices - slices[0]) * float(apart[0])
    return None


def _checked(rows: FloatArray) -> FloatArray:
    if np.abs(rows @ rows.T - np.eye(2)).max() > 1e-2:
        raise ValueError(f"expected two perpendicular unit vectors in the tag ImageOrientationPatient, got {rows.tolist()}")
    return rows


def _item(dataset: Dataset, keyword: str) -> Dataset | None:
    sequence: Any = dataset.get(keyword)
    return sequence[0] if sequence else None


def _found(places: Sequence[Dataset], sequence: str, keyword: str, count: int) -> FloatArray | None:
    for place in places:
        for one in (_item(place, sequence), place):
            if one is not None and (values := numbers(one, keyword, count)) is not None:
                return values
    return None


def _first(values: FloatArray | None, default: float) -> float:
    return default if values is None else float(values[0])
