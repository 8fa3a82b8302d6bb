"""The examples of CONTRIBUTING, run as they stand."""

import functools
import re
from pathlib import Path
from typing import Any

TEXT = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@functools.cache
def shown() -> dict[str, Any]:
    """The names that the blocks define, one block after the other."""
    names: dict[str, Any] = {"__name__": "contributing"}
    for code in BLOCKS:
        exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    return names
