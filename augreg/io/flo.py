"""Optical flow in Middlebury's `.flo` format, as of the Flying Chairs.

Little-endian: the number 202021.25 (float32), width and height (int32), then (u, v) in pixels (float32) row by row. It maps
from the first image to the second, image_2(x + u(x)) = image_1(x): the first is the fixed one.
"""

from __future__ import annotations

import os

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.transforms import DisplacementField
from augreg.io.files import existing_file

_MAGIC = 202021.25
_HEADER = 12
# larger numbers mean an unknown flow
_UNKNOWN = 1e9


def read_flo(path: str | os.PathLike[str]) -> DisplacementField:
    """The displacement on the first image's pixels, u (width, height, 2), spacing 1.

    Raises
    ------
    FileNotFoundError : if there is no file. ValueError : if it is something else, truncated, or has pixels without a flow.
    """
    found = existing_file(path)
    content = found.read_bytes()
    if len(content) < _HEADER or np.frombuffer(content, "<f4", 1)[0] != _MAGIC:
        raise ValueError(f"{found}: expected optical flow (.flo), got something else")
    width, height = (int(n) for n in np.frombuffer(content, "<i4", 2, offset=4))
    size = _HEADER + 8 * width * height
    if min(width, height) < 1 or len(content) != size:
        raise ValueError(f"{found}: expected {size} bytes for {width} x {height} pixels, got {len(content)}; is it truncated?")
    flow = np.frombuffer(content, "<f4", offset=_HEADER).reshape(height, width, 2)
    if not (np.abs(flow) < _UNKNOWN).all():
        raise ValueError(f"{found}: expected a flow for every pixel, got some without")
    return DisplacementField(flow.transpose(1, 0, 2).astype(np.float64), Grid((width, height)))
