"""Records of figures: what they were measured on, and how they are kept.

A record is a dictionary. It is written as JSON with numbers of six digits; dictionaries in a list, such as its `rows`, have a
line each, and if there are none in them their values stand below the names, `{"columns": [...], "rows": [[...], ...]}`. There
null stands for what a row has not: a value that is None is gone when it is read.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.places import ROOT

Row = dict[str, Any]
Record = dict[str, Any]
_DIGITS = 6
_TABLE = {"columns", "rows"}


class Unusable(ValueError):  # noqa: N818
    """What a command was given cannot be used."""


def about(threads: int, packages: Sequence[str]) -> Record:
    """Machine, threads, versions of the packages that are there, date, commit."""
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found = {"machine": machine(), "threads": threads, "versions": versions, "date": time.strftime("%Y-%m-%d")}
    return found | ({"commit": known} if (known := commit()) else {})


def machine() -> Row:
    """What figures are measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """Of this checkout, with `-dirty` where code has been changed since; nothing where it is none, or git is not there."""
    git = ["git", "-C", str(ROOT)]
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return ""
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, encoding="utf-8", check=True).stdout
    # a result that is kept while it grows changes the checkout, and not the code
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "*.py"], check=False).returncode
    return found.strip() + "-dirty" * bool(changed)


def continued(path: Path, record: Record) -> Record:
    """The new record of no rows, or the rows that are there already.

    Raises
    ------
    Unusable : if these are of another machine, commit or number of threads.
    """
    if not path.exists():
        return record
    known = read_record(path)
    for part in ("machine", "commit", "threads"):
        if known.get(part) != record.get(part):
            found = f"expected rows of {part} {record.get(part)}, got {known.get(part)}; give another name, or remove it"
            raise Unusable(f"--output: {path}: {found}")
    return known


def write_record(path: Path, record: Record) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(_text(_rounded(record)) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_record(path: Path) -> Record:
    """What `write_record` has written, but for the digits."""
    return json.loads(path.read_text(encoding="utf-8"), object_hook=_with_names)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    if isinstance(value, dict) and any(map(_has_rows, value.values())):
        return "{" + ",\n".join(f"{json.dumps(name)}: {_text(part)}" for name, part in value.items()) + "}"
    if not _has_rows(value):
        return json.dumps(value, separators=(",", ":"))
    if any(isinstance(part, dict) or _has_rows(part) for row in value for part in row.values()):
        return "[\n" + ",\n".join(map(_text, value)) + "]"
    names = list(dict.fromkeys(name for row in value for name in row))
    rows = ",\n".join(_text([row.get(name) for name in names]) for row in value)
    return f'{{"columns": {_text(names)}, "rows": [\n{rows}]}}'


def _has_rows(value: Any) -> bool:
    """Whether it is a list of dictionaries, or a dictionary that has one somewhere."""
    if isinstance(value, dict):
        return any(map(_has_rows, value.values()))
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _with_names(value: dict[str, Any]) -> Any:
    if value.keys() != _TABLE:
        return value
    return [{name: part for name, part in zip(value["columns"], row, strict=True) if part is not None} for row in value["rows"]]
