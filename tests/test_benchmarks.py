"""The benchmarks' one command: what pages show is what results say, what pages tell to type can be typed, and nothing is lost."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from augreg import Grid, Image
from benchmarks.__main__ import BENCHMARKS, main, parser_of
from benchmarks.experiments import table as experiments
from benchmarks.harness import record
from benchmarks.harness.page import put_into, shown
from benchmarks.harness.places import fresh, kept
from benchmarks.harness.process import Ended, Worker, spent, surroundings
from benchmarks.harness.record import about, continued, read_record, write_record
from benchmarks.harness.timing import in_turns
from benchmarks.registration.rivals import luminance
from benchmarks.registration.run import completed
from benchmarks.registration.table import BEFORE, rendered
from benchmarks.silent import run as silent
from benchmarks.silent import unrelated
from benchmarks.start import run as start

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *(page for part in ("explanations", "how-to", "methods") for page in (ROOT / "docs" / part).glob("*.md")),
    *(ROOT / "benchmarks").rglob("*.md"),
    *(ROOT / "augreg").rglob("*.md"),
]
RESULTS = sorted(set(BENCHMARKS) & {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")})


@pytest.mark.parametrize("name", RESULTS)
def test_a_page_shows_what_the_kept_result_says(name):
    module = importlib.import_module(BENCHMARKS[name].module)
    assert shown(ROOT / BENCHMARKS[name].page, name) == module.rendered(read_record(kept(name)))


def test_the_page_of_the_experiment_shows_what_its_kept_results_say():
    assert shown(experiments.README, experiments.MARK) == experiments.tables()


def test_every_command_of_the_pages_can_be_typed():
    typed = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"python3? -m benchmarks\.\S+", text), page
        for command in re.findall(r"python3? -m benchmarks ([^`\n#]*)", text):
            name, *words = shlex.split(command.split("&&")[0])[1:] or [""]
            assert name in (*BENCHMARKS, "NAME", ""), command
            module = importlib.import_module(BENCHMARKS[name].module) if name in BENCHMARKS else None
            if hasattr(module, "options"):
                parser_of(name, module).parse_args(words)
                typed += 1
    assert typed > 10


def test_every_benchmark_says_what_it_is(capsys):
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(BENCHMARKS)
    assert all(len(line.split()) > 3 for line in lines)


def test_what_is_kept_is_small():
    # what is made otherwise goes to runs/, which git ignores
    files = [path for path in (ROOT / "benchmarks").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [path for path in files if path.suffix in (".html", ".png", ".part")] == []
    assert sum(path.stat().st_size for path in files if path.suffix == ".json") < 1.7000e6
    assert "/runs/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert kept("any").parent == ROOT / "benchmarks" / "results"
    assert fresh("any").is_relative_to(ROOT / "runs")


def test_records_come_back_but_for_digits_and_what_is_nothing(tmp_path):
    rows = [{"a": 1 / 3, "b": None, "c": [1, "x"]}, {"a": float("nan"), "d": True}]
    nested = [{"at": {"5": 1e-9}, "own": [{"x": 1}, {"y": 2}]}, {"none": None}]
    known = {"date": "today", "rows": rows, "nested": nested, "empty": [], "deep": {"rows": [{"q": 123456789.0}]}}
    write_record(tmp_path / "r.json", known)
    found = read_record(tmp_path / "r.json")
    assert found["rows"][0] == {"a": 0.333333, "c": [1, "x"]}
    assert np.isnan(found["rows"][1].pop("a"))
    assert found["rows"][1] == {"d": True}
    assert found["nested"] == nested
    assert found["deep"] == {"rows": [{"q": 123457000.0}]}
    assert (found["date"], found["empty"]) == ("today", [])
    # a row has a line, and names are said once
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert text.count('"a"') == 1
    assert len(text.splitlines()) > 7
    json.loads(text)
    write_record(tmp_path / "again.json", found | {"rows": rows})
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == text


def test_rows_of_another_machine_or_commit_are_not_continued(tmp_path):
    path, new = tmp_path / "r.json", about(2, ("numpy",)) | {"rows": []}
    assert continued(path, new) is new
    write_record(path, new | {"rows": [{"a": 1}]})
    assert continued(path, new)["rows"] == [{"a": 1}]
    for part, other in (("machine", {}), ("threads", 3), ("commit", "another")):
        with pytest.raises(ValueError, match=f"expected rows of {part}"):
            continued(path, new | {part: other})


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_commit_is_dirty_by_code_not_by_results(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    assert record.commit() == ""
    for name in ("code.py", "result.json"):
        (tmp_path / name).write_text("1", encoding="utf-8")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    clean = record.commit()
    assert len(clean) >= 7
    (tmp_path / "result.json").write_text("2", encoding="utf-8")
    assert record.commit() == clean
    (tmp_path / "code.py").write_text("2", encoding="utf-8")
    assert record.commit() == f"{clean}-dirty"


def test_only_text_between_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- end of one -->\nb\n<!-- two -->\nold\n<!-- end of two -->\n", encoding="utf-8")
    put_into(page, "one", "new \\1\n")
    assert shown(page, "one") == "new \\1\n"
    assert shown(page, "two") == "old\n"
    put_into(page, "one", "old\n")
    assert page.read_text(encoding="utf-8").count("old") == 2
    with pytest.raises(ValueError, match="one pair of marks"):
        put_into(page, "three", "")


def test_calls_take_turns_and_the_first_rounds_are_not_told():
    order = []
    calls = {name: lambda repeat, name=name: order.append((name, repeat)) for name in "ab"}
    told = [(name, repeat) for name, repeat, _ in in_turns(calls, 2, warm=1)]
    assert told == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert order == [("a", 0), ("b", 0), *told]


def test_memory_is_that_of_one_process_and_not_of_those_before_it():
    sizes = (300, 1)
    peaks = [
        spent([sys.executable, "-c", f"x = bytearray(b'1') * {size}_000_000"], surroundings(1), ROOT).peak / 1e6 for size in sizes
    ]
    assert peaks[0] > 300 > peaks[1]
    busy = spent([sys.executable, "-c", "import time; time.sleep(0.3); print(5)"], surroundings(1), ROOT)
    assert busy.said == "5\n"
    assert busy.cpu_seconds < busy.seconds
    assert busy.seconds > 0.3
    with pytest.raises(RuntimeError, match="expected status 0, got 3: sorry"):
        spent([sys.executable, "-c", "import sys; print('sorry', file=sys.stderr); sys.exit(3)"], surroundings(1), ROOT)


def test_far_starts_go_on_where_they_were_stopped(tmp_path, monkeypatch, capsys):
    seen = []

    def judged(case, name, setting):
        seen.append((case.key, name))
        if len(seen) == broken:
            raise KeyboardInterrupt
        lost = case.key.endswith("/2")
        return {"case": case.key, "found": not lost, "doubted": name == "mi", "cpu_seconds": 0.001 * len(case.key)}

    def pairs():
        none = np.empty((0, 2))
        for key in ("angle/camera/1", "angle/camera/2", "angle/r16/1"):
            yield start.Far(key, None, None, none, none, 1.0)

    monkeypatch.setattr(start, "judged", judged)
    monkeypatch.setattr(start, "PARTS", {"angle": pairs})
    words = ["run", "start", "--output", str(tmp_path / "r.json"), "--settings", "rotation 15", "mi", "--parts", "angle"]
    # the first pair of every setting is registered once more, before it counts
    broken = 5
    with pytest.raises(KeyboardInterrupt):
        main(words)
    assert [row["setting"] for row in read_record(tmp_path / "r.json")["rows"]] == ["rotation 15"]
    broken, seen[:] = 0, []
    main(words)
    assert ("angle/camera/1", "rotation 15") not in seen
    rows = read_record(tmp_path / "r.json")["rows"]
    assert [(row["images"], row["setting"], row["pairs"], row["silent"], row["doubted"]) for row in rows] == [
        ("angle/camera", "rotation 15", 2, ["2"], []),
        ("angle/camera", "mi", 2, [], ["2"]),
        ("angle/r16", "rotation 15", 1, [], []),
        ("angle/r16", "mi", 1, [], []),
    ]
    shown_lines = capsys.readouterr().out
    assert "| angle | photographs | rotation 15 | 2 | 50.0% | 1 |" in shown_lines
    assert "| angle | photographs | mi | 2 | 50.0% | 0 |" in shown_lines


def test_rows_of_rivals_are_taken_from_older_records_and_say_so():
    def row(case, method, seconds):
        figures = {"seconds": seconds, "cpu_seconds": seconds, "tre_mean": 0.5, "tre_p90": 1.0}
        return {"case": f"affine-512/{case}", "method": method, "repeat": 0, "landmarks": False} | figures

    start = {"tre_mean": 50.0, "tre_p90": 60.0}
    both = {"affine-512/camera": start, "affine-512/coins": start}
    old_rows = [row(case, method, 8.0) for case in ("camera", "coins") for method in ("augreg", "elastix", "greedy")]
    older = about(1, ()) | {"date": "2001-02-03", "versions": {"b": "1"}, "initial": both, "rows": old_rows}
    new_rows = [row(case, "augreg", 2.0) for case in ("camera", "coins")] + [row("camera", "greedy", 4.0)]
    newer = about(1, ()) | {"versions": {"a": "2"}, "initial": {"affine-512/camera": start}, "rows": new_rows}
    found = completed(newer, older)
    assert (found["initial"], found["versions"]) == (both, {"a": "2", "b": "1"})
    # augreg's own are never taken, nor is what is there
    assert [(r["case"][11:], r["method"]) for r in found["rows"][3:]] == [
        ("camera", "elastix"),
        ("coins", "elastix"),
        ("coins", "greedy"),
    ]
    lines = rendered(found).splitlines()
    assert "rows of 2001-02-03 are marked" in lines[0]
    times = {line.split(" | ")[0]: line.split(" | ")[2:4] for line in lines}
    assert times["| augreg"] == ["2", "1"]
    assert times["| elastix (2001-02-03)"] == ["8", "4"]


def test_silent_failures_go_on_where_they_were_stopped(tmp_path, monkeypatch):
    class Case:
        def __init__(self, key):
            self.key = key

    seen = []

    def judged(case):
        seen.append(case.key)
        return {"case": case.key, "wrong": False, "warnings": [], "seconds": 0.0}

    monkeypatch.setattr(silent, "cases", lambda count, *_: [Case(f"camera/x/noise/affine/{number}") for number in range(count)])
    monkeypatch.setattr(silent, "judged", judged)
    for count in ("25", "30"):
        main(["run", "silent", "--output", str(tmp_path / "r.json"), "--count", count])
    assert len(seen) == len(set(seen)) == 30
    assert len(read_record(tmp_path / "r.json")["rows"]) == 30


def test_doubts_are_timed_where_they_are_asked(monkeypatch):
    values = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    image, points = Image(values, Grid(values.shape)), np.full((1, 2), 20.0)
    monkeypatch.setattr(unrelated, "doubts", lambda *_: ["asked here: check the result"])
    row = unrelated.judged(unrelated.Related("known2d/noise/rigid/0", image, image, points, points, 1.0))
    assert row["warnings"] == ["asked here: check the result"]
    assert row["wrong"] is False


WORKER = """
import os, time
from benchmarks.harness.process import answer_lines
def answer(line):
    print("noise")
    if line == "die":
        os.abort()
    time.sleep(60 * (line == "sleep"))
    return {"line": line, "pid": os.getpid()}
