"""What commands print, and the files they write: checked before the work, and all or none of them."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import augreg as ar

PAGES = (".html", ".htm")

# what the command under way has warned of, and where its result goes: None is sys.stdout
_told: list[str] = []
_stdout: TextIO | None = None


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
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"{path}: expected a folder to write to, got {target.parent}, where nothing may be written")


def check_transform(path: str) -> None:
    """`check_output` of a transform."""
    check_output(path, (*ar.io.TRANSFORM_SUFFIXES, *ar.io.FIELD_SUFFIXES))


def check_image(path: str) -> None:
    """`check_output` of an image."""
    check_output(path, ar.io.IMAGE_SUFFIXES)


def rehearse(image: ar.Image, path: str) -> None:
    """Refuse a file format that cannot hold such pixels, before the work: some of them are written elsewhere.

    Raises
    ------
    ValueError : as `write_image`.
    """
    import tempfile

    few = ar.Grid(tuple(min(n, 2) for n in image.grid.shape), image.grid.spacing, image.grid.origin, image.grid.direction)
    part = ar.Image(image.values[tuple(slice(n) for n in few.shape)], few)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / Path(path).name
        try:
            ar.write_image(part, trial)
        except ValueError as error:
            raise ValueError(str(error).replace(str(trial), path)) from error


def check_distinct(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that would replace each other or an input.

    Raises
    ------
    ValueError : if there are some.
    """
    seen = {os.path.realpath(path): name for name, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in seen:
            raise ValueError(f"{name}: expected a file of its own, got {path}, which is also {seen[place]}; choose another name")
        seen[place] = name


@contextmanager
def all_or_none(*paths: str | None) -> Iterator[list[Path]]:
    """Temporary paths, one for each path that is given; all are renamed when the block succeeds, none when it fails."""
    given = [path for path in paths if path is not None]
    with ExitStack() as stack:
        temporaries = [stack.enter_context(ar.io.atomic(path)) for path in given]
        try:
            yield temporaries
        except ValueError as error:
            message = str(error)
            for temporary, path in zip(temporaries, given, strict=True):
                message = message.replace(str(temporary), path)
            raise ValueError(message) from error
        except OSError as error:
            names = dict(zip(map(str, temporaries), given, strict=True))
            error.filename = names.get(str(error.filename), error.filename)
            raise


def report(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """The result as one JSON object, or as text; NaN becomes null. What was warned of is in `warnings`, once."""
    if as_json:
        import json

        told = dict.fromkeys((*_told, *result.get("warnings", ())))
        warned = {"warnings": list(told)} if told or "warnings" in result else {}
        text = json.dumps(_plain({**result, **warned}), allow_nan=False)
    print(text, file=_stdout, flush=True)


def say(text: str) -> None:
    """A message to the user, on stderr."""
    print(text, file=sys.stderr, flush=True)


def say_warning(text: str) -> None:
    """A warning to the user, once; those of a command are in its JSON too."""
    line = " ".join(text.split())
    if line not in _told:
        _told.append(line)
        say(f"augreg: warning: {line}")


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Python's warnings as messages, without the place in the code."""
    _told.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("always", ar.io.FileWarning)
        warnings.showwarning = lambda message, *_, **__: say_warning(str(message))
        yield


@contextmanager
def results_alone() -> Iterator[None]:
    """Only `report` reaches standard output: what libraries print there goes to standard error.

    For the process of a command, whose streams are its own; where somebody has replaced `sys.stdout`, nothing is changed.
    """
    global _stdout
    try:
        mine = sys.stdout is not None and sys.stdout.fileno() == 1
    except (OSError, ValueError):
        mine = False
    if not mine:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    _stdout = open(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: SIM115
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            os.dup2(kept, 1)
            stream, _stdout = _stdout, None
            stream.close()


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
