"""What commands print, and checks of outputs before the work starts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def check_output(path: str, suffixes: tuple[str, ...] = ()) -> None:
    """Refuse an output that could not be written, before the work.

    Raises
    ------
    FileNotFoundError : without its folder. ValueError : for another suffix.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: expected an existing folder to write to, got none at {target.parent}; create it first")
    if target.is_dir():
        raise ValueError(f"{path}: expected a file name to write to, got a folder")
    if suffixes and not target.name.lower().endswith(suffixes):
        raise ValueError(f"{path}: expected a file name ending in {' '.join(suffixes)}, got {target.name!r}")


def report(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """The result as one JSON object, or as text; NaN becomes null."""
    if as_json:
        print(json.dumps(_plain(result), allow_nan=False))
    else:
        print(text)


def say(text: str) -> None:
    """A message to the user, on stderr."""
    print(text, file=sys.stderr)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
