"""The command line of a registration, its process and its answer; standard library alone, as Slicer's Python has no augreg."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KINDS = ("rigid", "similarity", "affine", "bspline")
TRANSFORM, WARPED = "phi.h5", "moved.nrrd"
# of Slicer's environment: another Python must not find them
_OWN = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "QT_PLUGIN_PATH")


def command(
    executable: str,
    folder: Path,
    fixed: Path,
    moving: Path,
    kind: str = "bspline",
    points: tuple[Path, Path] | None = None,
    threads: int | None = None,
) -> list[str]:
    """The arguments of a registration that writes its transform and the moved volume to a folder.

    Raises
    ------
    ValueError : for an unknown kind of transform.
    """
    if kind not in KINDS:
        raise ValueError(f"transform: expected one of {', '.join(KINDS)}, got {kind!r}")
    words = [executable, "register", str(fixed), str(moving), "-o", str(folder / TRANSFORM), "--warped", str(folder / WARPED)]
    words += ["--transform", kind, "--json"]
    if points is not None:
        words += ["--fixed-points", str(points[0]), "--moving-points", str(points[1])]
    return words if threads is None else [*words, "--threads", str(threads)]


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what belongs to Slicer's own Python and libraries."""
    return {name: value for name, value in environment.items() if name not in _OWN}


@contextmanager
def started(words: list[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The process; it does not outlive the block.

    Raises
    ------
    RuntimeError : where there is no such command.
    """
    try:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=clean(os.environ if environment is None else environment),
        )
    except OSError as error:
        raise RuntimeError(f"{words[0]}: expected the command of augreg, it cannot be started ({error}); set its path") from error
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def run(words: list[str], told: Callable[[str], None], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a registration; its messages go line by line to `told`, its answer comes back.

    Raises
    ------
    RuntimeError : with augreg's own line, where it fails.
    """
    lines: list[str] = []
    with started(words, environment) as process:
        answer: list[str] = []
        # both pipes are read at once, or the process would wait for room in one of them
        reader = threading.Thread(target=lambda: answer.append(process.stdout.read()))  # type: ignore[union-attr]
        reader.start()
        for line in process.stderr or ():
            if line.strip():
                lines.append(line.strip())
                told(lines[-1])
        reader.join()
        status = process.wait()
    if status != 0:
        raise RuntimeError(lines[-1] if lines else f"augreg ended with status {status} and said nothing")
    found: dict[str, Any] = json.loads(answer[0])
    return found


def summary(answer: Mapping[str, Any]) -> str:
    """What to show of an answer: time, folding, warnings."""
    parts = [f"{answer['seconds']:.1f} s"]
    if answer.get("folding") is not None:
        parts.append(f"folding {answer['folding']:.2%}")
    return "\n".join([", ".join(parts), *answer.get("warnings", [])])
