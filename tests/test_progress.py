"""What a bar shows on a terminal of the usual width."""

import io
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import rich.progress  # noqa: F401  # before what it imports is replaced
from rich.console import Console

from augreg import progress
from solvers.compiling import tell

pty = pytest.importorskip("pty", reason="pseudo-terminals are not on this system")

CODE = """
import time
from augreg.progress import bar
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


def test_a_short_call_says_nothing_where_there_is_no_terminal():
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


def test_a_log_gets_a_line_now_and_then_with_the_last_state_and_what_is_left(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    with progress.bar("train", 40) as update:
        update(10, "loss 0.5")
        time.sleep(0.18)
        update(20, "loss 0.25")
        time.sleep(0.12)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 6
    assert lines[0].startswith("augreg: train: 25 %, 0:00:00 since the start, about 0:00:00 left; loss 0.5")
    assert "50 %" in lines[-1]
    assert lines[-1].endswith("; loss 0.25")
    # and none after the end
    time.sleep(0.12)
    assert capsys.readouterr().err == ""


def test_a_log_is_told_of_calls_that_report_nothing_and_of_those_that_fail(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    before = threading.active_count()

    def failing():
        with progress.bar("fit", None):
            time.sleep(0.12)
            raise RuntimeError("no fit")

    with pytest.raises(RuntimeError, match="no fit"):
        failing()
    assert capsys.readouterr().err.splitlines()[0] == "augreg: fit: 0:00:00 since the start"
    assert threading.active_count() == before


def test_of_a_team_one_speaks(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with progress.bar("train", 4, shown=False) as update:
        update(1, "loss 0.5")
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_what_is_left_is_said_at_the_pace_so_far():
    assert progress.line("train", 500, 2000, 1220, "") == "augreg: train: 25 %, 0:20:20 since the start, about 1:01:00 left"
    assert progress.line("train", 0, 2000, 12, "loss 3") == "augreg: train: 0:00:12 since the start; loss 3"
    # more than was thought
    assert progress.line("pairs", 12, 10, 60, "") == "augreg: pairs: 100 %, 0:01:00 since the start, about 0:00:00 left"


def test_states_pass_unchanged_and_are_counted(monkeypatch):
    seen = []

    @contextmanager
    def counted(text, total):
        yield lambda done, note: seen.append((text, total, done, note))

    monkeypatch.setattr(progress, "bar", counted)
    assert list(progress.over("ab", "letters", 2, note=str.upper)) == ["a", "b"]
    assert seen == [("letters", 2, 1, "A"), ("letters", 2, 2, "B")]
    assert list(progress.over(iter([3.0]), "numbers")) == [3.0]
    assert seen[-1] == ("numbers", None, 1, "")


def test_lines_say_as_long_as_kernels_are_compiled(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    monkeypatch.setattr(progress, "_told", [])
    with progress.bar("warp", 1.0) as update:
        update(0.5, "half")
        tell("kernel")
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert lines[0].endswith("; compiling, first use on this machine")
    assert all(line.endswith("; half") for line in lines[1:])
    # who compiles ahead knows it
    progress.compiling_is_expected()
    with progress.bar("compile", 1.0):
        tell("kernel")
        time.sleep(0.2)
    assert "first use" not in capsys.readouterr().err
