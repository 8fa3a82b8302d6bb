"""What is asked of a slide behind its name: `FILE?level=2&channel=DAPI&pixel=0.0005`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

_KEYS = ("level", "channel", "pixel")


@dataclass(frozen=True)
class View:
    """A file, and how it is looked at.

    Parameters
    ----------
    path : the file
    level : of the pyramid, 0 the finest; None for the one that registration needs
    channel : number from 0, or name; None for all
    pixel : side of a pixel of the finest level, mm; None for what the header says
    """

    path: Path
    level: int | None = None
    channel: str | None = None
    pixel: float | None = None


def view_of(path: str | os.PathLike[str]) -> View:
    """The file and the question behind its name; other questions stay in the name, for others to answer.

    Raises
    ------
    ValueError : for values that cannot be meant.
    """
    whole = os.fspath(path)
    name, mark, question = whole.rpartition("?")
    asked = dict(parse_qsl(question, keep_blank_values=True)) if mark else {}
    if not asked or not set(asked) & set(_KEYS) or os.path.lexists(whole):
        return View(Path(whole))
    if unknown := sorted(set(asked) - set(_KEYS)):
        raise ValueError(f"{whole}: expected {', '.join(_KEYS)} after '?', got {', '.join(unknown)}")
    level, pixel = asked.get("level"), asked.get("pixel")
    if level is not None and not level.isdecimal():
        raise ValueError(f"{whole}: expected a number from 0 (the finest) after level=, got {level!r}")
    if asked.get("channel") == "":
        raise ValueError(f"{whole}: expected a number from 0, or a name, after channel=, got nothing")
    return View(Path(name), None if level is None else int(level), asked.get("channel"), _mm(whole, pixel))


def _mm(whole: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        side = float(text)
    except ValueError:
        side = math.nan
    if not 0 < side < math.inf:
        raise ValueError(f"{whole}: expected the side of a pixel in mm after pixel=, got {text!r}")
    return side
