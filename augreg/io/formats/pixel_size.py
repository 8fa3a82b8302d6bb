"""How large a pixel of a TIFF is, mm, where its header says so in a way that can be trusted.

OME-XML has `PhysicalSizeX` and its unit, Aperio's description `MPP` (micrometres). Resolution tags are most often those of a
printer (72 dots an inch): they count in pyramids only, in centimetres or inches, and where a pixel is at most 0.05 mm.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

# lengths in mm; OME's own default is the micrometre
_UNITS = {"nm": 1e-6, "µm": 1e-3, "μm": 1e-3, "um": 1e-3, "micron": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3, "in": 25.4, "Å": 1e-7}
_TAGS = {2: 25.4, 3: 10.0}
_OF_A_SLIDE = 0.05
# what a pixel can be, mm, and how unequal its sides
_LEAST, _MOST, _UNEQUAL = 1e-8, 1e2, 10.0


def noted_size(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> tuple[float, float] | None:
    """Sides of a pixel along x and y, mm; None where nothing that can be trusted is noted.

    Raises
    ------
    ValueError : for sizes that no pixel has.
    """
    page = series.keyframe
    if file.ome_metadata:
        found = _of_ome(file.ome_metadata, page.imagewidth, page.imagelength)
    elif page.description.startswith("Aperio"):
        mpp = re.search(r"\|\s*MPP\s*=\s*([^|\s]+)", page.description)
        found = None if mpp is None else (_number(mpp[1]) * 1e-3,) * 2
    elif len(series.levels) > 1:
        found = _of_tags(page)
    else:
        found = None
    return None if found is None else checked_size(found, path)


def checked_size(size: tuple[float, float], path: Path | str) -> tuple[float, float]:
    """The sides of a pixel, mm, if they can be some.

    Raises
    ------
    ValueError : if they cannot.
    """
    x, y = size
    possible = all(math.isfinite(s) and _LEAST <= s <= _MOST for s in size)
    if not possible or max(size) > _UNEQUAL * min(size):
        raise ValueError(
            f"{path}: expected a pixel size, got {x:g} x {y:g} mm, which no pixel has; say what it is as '{path}?pixel=0.0005' "
            "(mm), or '?pixel=1' to count in pixels"
        )
    return size


def _of_ome(text: str, width: int, height: int) -> tuple[float, float] | None:
    """Of the image of that size in OME-XML, else of its first one."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    every = [node.attrib for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"]
    same = [one for one in every if (one.get("SizeX"), one.get("SizeY")) == (str(width), str(height))]
    for noted in (same or every)[:1]:
        if "PhysicalSizeX" in noted and "PhysicalSizeY" in noted:
            units = [_UNITS.get(noted.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
            if units[0] is not None and units[1] is not None:
                return _number(noted["PhysicalSizeX"]) * units[0], _number(noted["PhysicalSizeY"]) * units[1]
    return None


def channel_names(text: str | None) -> tuple[str, ...]:
    """Names of the channels of the first image of OME-XML, as far as there are some."""
    try:
        root = ElementTree.fromstring(text or "<none/>")
    except ElementTree.ParseError:
        return ()
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), root)
    return tuple(node.get("Name", "") for node in pixels if node.tag.rpartition("}")[2] == "Channel")


def _of_tags(page: Any) -> tuple[float, float] | None:
    unit = _TAGS.get(int(page.tags.valueof("ResolutionUnit", 1)))
    tags = [page.tags.valueof(f"{axis}Resolution") for axis in "XY"]
    if unit is None or not all(isinstance(tag, tuple) and len(tag) == 2 and tag[0] and tag[1] for tag in tags):
        return None
    x, y = (unit * tag[1] / tag[0] for tag in tags)
    return (x, y) if max(x, y) <= _OF_A_SLIDE else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
