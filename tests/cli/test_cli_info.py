"""`augreg info` says what a report of a fault needs."""

import importlib.metadata
import json
import os
import sys

import augreg as ar
from augreg.cli import main


def test_versions_threads_and_the_folder_of_kernels_are_told(capsys):
    assert main(["info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["augreg"] == ar.__version__
    assert told["threads"] == ar.get_threads()
    assert told["devices"][0] == "cpu"
    assert told["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert told["extras"]["pytest"] == importlib.metadata.version("pytest")
    assert not set(told["extras"]) & set(told["packages"])
    if "NUMBA_DISABLE_JIT" not in os.environ:
        assert told["kernels"]["folder"]
        assert told["kernels"]["writable"] is True


def test_a_person_reads_lines(capsys):
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["augreg", ar.__version__]
    assert any(line.startswith("packages") and "numpy" in line for line in lines)


def test_an_installation_without_torch_is_told_of(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "augreg.training.machine", None)
    assert main(["info"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("devices")]
    assert line.split() == ["devices", "unknown"]
