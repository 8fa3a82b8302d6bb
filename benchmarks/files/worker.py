"""A process that reads files: on standard input a line `READER PATH` for each, on standard output a line of JSON about it.

It may take 4 GB of address space; whoever started it ends it where it does not answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import warnings
from pathlib import Path
from typing import Any

from benchmarks.harness.process import answer_lines

MEMORY = 4 << 30
# errors that commands answer with exit status 2
_CLEAN = (ValueError, TypeError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def read(reader: str, path: Path) -> Any:
    """What a reader makes of a file."""
    if reader == "image":
        from augreg import read_image

        return read_image(path)
    if reader == "transform":
        from augreg import read_transform

        return read_transform(path)
    if reader == "points":
        from augreg import read_points

        return read_points(path)
    if reader == "model":
        from augreg import read_model

        return read_model(path)
    if reader == "network":
        from augreg.networks import read_network

        file = read_network(path)
        return [file.spacing, file.network.description, {name: t.numpy() for name, t in file.network.state_dict().items()}]
    from augreg.synthesis import read_shards

    return [batch.parts for batch in read_shards(path)]


def digest(value: Any) -> str:
    """Of all numbers in what was read."""
    found = hashlib.sha256()
    _update(found, value)
    return found.hexdigest()


def _update(found: Any, value: Any) -> None:
    if hasattr(value, "tobytes") and hasattr(value, "shape"):
        found.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif hasattr(value, "numpy"):
        _update(found, value.numpy())
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _update(found, getattr(value, field.name))
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            found.update(str(key).encode())
            _update(found, value[key])
    elif isinstance(value, list | tuple):
        for part in value:
            _update(found, part)
    else:
        found.update(repr(value).encode())


def answer(reader: str, path: Path) -> dict[str, Any]:
    """The outcome for one file: `refused`, `read` with a digest, or `traceback`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            out = {"outcome": "read", "digest": digest(read(reader, path))}
        except _CLEAN as error:
            text = str(error)
            clean = "\n" not in text and bool(text) and type(error).__name__ != "LinAlgError"
            out = {"outcome": "refused" if clean else "traceback", "said": f"{type(error).__name__}: {text}"[:300]}
        except Exception as error:
            out = {"outcome": "traceback", "said": f"{type(error).__name__}: {error}"[:300]}
    return {**out, "warned": str(caught[0].message)[:200] if caught else ""}


def main() -> None:
    """Answer until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def answered(line: str) -> dict[str, Any]:
        reader, _, path = line.partition(" ")
        return answer(reader, Path(path))

    answer_lines(answered)


if __name__ == "__main__":
    main()
