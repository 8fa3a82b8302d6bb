"""The loop of `docs/tracking.md` runs as it stands, and finds the motion."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tracking.md"


def test_the_loop_of_the_page(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    *bars, errors = run.stdout.splitlines()
    # no frame has a warning, and each stands in the histogram but the first
    assert all(re.fullmatch(r" *[\d.]+ to +[\d.]+ ms #*", line) for line in bars)
    assert sum(line.count("#") for line in bars) == 59
    median, largest = map(float, re.findall(r"\d\.\d+", errors))
    assert 0 < median <= 0.02
    assert largest <= 0.1
