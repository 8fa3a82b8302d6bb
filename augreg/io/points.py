"""Landmarks: CSV with the header `x,y[,z]`, world mm (for PNG, JPEG, BMP, TIFF: pixels), and what 3D Slicer writes.

    .csv          comma, semicolon or tab; with semicolons and tabs decimal commas too
    .fcsv         RAS or LPS as its header says
    .mrk.json     RAS or LPS as each list of points says
    .geojson      points and corners of outlines of QuPath, in pixels: `augreg.io.shapes`

All become LPS. napari's tables have the columns axis-0, axis-1[, axis-2], indices with z or y first: of which image they are
cannot be known, so they are refused.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.io.files import atomic, existing_file
from augreg.io.shapes import read_outlines

# of LPS coordinates: 3D Slicer's numbers for the systems came before their names
_SIGNS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0), "1": (1.0, 1.0, 1.0), "0": (-1.0, -1.0, 1.0)}
# files of landmarks are small: what is larger is something else
_MOST_BYTES = 1 << 28


def read_points(path: str | os.PathLike[str]) -> FloatArray:
    """Landmarks, (N, D) mm, LPS. Other columns than x, y, z are ignored, upper case is accepted.

    Raises
    ------
    FileNotFoundError, or ValueError for a missing header, rows that are not numbers (named by their line), or no rows.
    """
    found = existing_file(path)
    if found.name.lower().endswith(".geojson"):
        return read_outlines(found).points
    if found.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{found}: expected a file of landmarks, got one of {found.stat().st_size} bytes")
    name = found.name.lower()
    try:
        text = found.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError("expected text, got something else")
        if name.endswith(".json"):
            points = _markups(text)
        elif name.endswith(".fcsv"):
            points = _fiducials(text)
        else:
            points = _table(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{found}: expected a CSV file of landmarks, got something else") from error
    except ValueError as error:
        raise ValueError(f"{found}: {error}") from error
    if len(points) == 0:
        raise ValueError(f"{found}: expected finite landmarks, got none")
    return points


def _table(text: str) -> FloatArray:
    lines = text.splitlines()
    first = next((k for k, line in enumerate(lines) if line.strip()), 0)
    header_line = lines[first] if lines else ""
    mark = max(",;\t", key=header_line.count)
    rows = _rows(lines[first:], mark)
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    columns = [header.index(name) for name in ("x", "y", "z") if name in header]
    if any(re.fullmatch(r"axis-\d", cell) for cell in header):
        raise ValueError(
            "expected a CSV header x,y or x,y,z in world mm, got napari's axis-0, axis-1, ..., indices in the order z, y, x; "
            "turn them round and map them by the image: grid.points_at(indices[:, ::-1])"
        )
    if "x" not in header or "y" not in header:
        raise ValueError(f"expected a CSV header x,y or x,y,z, got {header_line.strip()[:60]!r}")
    if len(set(header) & {"x", "y", "z"}) != sum(cell in ("x", "y", "z") for cell in header):
        raise ValueError(f"expected each of x, y, z once in the header, got {header_line.strip()[:60]!r}")
    cells = [row[c] for row in rows[1:] for c in columns if c < len(row)]
    if mark != "," and any("," in cell for cell in cells) and any("." in cell for cell in cells):
        raise ValueError("expected decimal points or decimal commas, got both: which marks thousands? use one of them")
    number: Callable[[str], float] = _decimal if mark == "," else lambda cell: _decimal(cell.replace(",", "."))
    points = []
    for k, row in enumerate(rows[1:], first + 2):
        if any(cell.strip() for cell in row):
            points.append(_point(k, [row[c] if c < len(row) else "" for c in columns], number))
            if any(cell.strip() for cell in row[len(header) :]):
                raise ValueError(f"expected {len(header)} cells in line {k}, as in the header, got {len(row)}; see to its marks")
    return np.array(points).reshape(len(points), len(columns))


def _decimal(cell: str) -> float:
    """What Python takes for a number but files do not mean as one (1_000) is none."""
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _rows(lines: Sequence[str], mark: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=mark, strict=True))
    except csv.Error as error:
        raise ValueError(f"expected a CSV file of landmarks, got something else ({error})") from error


def _point(line: int, cells: Sequence[str], number: Callable[[str], float]) -> list[float]:
    try:
        point = [number(cell) for cell in cells]
    except ValueError:
        told = ", ".join(cells)[:40]
        raise ValueError(f"expected {len(cells)} numbers in line {line}, got {told!r}; complete or remove it") from None
    if not np.isfinite(point).all():
        raise ValueError(f"expected finite landmarks, got NaN or infinity in line {line}")
    return point


def _fiducials(text: str) -> FloatArray:
    """Comments name the coordinate system and the columns."""
    system, columns, points = "", ["id", "x", "y", "z"], []
    for k, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            key, _, value = line.lstrip("# ").partition("=")
            if key.strip() == "CoordinateSystem":
                system = value.strip().upper()
            elif key.strip() == "columns":
                columns = [cell.strip().lower() for cell in value.split(",")]
        elif line.strip():
            if not {"x", "y", "z"} <= set(columns):
                raise ValueError(f"expected columns x, y and z, got {','.join(columns)[:60]!r}")
            row = _rows([line], ",")[0]
            points.append(_point(k, [row[i] if i < len(row) else "" for i in map(columns.index, "xyz")], _decimal))
    return np.array(points).reshape(-1, 3) * _signs(system)


def _markups(text: str) -> FloatArray:
    """Lists of control points with their coordinate systems."""
    try:
        content: Any = json.loads(text)
        lists = content["markups"]
        points = [np.empty((0, 3))]
        for markups in lists:
            signs = _signs(str(markups.get("coordinateSystem", "")).upper())
            unit = markups.get("coordinateUnits", "mm")
            if "mm" not in (unit, *(unit if isinstance(unit, list) else ())):
                raise ValueError(f"expected coordinates in mm, got coordinateUnits {str(unit)[:20]!r}; convert them first")
            for k, point in enumerate(markups["controlPoints"], 1):
                if point.get("positionStatus", "defined") == "defined":
                    points.append(_position(k, point["position"])[None] * signs)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"expected a file of markups of 3D Slicer, got text that is not JSON ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("expected a file of markups of 3D Slicer with control points, got other JSON") from error
    return np.concatenate(points)


def _position(k: int, values: Any) -> FloatArray:
    if not (isinstance(values, list) and len(values) == 3 and all(type(v) in (int, float) for v in values)):
        raise ValueError(f"expected three numbers as position of control point {k}, got {str(values)[:40]!r}")
    position = np.array(values, dtype=float)
    if not np.isfinite(position).all():
        raise ValueError(f"expected finite landmarks, got NaN or infinity in control point {k}")
    return position


def _signs(system: str) -> FloatArray:
    if system not in _SIGNS:
        raise ValueError(
            f"expected the coordinate system LPS or RAS in the file, got {system[:20]!r}; add it, or write a CSV file"
        )
    return np.array(_SIGNS[system])


def write_points(points: npt.ArrayLike, path: str | os.PathLike[str]) -> None:
    """Write landmarks (N, D) mm, D = 2 or 3, atomically.

    Raises
    ------
    ValueError : for another shape.
    """
    array = np.asarray(points, dtype=float)
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise ValueError(f"points: expected shape (N, 2) or (N, 3), got {array.shape}")
    with atomic(path) as temporary, open(Path(temporary), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow("xyz"[: array.shape[1]])
        # repr keeps all digits: what is read is what was written
        writer.writerows([repr(float(v)) for v in row] for row in array)
