"""Trials of an experiment: a network each, trained once in a folder of its own, and what it is worth on people.

A trial whose result is there is not run again, a training that was cut off goes on from its checkpoint. So an experiment is a
list of trials, and its record is put together from what the folders say.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from augreg.geometry.image import Image
from augreg.geometry.resampling import resample
from augreg.geometry.transforms import Transform
from augreg.io import atomic
from augreg.networks import Network, seeded
from augreg.training import (
    CHECKPOINT,
    WEIGHTS,
    Batches,
    FlowLearner,
    FlowRegistration,
    Learner,
    Machine,
    Objective,
    TrainingOptions,
    learn,
    supervised,
)
from benchmarks.experiments.measures import measured
from benchmarks.experiments.people import Study, Subject
from benchmarks.experiments.statistics import by_person
from benchmarks.harness.record import Record, Row, about, write_record

RESULT, TRAINING = "rows.json", "training.json"
PACKAGES = ("augreg", "numpy", "torch")
Registration = Callable[[Image, Image], Transform]
# (network, batches, spacing) -> who learns
Teach = Callable[[Network, Batches, tuple[float, ...]], Learner]
# voxels of what networks see, mm
HALF = (2.0, 2.0)
# digits of kept measures: more say nothing
_DIGITS = 4


def at_half(study: Study) -> Study:
    """The study with training images and labels at half of the resolution; those that are tested stay as they are."""

    def coarse(one: Subject) -> Subject:
        grid = one.image.grid.with_spacing(HALF)
        return replace(one, image=resample(one.image, grid), labels=resample(one.labels, grid))

    return replace(study, training=tuple(map(coarse, study.training)))


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network is, and what it learns from.

    Parameters
    ----------
    network : makes it; its first weights depend on the seed alone
    batches : pairs of a step
    objective : what is minimised
    steps, rate : of Adam
    teach : makes the learner, where it is none of one network alone
    """

    network: Callable[[], Network]
    batches: Batches
    objective: Objective = supervised
    steps: int = 1000
    rate: float = 2e-3
    teach: Teach | None = None


def taught(lesson: Lesson, seed: int, folder: Path, spacing: tuple[float, ...]) -> tuple[FlowRegistration, Row]:
    """The network after its lesson, and CPU seconds; made once."""
    said = once(folder / TRAINING, lambda: _trained(lesson, seed, folder, spacing))
    return FlowRegistration.from_file(folder / WEIGHTS), said


def _trained(lesson: Lesson, seed: int, folder: Path, spacing: tuple[float, ...]) -> Row:
    begin = time.process_time()
    network = seeded(seed, lesson.network)
    if lesson.teach is None:
        learner: Learner = FlowLearner(network, lesson.batches, spacing, objective=lesson.objective)
    else:
        learner = lesson.teach(network, lesson.batches, spacing)
    machine = Machine(device="cpu", threads=1)
    options = TrainingOptions(lesson.steps, lesson.rate, checkpoint_seconds=60.0, look_every=lesson.steps, machine=machine)
    resume = (folder / CHECKPOINT).exists()
    for state in learn(learner, folder, options, resume=resume):
        if state.step % max(1, lesson.steps // 10) == 0:
            told = ", ".join(f"{name} {value:.3g}" for name, value in state.numbers.items())
            print(f"{folder.name}: step {state.step} of {lesson.steps}, {told}", file=sys.stderr, flush=True)
    parameters = sum(part.numel() for part in network.parameters())
    return {"cpu": time.process_time() - begin, "resumed": resume, "parameters": parameters, "steps": lesson.steps}


def once(path: Path, make: Callable[[], Any]) -> Any:
    """What a file says, which is made first where there is none."""
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(made) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def on_people(registration: Registration, study: Study) -> Row:
    """Jaccard of every person that is fixed, the mean over its pairs, and over all pairs folding (%) and median CPU ms."""
    rows = []
    first = study.pairs[0]
    registration(first.fixed.image, first.moving.image)
    for pair in study.pairs:
        begin = time.process_time()
        phi = registration(pair.fixed.image, pair.moving.image)
        took = time.process_time() - begin
        rows.append({"fixed": pair.fixed.name, **measured(pair, phi, contours=False), "cpu": took})
    each = by_person(rows, "jaccard")
    took = sorted(row["cpu"] for row in rows)[len(rows) // 2]
    folding = 100 * mean(row["folding"] for row in rows)
    return {
        "jaccard": [round(value, _DIGITS) for value in each.values()],
        "folding": round(folding, 4),
        "ms": round(1000 * took, 1),
    }


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean over seeds, with their standard deviation where there are several."""
    text = f"{mean(values):.{digits}f}"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def options(parser: argparse.ArgumentParser) -> None:
    """That experiments have in common."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs/experiments"), metavar="FOLDER", help="is continued where it exists"
    )
    parser.add_argument("--only", nargs="+", default=[""], metavar="PREFIX", help="trials, as lines of progress name them")
    parser.add_argument(
        "--choosing",
        action="store_true",
        help="on training people alone, the last of whom are tested: for the choice of settings",
    )


def gathered(name: str, trials: Iterator[tuple[str, Callable[[Path], list[Row]]]], chosen: argparse.Namespace) -> None:
    """Run the trials that lack a result, and write the record of all that have one.

    Parameters
    ----------
    name : of the experiment
    trials : keys, which are names of folders, and what makes rows in such a folder
    chosen : the options
    """
    out = chosen.out / (f"{name}-choosing" if chosen.choosing else name)
    rows: list[Row] = []
    for key, make in trials:
        folder = out / key
        if not (folder / RESULT).exists() and not key.startswith(tuple(chosen.only)):
            continue
        found = once(folder / RESULT, lambda folder=folder, make=make: make(folder))  # type: ignore[misc]
        print(key, *found, sep="\n  ", file=sys.stderr, flush=True)
        rows += found
        record: Record = about(1, PACKAGES) | {"rows": rows}
        write_record(chosen.output, record)
