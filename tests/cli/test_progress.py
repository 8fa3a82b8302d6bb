"""What a bar shows on a terminal of the usual width."""

import io
import os
import re
import subprocess
import sys

import pytest
import rich.progress  # noqa: F401  # before what it imports is replaced
from rich.console import Console

from augreg.cli import progress
from solvers.compiling import tell

pty = pytest.importorskip("pty", reason="pseudo-terminals are not on this system")

CODE = """
import time
from augreg.cli.progress import bar
with bar("demo", 1.0) as update:
    for step in range(1, 9):
        update(step / 10, f"step {step}00 of 1000, error 0.31 of 0.79")
        time.sleep(0.15)
"""


def shown(columns: int) -> list[str]:
    """Lines of a terminal so many characters wide."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", CODE], stderr=slave, env=environment) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                part = os.read(master, 1 << 16)
            except OSError:  # how Linux tells the end
                break
            if not part:
                break
            said += part
        assert process.wait() == 0
    os.close(master)
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()))


@pytest.mark.parametrize("columns", [80, 60])
def test_the_time_that_is_left_is_readable_beside_a_note(columns):
    lines = [line for line in shown(columns) if "80%" in line]
    assert lines
    assert re.search(r" 80% 0:00:0\d (0:00:0\d|-:--:--) step 8", lines[-1])
    assert all(len(line) <= columns for line in lines)
    if columns == 80:
        assert "step 800 of 1000, error 0.31 of 0.79" in lines[-1]


def test_nothing_is_said_where_nobody_looks():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)
    assert done.stderr == b""


def test_a_terminal_is_told_once_of_what_is_compiled(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda file: Console(file=shown, force_terminal=True, width=200))
    monkeypatch.setattr(progress, "_told", [])
    for _ in range(2):
        with progress.bar("register", 1.0):
            tell("one_kernel")
            tell("another_kernel")
    assert shown.getvalue().count("augreg compile") == 1
    shown.truncate(0)
    monkeypatch.setattr(progress, "_told", [])
    progress.compiling_is_expected()
    with progress.bar("compile", 1.0):
        tell("one_kernel")
    assert "augreg compile" not in shown.getvalue()


def test_what_is_no_terminal_is_told_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_told", [])
    with progress.bar("register", 1.0):
        tell("one_kernel")
    assert capsys.readouterr() == ("", "")
