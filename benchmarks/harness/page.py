"""Text of pages: Markdown tables, a line about the machine, and marks between which text is replaced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.record import Record


def heading(record: Record, *said: str) -> str:
    """What a record was measured on, one line; what is said stands before the date."""
    on, versions, threads = record["machine"], record.get("versions", {}), record.get("threads")
    parts = [f"{on['processor']}, {on['cores']} cores, {on['system']}, Python {on['python']}"]
    parts += [f"{threads} thread" + "s" * (threads != 1)] if threads else []
    parts += [", ".join(f"{name} {version}" for name, version in versions.items())] if versions else []
    parts += [*said, f"commit {record['commit']}"] if "commit" in record else said
    return "; ".join([*parts, record["date"]]) + "."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right, the first column to the left."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def shown(page: Path, mark: str) -> str:
    """What stands between `<!-- mark -->` and `<!-- end of mark -->`.

    Raises
    ------
    ValueError : if the page has not exactly one pair of these marks.
    """
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    found = re.findall(f"(?s){re.escape(begin)}(.*?){re.escape(end)}", page.read_text(encoding="utf-8"))
    if len(found) != 1:
        raise ValueError(f"{page}: expected one pair of marks {begin!r}, {end!r}, got {len(found)}")
    return found[0]


def put_into(page: Path, mark: str, text: str) -> None:
    """Replace it."""
    whole = f"<!-- {mark} -->\n{{}}<!-- end of {mark} -->\n"
    before, after = whole.format(shown(page, mark)), whole.format(text)
    page.write_text(page.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
