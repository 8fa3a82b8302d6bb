"""Points and outlines on images, as GeoJSON: what QuPath exports and imports, in pixels.

A feature has a geometry (Point, MultiPoint, LineString, MultiLineString, Polygon, MultiPolygon) and properties such as a name
and a class. Pixels are counted from the corner of the first one there, and from its centre here: half a pixel lies between.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.io.files import atomic, existing_file

# lists around a position
_DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_CORNER = 0.5
# as of files of points
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Outlines:
    """The positions of all geometries of a GeoJSON file, and the file that they stand in.

    Parameters
    ----------
    points : all positions in the order of the file, (N, 2) pixels from the centre of the first one
    content : what the file says; its positions are not looked at again
    """

    points: FloatArray
    content: Any

    def mapped(self, transform: Callable[[FloatArray], FloatArray]) -> Outlines:
        """The same features at other places: names, classes and the order of points stay."""
        return Outlines(np.asarray(transform(self.points), dtype=float), self.content)


def read_outlines(path: str | os.PathLike[str]) -> Outlines:
    """Points and outlines of a GeoJSON file.

    Raises
    ------
    FileNotFoundError. ValueError : for other files, geometries without positions, numbers that are not finite.
    """
    found = existing_file(path)
    if found.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{found}: expected a file of outlines, got one of {found.stat().st_size} bytes")
    try:
        content = json.loads(found.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{found}: expected GeoJSON, got something else ({error})") from error
    positions: list[list[float]] = []

    def kept(position: list[float]) -> list[float]:
        positions.append(position)
        return position

    try:
        _each(content, kept)
    except ValueError as error:
        raise ValueError(f"{found}: {error}") from error
    if not positions:
        raise ValueError(f"{found}: expected points or outlines, got none")
    return Outlines(np.array([position[:2] for position in positions], dtype=float) - _CORNER, content)


def write_outlines(outlines: Outlines, path: str | os.PathLike[str]) -> None:
    """Write the features with their positions as they are now, atomically.

    Raises
    ------
    ValueError : for positions that are not finite.
    """
    if not np.isfinite(outlines.points).all():
        raise ValueError("outlines: expected finite positions, got NaN or infinity")
    places = iter((outlines.points + _CORNER).tolist())
    text = json.dumps(_each(outlines.content, lambda position: [*next(places), *position[2:]]))
    with atomic(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def _each(content: Any, change: Callable[[list[float]], list[float]]) -> Any:
    """The same content with every position changed."""
    if isinstance(content, list):  # QuPath also writes bare lists of features
        return [_each(part, change) for part in content]
    if not isinstance(content, dict) or "type" not in content:
        raise ValueError(f"expected GeoJSON features, got {str(content)[:40]!r}")
    kind = content["type"]
    if kind in ("FeatureCollection", "GeometryCollection"):
        name = "features" if kind == "FeatureCollection" else "geometries"
        return {**content, name: _each(_list(content.get(name), kind), change)}
    if kind == "Feature":
        # QuPath's cells have a second outline
        parts = {name: content.get(name) for name in ("geometry", "nucleusGeometry")}
        return {**content, **{name: _each(part, change) for name, part in parts.items() if part is not None}}
    if kind not in _DEPTHS:
        raise ValueError(f"expected geometries of {', '.join(_DEPTHS)}, got {str(kind)[:20]!r}")
    return {**content, "coordinates": _nested(content.get("coordinates"), _DEPTHS[kind], kind, change)}


def _nested(values: Any, depth: int, kind: str, change: Callable[[list[float]], list[float]]) -> Any:
    if depth:
        return [_nested(part, depth - 1, kind, change) for part in _list(values, kind)]
    numbers = isinstance(values, list) and len(values) >= 2 and all(type(v) in (int, float) for v in values)
    if not numbers or not np.isfinite(values[:2]).all():
        raise ValueError(f"expected two finite numbers as a position of a {kind}, got {str(values)[:40]!r}")
    return change(values)


def _list(values: Any, kind: str) -> list[Any]:
    if not isinstance(values, list):
        raise ValueError(f"expected a list in a {kind}, got {str(values)[:40]!r}")
    return values