answer_lines(answer)
"""


def test_a_worker_that_dies_or_sleeps_is_told_apart_and_started_again():
    worker = Worker([sys.executable, "-c", WORKER], surroundings(1))
    try:
        first, second = worker.ask("one", 30), worker.ask("two", 30)
        assert (first["line"], second["line"]) == ("one", "two")
        assert first["pid"] == second["pid"]
        with pytest.raises(Ended, match="SIGABRT") as died:
            worker.ask("die", 30)
        assert not worker.runs
        assert worker.ask("three", 30)["pid"] != first["pid"]
        begin = time.monotonic()
        with pytest.raises(Ended, match="longer than") as slept:
            worker.ask("sleep", 0.5)
        assert time.monotonic() - begin < 20
        assert [died.value.kind, slept.value.kind] == ["crash", "hang"]
    finally:
        worker.close()


def test_rivals_see_the_grey_that_augreg_sees():
    values = np.random.default_rng(0).uniform(0, 255, (5, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(luminance(values), Image(values, Grid((5, 4))).luminance().values, rtol=1e-6)


def test_another_checkout_is_compared_run_by_run():
    def row(name, repeat, seconds, error):
        measures = {"seconds": seconds, "cpu_seconds": seconds, "tre_mean": error, "tre_p90": error, "ncc": 1.0, "least_det": 1.0}
        return {"case": "affine-512/camera", "method": name, "repeat": repeat, "landmarks": False, **measures}

    # the machine is four times as slow in the second repeat: ratios of pairs do not show it
    rows = [row("augreg", 0, 1.0, 0.5), row("augreg" + BEFORE, 0, 2.0, 0.5)]
    rows += [row("augreg", 1, 4.0, 0.5), row("augreg" + BEFORE, 1, 8.0, 0.7)]
    initial = {"affine-512/camera": {"tre_mean": 9.0, "tre_p90": 9.0, "ncc": 0.1, "least_det": 1.0}}
    text = rendered(about(1, ()) | {"initial": initial, "rows": rows})
    assert "| affine-512: augreg | 0.5 | 0.5 | tre_mean | 0.6 | 0.5 | 1 of 2 |" in text
