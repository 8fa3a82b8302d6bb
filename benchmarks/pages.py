"""What every record of figures says of itself, and how its text gets into a page: it replaces what stands between two marks."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine


def about(threads: int, packages: Sequence[str]) -> dict[str, Any]:
    """Machine, threads, versions of the packages that are there, and the date."""
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"machine": machine(), "threads": threads, "versions": versions, "date": time.strftime("%Y-%m-%d")}


def heading(record: dict[str, Any]) -> str:
    """The same as one line of a page."""
    on = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"{on['processor']}, {on['cores']} cores, {on['system']}, Python {on['python']}; {record['threads']} threads; "
        f"{versions}; {record['date']}."
    )


def write_record(path: Path, record: dict[str, Any]) -> None:
    """As JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def put_into(page: Path, mark: str, text: str) -> None:
    """Replace what stands between `<!-- mark -->` and `<!-- end of mark -->`.

    Raises
    ------
    ValueError : if the page has not exactly one pair of these marks.
    """
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    found, count = re.subn(f"(?s)(?<={re.escape(begin)}).*(?={re.escape(end)})", lambda _: text, page.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{page}: expected one pair of marks {begin!r}, {end!r}, got {count}")
    page.write_text(found, encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right, the first column to the left."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
