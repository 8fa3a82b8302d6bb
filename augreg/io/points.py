"""Landmarks as CSV with the header `x,y[,z]`: world mm (for PNG, JPEG, BMP, TIFF: pixels)."""

from __future__ import annotations

import csv
import os

import numpy as np
import numpy.typing as npt

from augreg.grid import FloatArray
from augreg.io.files import atomic, existing_file


def read_points(path: str | os.PathLike[str]) -> FloatArray:
    """Landmarks, (N, D) mm. Other columns than x, y, z are ignored, upper case is accepted.

    Raises
    ------
    FileNotFoundError, or ValueError for a missing header, rows that are not numbers, or no rows.
    """
    found = existing_file(path)
    try:
        with open(found, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{found}: expected a CSV file of landmarks, got something else") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    columns = [header.index(name) for name in ("x", "y", "z") if name in header]
    if "x" not in header or "y" not in header:
        raise ValueError(f"{found}: expected a CSV header x,y or x,y,z, got {','.join(header)[:60]!r}")
    try:
        points = np.array([[float(row[c]) for c in columns] for row in rows[1:]])
    except (ValueError, IndexError) as error:
        raise ValueError(f"{found}: expected {len(columns)} numbers in every row, got a row without ({error})") from error
    if len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(f"{found}: expected finite landmarks, got {'none' if len(points) == 0 else 'NaN or infinity'}")
    return points


def write_points(points: npt.ArrayLike, path: str | os.PathLike[str]) -> None:
    """Write landmarks (N, D) mm, D = 2 or 3, atomically.

    Raises
    ------
    ValueError : for another shape.
    """
    array = np.asarray(points, dtype=float)
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise ValueError(f"points: expected shape (N, 2) or (N, 3), got {array.shape}")
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow("xyz"[: array.shape[1]])
        # repr keeps all digits: what is read is what was written
        writer.writerows([repr(float(v)) for v in row] for row in array)
