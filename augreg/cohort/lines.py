"""What is known of one image of a cohort: a line of its table, and its record on disk.

    records/NAME.json    the line; digests of what went in (fixed image, registration, image, label maps) and of the files that
                         came out. It is written last: who finds one that is right finds all the files

Equal inputs give equal files; only the seconds differ.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from augreg.io import atomic

_VERSION = 1


@dataclass(frozen=True)
class Line:
    """One image.

    Parameters
    ----------
    name : of its files, without suffix
    image : path of the image
    seconds : of the registration
    objective : of the last state of the registration, in its own units
    similarity_before, similarity : correlation with the fixed image, not aligned and aligned
    folding : share of voxels where the transform folds
    growth : mean determinant: the volume in the image of what has volume 1 in the fixed one
    dice_before, dice : mean over the labels, where label maps are known
    warnings : what there is to doubt
    failed : why there is no result; empty where there is one
    kept : whether an earlier run has done it
    """

    name: str
    image: str
    seconds: float = math.nan
    objective: float = math.nan
    similarity_before: float = math.nan
    similarity: float = math.nan
    folding: float = math.nan
    growth: float = math.nan
    dice_before: float = math.nan
    dice: float = math.nan
    warnings: tuple[str, ...] = ()
    failed: str = ""
    kept: bool = False


# columns of the table, in order; those of label maps only where there are some
_COLUMNS = ("seconds", "objective", "similarity_before", "similarity", "folding", "growth", "dice_before", "dice")


def table(lines: Sequence[Line], doubts: Sequence[float]) -> str:
    """The lines as CSV, in their order; numbers that are not known are empty."""
    shown = [name for name in _COLUMNS if any(math.isfinite(getattr(line, name)) for line in lines)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "image", "done", "doubt", *shown, "warnings"])
    for line, doubt in zip(lines, doubts, strict=True):
        numbers = [_number(value) for value in (doubt, *(getattr(line, name) for name in shown))]
        said = "; ".join([f"failed: {line.failed}"] if line.failed else line.warnings)
        writer.writerow([line.name, line.image, "no" if line.failed else "yes", *numbers, said])
    return text.getvalue()


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def write_record(path: Path, line: Line, inputs: Mapping[str, Any], files: Sequence[Path]) -> None:
    """The record of an image whose files are there."""
    known = {name: value for name, value in asdict(line).items() if name not in ("kept", "failed", "image")}
    known = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in known.items()}
    text = json.dumps(
        {"version": _VERSION, "inputs": inputs, "files": {file.name: digest_of(file) for file in files}, "line": known},
        indent=1,
        sort_keys=True,
    )
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_record(path: Path, image: str, inputs: Mapping[str, Any], files: Sequence[Path]) -> Line | None:
    """The line of an image, if it is of these inputs and its files are as they were written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != _VERSION or found["inputs"] != dict(inputs):
            return None
        if found["files"] != {file.name: digest_of(file) for file in files}:
            return None
        known = found["line"]
        numbers: dict[str, Any] = {name: math.nan if known[name] is None else float(known[name]) for name in _COLUMNS}
        line = replace(Line(str(known["name"]), image, warnings=tuple(map(str, known["warnings"])), kept=True), **numbers)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return line


def digest_of(file: Path) -> str:
    """Of a file's bytes."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
