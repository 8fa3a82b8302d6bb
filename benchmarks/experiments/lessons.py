"""Trainings of a study as data, each in a folder of its own: one with weights is not run again, one that was cut off goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augreg.io import atomic
from augreg.networks import Critic, FlowRegistration, Network
from augreg.training import (
    CHECKPOINT,
    WEIGHTS,
    Batches,
    FlowLearner,
    JudgedLearner,
    Learner,
    Machine,
    Objective,
    Sight,
    TrainingOptions,
    learn,
)
from benchmarks.experiments.people import Pair
from benchmarks.harness.record import Row

_TOLD, _ROWS, _PAIRS = "training.json", "rows.json", "pairs.jsonl"
_LOOKS, _DIGITS = 30, 5


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network learns from, and how.

    Parameters
    ----------
    network : makes it, with its first weights
    batches : pairs of every step
    objective : what is minimised
    steps, rate : of Adam
    sees, weight : what a critic sees, and the weight of its verdict; without a sight there is no critic
    """

    network: Callable[[], Network]
    batches: Batches
    objective: Objective
    steps: int
    rate: float
    sees: Sight | None = None
    weight: float = 0.0


def once(folder: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a run has measured, which is made and kept in its folder first where it is not there."""
    path = folder / _ROWS
    if not path.exists():
        made = make()
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(made) + "\n", encoding="utf-8")
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return known


def one_by_one(folder: Path, pairs: Sequence[Pair], row: Callable[[Pair], Row]) -> list[Row]:
    """The row of every pair, each written when it is known: a run of hours that is cut off goes on with the next pair."""
    path = folder / _PAIRS
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    with path.open("a", encoding="utf-8") as out:
        for pair in pairs[len(rows) :]:
            rows.append(row(pair))
            print(json.dumps(rows[-1]), file=out, flush=True)
    return rows


def shortened(rows: Iterable[Row]) -> list[Row]:
    """Rows with the digits that say something."""
    return [{name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in row.items()} for row in rows]


def learned(lesson: Lesson, spacing: tuple[float, ...], folder: Path) -> tuple[FlowRegistration, float]:
    """The registration that a lesson teaches, and the CPU seconds that it took, together if it was cut off."""
    told = folder / _TOLD
    before = json.loads(told.read_text(encoding="utf-8"))["cpu_seconds"] if told.exists() else 0.0
    if not (folder / WEIGHTS).exists():
        begin = time.process_time()
        one = Machine(threads=1)
        options = TrainingOptions(steps=lesson.steps, learning_rate=lesson.rate, checkpoint_seconds=30.0, machine=one)
        curve: list[float] = []
        for state in learn(_learner(lesson, spacing), folder, options, resume=(folder / CHECKPOINT).exists()):
            curve.append(state.loss)
            if len(curve) == max(1, lesson.steps // _LOOKS) or state.step == lesson.steps:
                print(f"{folder.name}: step {state.step}, loss {sum(curve) / len(curve):.4f}", file=sys.stderr, flush=True)
                curve.clear()
                _write(told, before + time.process_time() - begin)
        before += time.process_time() - begin
    return FlowRegistration.from_file(folder / WEIGHTS), before


def _learner(lesson: Lesson, spacing: tuple[float, ...]) -> Learner:
    network = lesson.network()
    if lesson.sees is None:
        return FlowLearner(network, lesson.batches, spacing, objective=lesson.objective)
    critic = Critic(network.ndim, lesson.sees.channels(network.ndim))
    return JudgedLearner(
        network,
        critic,
        lesson.batches,
        spacing,
        sees=lesson.sees,
        weight=lesson.weight,
        warm_up=lesson.steps // 2,
        objective=lesson.objective,
    )


def _write(path: Path, seconds: float) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps({"cpu_seconds": round(seconds, 1)}) + "\n", encoding="utf-8")
