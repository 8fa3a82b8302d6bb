"""Pixels in files beside their header, as MetaImage and NRRD name them: one file, a list, or a pattern."""

from __future__ import annotations

from pathlib import Path

# of files that a pattern may name
_MOST = 1 << 16


def parts_of(path: Path, where: str, start: int) -> list[tuple[Path, int]]:
    """The files that `where` names, in order, each with the byte at which it begins; a LIST follows in the header at `start`.

    Raises
    ------
    ValueError : if one is not there, or none is named.
    """
    if where.upper().startswith("LIST"):
        with open(path, "rb") as file:
            file.seek(start)
            names = [line.strip() for line in file.read(1 << 24).decode("utf-8", "surrogateescape").splitlines()]
        names = [name for name in names if name]
    elif "%" in where:
        pattern, *numbers = where.split()
        first, last, step = (int(n) for n in [*numbers, "1"][:3])
        if step < 1 or not 0 <= last - first < _MOST:
            raise ValueError(f"{path}: expected a pattern with first, last and step, got {where!r}")
        names = [pattern % n for n in range(first, last + 1, step)]
    else:
        names = [where]
    if not names:
        raise ValueError(f"{path}: expected a list of files with its pixels, got none")
    return [(beside(path, name), 0) for name in names]


def beside(path: Path, name: str) -> Path:
    """A file named in a header.

    Raises
    ------
    ValueError : if it is not there, or is no file.
    """
    found = path.parent / name
    if not found.is_file():
        raise ValueError(f"{path}: expected its pixels in {found}, got no such file; copy both")
    return found
