"""The first minute: commands in new processes with empty caches, CPU seconds on one core.

Every command runs twice: once with a cache of compiled kernels of its own, empty, once with what the first run left there. CPU
seconds are user and system time of the process and its children, imports, reading and writing included; all on one core with one
thread. With `--before`, the package of another checkout does the same, command by command in turns. The second table says what
a cold command consists of: the interpreter's imports, numba's own start-up (the first trivial kernel), and each kernel. Commands
that the output has are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import augreg as ar
from augreg.datasets import hearts
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import ROOT
from benchmarks.harness.process import finished, surroundings
from benchmarks.harness.record import Record, Row, about, continued, write_record

# CPU seconds that a command should need at most, cold
_GOALS = {
    "register --transform affine": 10,
    "register": 20,
    "register, 3-D": 25,
    "warp": 4,
    "sam fit": 15,
    "synthesize -n 8": 15,
    "train --steps 5": 20,
    "compile": 60,
}
# runs a command and prints, on the last line of stderr, the seconds of every compilation without those inside it
_WATCHED = """
import json, sys, time
import numba
from numba.core import event
from augreg.cli import main
stack, seconds = [], {}
class Watch(event.Listener):
    def on_start(self, e):
        stack.append([e.data["dispatcher"].py_func.__qualname__, time.process_time(), 0.0])
    def on_end(self, e):
        name, begin, inner = stack.pop()
        taken = time.process_time() - begin
        seconds[name] = seconds.get(name, 0.0) + taken - inner
        if stack:
            stack[-1][2] += taken
event.register("numba:compile", Watch())
begin = time.process_time()
numba.njit(lambda x: x + 1)(1)
first = time.process_time() - begin
status = main(sys.argv[1:])
seconds["<lambda>"] = first
print(json.dumps(seconds), file=sys.stderr)
sys.exit(status)
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, whose package is measured too")
    parser.add_argument("--only", nargs="+", default=list(_GOALS), choices=list(_GOALS))


def run(options: argparse.Namespace) -> None:
    """Run every command twice, those that the output lacks."""
    record = continued(options.output, about(1, ("numba", "numpy", "torch", "SimpleITK")) | {"rows": []})
    done = {row["command"] for row in record["rows"]}
    trees = {"now": ROOT, **({"before": options.before.resolve()} if options.before else {})}
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(Path(folder))
        for name in (name for name in options.only if name not in done):
            row: Row = {"command": name, "goal": _GOALS[name]}
            for when, tree in trees.items():
                if name == "compile" and when == "before":
                    continue
                with tempfile.TemporaryDirectory() as cache:
                    row[when] = [_run(commands[name], tree, cache)[1] for _ in range(2)]
                print(f"{name:30} {when:7} cold {row[when][0]:6.1f} s, warm {row[when][1]:6.1f} s", flush=True)
            with tempfile.TemporaryDirectory() as cache:
                row["kernels"] = _kernels(commands[name], cache)
            record["rows"].append(row)
            write_record(options.output, record)


def _commands(folder: Path) -> dict[str, list[str]]:
    """The commands' arguments, and their inputs in a folder."""
    data = hearts()
    ends = [number for number, phase in enumerate(data.phases) if phase == "ed"][:12]
    images, labels = [], []
    for number in ends:
        images.append(str(folder / f"{data.names[number]}.nii.gz"))
        labels.append(str(folder / f"{data.names[number]}_lv.nii.gz"))
        ar.write_image(data.images[number], images[-1])
        ar.write_image(ar.Image(data.labels[number].values, data.labels[number].grid), labels[-1])
    volumes = [str(folder / f"volume-{number}.nii.gz") for number in range(2)]
    for number, path in enumerate(volumes):
        ar.write_image(_volume(2.0 * number), path)
    field, model = str(folder / "field.h5"), str(folder / "model.npz")
    _run(["register", *images[:2], "-o", field], ROOT, str(folder / "cache"))
    _run(["sam", "fit", *images, "--labels", *labels, "-o", model], ROOT, str(folder / "cache"))
    out = str(folder / "out")
    return {
        "register --transform affine": ["register", *images[:2], "--transform", "affine", "--threads", "1", "-o", f"{out}.h5"],
        "register": ["register", *images[:2], "--threads", "1", "-o", f"{out}.h5"],
        "register, 3-D": ["register", *volumes, "--threads", "1", "-o", f"{out}.h5"],
        "warp": ["warp", images[1], "-t", field, "-r", images[0], "-o", f"{out}.nii.gz"],
        "sam fit": ["sam", "fit", *images, "--labels", *labels, "-o", f"{out}.npz"],
        "synthesize -n 8": ["synthesize", model, "-n", "8", "-o", f"{out}-pairs-TURN"],
        "train --steps 5": ["train", model, "--steps", "5", "-o", f"{out}-run-TURN"],
        "compile": ["compile"],
    }


def _volume(shift: float) -> ar.Image:
    """Forty blobs in 64 x 60 x 40 voxels of 2 mm, moved and squeezed a little."""
    rng = np.random.default_rng(0)
    shape = (64, 60, 40)
    x = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij"), axis=-1)
    x = x + shift * np.sin(x[..., ::-1] / 9.0)
    values = np.zeros(shape)
    for center, size in zip(rng.uniform(6, np.array(shape) - 6, (40, 3)), rng.uniform(2, 6, 40), strict=True):
        values += rng.uniform(40, 200) * np.exp(-((x - center) ** 2).sum(-1) / (2 * size**2))
    return ar.Image(values.astype(np.float32), ar.Grid(shape, (2.0, 2.0, 2.0)))


_turn = iter(range(10**6))


def _run(arguments: Sequence[str], tree: Path, cache: str, code: str = "") -> tuple[str, float]:
    """Standard error and CPU seconds of a command of the package in `tree`, on one core."""
    words = [word.replace("TURN", str(next(_turn))) for word in arguments]
    environment = surroundings(1, NUMBA_CACHE_DIR=cache, HOME=cache, PYTHONPATH=str(tree))
    start = ["-c", code] if code else ["-m", "augreg"]
    return finished([sys.executable, *start, *words], environment, tree, cores=1)[1:]


def _kernels(arguments: Sequence[str], cache: str) -> dict[str, float]:
    """Seconds of every function that a cold command compiles."""
    return json.loads(_run(arguments, ROOT, cache, _WATCHED)[0].strip().splitlines()[-1])


def rendered(record: Record) -> str:
    """CPU seconds of all commands, and what cold ones consist of."""
    rows, parts = [], []
    for row in record["rows"]:
        before = [f"{seconds:.1f}" for seconds in row.get("before", ())] or ["", ""]
        now = [f"{seconds:.1f}" for seconds in row["now"]]
        rows.append([f"`{row['command']}`", before[0], now[0], str(row["goal"]), before[1], now[1]])
        start = row["kernels"]["<lambda>"]
        kernels = {name: seconds for name, seconds in row["kernels"].items() if name != "<lambda>"}
        most = sorted(kernels, key=lambda name: -kernels[name])[:4]
        longest = ", ".join(f"`{name}` {kernels[name]:.2f}" for name in most)
        parts.append([f"`{row['command']}`", f"{row['now'][1]:.1f}", f"{start:.1f}", f"{sum(kernels.values()):.1f}", longest])
    header = ("command", "cold, before", "cold, now", "goal", "warm, before", "warm, now")
    consists = ("command", "warm", "numba's start-up", "compiling", "the longest")
    return f"{heading(record)}\n\n{table(header, rows)}\nWhat a cold command consists of, seconds:\n\n{table(consists, parts)}"
