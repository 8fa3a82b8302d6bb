"""Tables of pairs: a CSV file with a pair of images a line, and what is known of them.

    fixed,moving[,fixed_labels,moving_labels][,fixed_points,moving_points]

Paths are relative to the table; cells of what is not known of a pair are empty. All that can be wrong with a line is told with
its number, before anything else is done.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# its readers are loaded where a file is read: machines that only train need none
from augreg import io
from augreg.registration.pair import Pair

_IMAGES = ("fixed", "moving")
_KNOWN = ("labels", "points")
COLUMNS = (*_IMAGES, *(f"{side}_{what}" for what in _KNOWN for side in _IMAGES))
_HEADER = "fixed,moving[,fixed_labels,moving_labels][,fixed_points,moving_points]"
_SHOWN = 5


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Parameters
    ----------
    where : file and number of the line, for messages
    paths : file of every column that is not empty
    """

    where: str
    paths: dict[str, Path]

    @property
    def labelled(self) -> bool:
        """Whether there are label maps."""
        return "fixed_labels" in self.paths

    def read(self) -> Pair:
        """The pair, checked.

        Raises
        ------
        ValueError : with the number of the line, for images of different dimension, label maps without a number in common,
            landmarks outside, and files that are not what they should be.
        """
        with told_of(self.where):
            known = {f"{side}_labels": io.read_labels(self.paths[f"{side}_labels"]) for side in _IMAGES if self.labelled}
            points = {name: io.read_points(path) for name, path in self.paths.items() if name.endswith("points")}
            images = {side: io.read_image(self.paths[side]) for side in _IMAGES}
            pair = Pair(**images, **known, **points)  # type: ignore[arg-type]  # names decide the type
            if pair.fixed_labels is not None and pair.moving_labels is not None:
                _check_numbers(pair.fixed_labels.unique(), pair.moving_labels.unique())
            return pair


def read_table(path: str | os.PathLike[str]) -> list[Line]:
    """The lines of a table; their files exist.

    Raises
    ------
    FileNotFoundError : without the table. ValueError : for another header, no lines, lines of another length, files that are
        missing, and labels or landmarks of one image of a pair alone.
    """
    table = Path(path)
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"{table}: expected a table of pairs, got nothing; check the path") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: expected a table of pairs as text (CSV), got something else") from error
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        _check_header(table, header)
        lines = [
            _line(table, rows.line_num, header, [cell.strip() for cell in row])
            for row in rows
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise ValueError(f"{table}, line {rows.line_num}: expected cells between commas, got {error}") from error
    if not lines:
        raise ValueError(f"{table}: expected pairs below the header, a line each, got none")
    return lines


def is_table(path: str | None) -> bool:
    """Whether a name is that of a table."""
    return path is not None and path.lower().endswith(".csv")


@contextmanager
def told_of(where: str) -> Iterator[None]:
    """Faults of the input begin with where they are."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _check_header(table: Path, header: list[str]) -> None:
    strangers = [name for name in header if name not in COLUMNS]
    if strangers or len(set(header)) < len(header) or not set(_IMAGES) <= set(header):
        raise ValueError(f"{table}: expected the header {_HEADER}, got {','.join(header) or 'none'}")
    for what in _KNOWN:
        if (f"fixed_{what}" in header) != (f"moving_{what}" in header):
            raise ValueError(f"{table}: expected both columns fixed_{what},moving_{what} or none, got one of them")


def _line(table: Path, number: int, header: list[str], cells: list[str]) -> Line:
    where = f"{table}, line {number}"
    if len(cells) != len(header):
        raise ValueError(f"{where}: expected {len(header)} cells as in the header, got {len(cells)}")
    paths = {name: table.parent / cell for name, cell in zip(header, cells, strict=True) if cell}
    if lacking := [side for side in _IMAGES if side not in paths]:
        raise ValueError(f"{where}: expected a file in column {lacking[0]}, got an empty cell")
    for what in _KNOWN:
        sides = [side for side in _IMAGES if f"{side}_{what}" in paths]
        if len(sides) == 1:
            other = next(side for side in _IMAGES if side not in sides)
            raise ValueError(
                f"{where}: expected {what} of both images or of none, got none of {other}; name them or leave both out"
            )
    for name, path in paths.items():
        # frames of a file are chosen behind a question mark
        if not Path(str(path).partition("?")[0]).exists():
            raise ValueError(f"{where}: expected a file in column {name}, got nothing at {path}; paths are relative to the table")
    return Line(where, paths)


def _check_numbers(fixed: tuple[int, ...], moving: tuple[int, ...]) -> None:
    if not set(fixed) & set(moving):
        first, second = (", ".join(map(str, numbers[:_SHOWN])) or "none" for numbers in (fixed, moving))
        raise ValueError(f"labels: expected a number that both label maps have, got {first} (fixed) and {second} (moving)")
