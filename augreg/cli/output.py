"""What commands print, and the files they write: checked before the work, and all or none of them."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from augreg import io

TRANSFORMS = (*io.TRANSFORM_SUFFIXES, *io.FIELD_SUFFIXES)
PAGES = (".html", ".htm")


def check_output(path: str, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that could not be written, before the work.

    Raises
    ------
    FileNotFoundError : without its folder. ValueError : for another suffix, or a folder of that name.
    """
    target = Path(path)
    if not target.name.lower().endswith(suffixes):
        raise ValueError(f"{path}: expected a file name ending in {' '.join(suffixes)}, got {target.name!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: expected an existing folder to write to, got none at {target.parent}; create it first")
    if target.is_dir():
        raise ValueError(f"{path}: expected a file name to write to, got a folder")


def check_distinct(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that would replace each other or an input.

    Raises
    ------
    ValueError : if there are some.
    """
    seen = {Path(path).resolve(): name for name, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        place = Path(path).resolve()
        if place in seen:
            raise ValueError(f"{name}: expected a file of its own, got {path}, which is also {seen[place]}; choose another name")
        seen[place] = name


@contextmanager
def all_or_none(*paths: str | None) -> Iterator[list[Path]]:
    """Temporary paths, one for each path that is given; all are renamed when the block succeeds, none when it fails."""
    given = [path for path in paths if path is not None]
    with ExitStack() as stack:
        temporaries = [stack.enter_context(io.atomic(path)) for path in given]
        try:
            yield temporaries
        except ValueError as error:
            message = str(error)
            for temporary, path in zip(temporaries, given, strict=True):
                message = message.replace(str(temporary), path)
            raise ValueError(message) from error


def report(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """The result as one JSON object, or as text; NaN becomes null."""
    if as_json:
        print(json.dumps(_plain(result), allow_nan=False))
    else:
        print(text)


def say(text: str) -> None:
    """A message to the user, on stderr."""
    print(text, file=sys.stderr)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Python's warnings as messages, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", io.FileWarning)
        warnings.showwarning = lambda message, *_, **__: say(f"augreg: warning: {message}")
        yield


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
