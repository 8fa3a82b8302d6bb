"""The demo: a few images, an appearance model, synthetic pairs, a network that learns from them, and a linear program."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from augreg import metrics
from augreg.datasets import sample_data
from augreg.image import Image, Labels
from augreg.io import atomic
from augreg.lp import LPRegistration
from augreg.report import DemoStory, demo_page
from augreg.sam import AppearanceModel, fit_appearance_model
from augreg.synthesis import draw_pairs, render_pairs, training_pairs
from augreg.training import (
    BLOCK,
    Batches,
    FlowRegistration,
    TrainingOptions,
    pairs_error,
    pairs_from_model,
    seeded_network,
    train,
)
from augreg.transforms import Affine, Transform
from augreg.warp import resample, warp

# what a network learns from in a minute on two cores: voxels along the longest side, width, pairs per step, rate of Adam, and
# how often a pair is shown
_SIDE = 128
_WIDTH = 0.125
_BATCH = 8
_RATE = 2e-3
_REUSE = 4
# spread of the poses in training, of the spread between subjects, where images of one subject are to be registered
_SAME_SUBJECT = 0.2
_TRAINING_IMAGES = 32
_HELD_OUT = 6
_CHECKS = 16
Method = Callable[..., Transform]


@dataclass(frozen=True)
class Event:
    """Progress: what share is done, a message, and at the end the summary."""

    done: float
    message: str
    summary: dict[str, Any] = field(default_factory=dict)


def run(directory: Path, *, images: Sequence[str] | None = None, seconds: float = 60.0) -> Iterator[Event]:
    """Run the demo; its page is `directory/index.html`.

    Parameters
    ----------
    directory : made if it does not exist
    images : the user's own; see `augreg.datasets.sample_data`
    seconds : spent on training, about

    Raises
    ------
    ValueError, FileNotFoundError : for unusable images.
    """
    directory.mkdir(parents=True, exist_ok=True)
    yield Event(0.0, "sample data")
    data = sample_data(images)
    working = [_working(image) for image in data.images]
    labels = (
        None if data.labels is None else [resample(part, image.grid) for part, image in zip(data.labels, working, strict=True)]
    )
    known, pairs, phases = _split(data.subjects)
    yield Event(0.05, data.source)
    given: dict[str, Any] = {"labels": [labels[i] for i in known]} if labels else {"registration": LPRegistration()}
    model = fit_appearance_model([working[i] for i in known], **given)
    yield Event(0.2, f"model with {len(model.shape.variance)} shape modes")
    pose = _SAME_SUBJECT if phases else 1.0
    unseen_pairs = render_pairs(model, draw_pairs(model, np.random.default_rng(0), 2 * _BATCH, pose=pose))

    curve: list[tuple[int, float]] = []
    network = seeded_network(0, model.template.ndim, _WIDTH)
    batches = pairs_from_model(model, _BATCH, seed=1, reuse=_REUSE, pose=pose)
    without = pairs_error(None, unseen_pairs)
    with tempfile.TemporaryDirectory() as run_folder:
        steps = _affordable(model, batches, seconds)
        options = TrainingOptions(steps=steps, learning_rate=_RATE, checkpoint_seconds=1e9)
        for state in train(network, batches, model.template.spacing, run_folder, options):
            if state.step % max(1, steps // _CHECKS) == 0 or state.step in (1, steps):
                curve.append((state.step, pairs_error(network, unseen_pairs)))
            message = f"training: end-point error {curve[-1][1]:.2f} voxels (without {without:.2f})"
            yield Event(0.2 + 0.6 * state.step / steps, message)

    flow = FlowRegistration(network.cpu(), model.template.spacing)
    program = LPRegistration(transform="bspline")
    methods: dict[str, Method] = {
        "linear program": program,
        "network": flow,
        "network, then linear program": lambda f, m: program(f, m, initial=flow(f, m)),
    }
    yield Event(0.82, "registering held-out subjects")
    program(*(working[i] for i in pairs[0]))  # compiled code is loaded once
    results: dict[str, list[tuple[float, float]]] = {"before": []}
    alignments: dict[str, Transform] = {}
    for number, (i, j) in enumerate(pairs):
        fixed, moving = working[i], working[j]
        truth = None if labels is None else (labels[i], labels[j])
        results["before"].append((_score(fixed, moving, truth, Affine.identity(fixed.ndim)), 0.0))
        for name, method in methods.items():
            begin = time.perf_counter()
            phi = method(fixed, moving)
            took = time.perf_counter() - begin
            results.setdefault(name, []).append((_score(fixed, moving, truth, phi), took))
            if number == 0:
                alignments[name] = phi
        yield Event(0.82 + 0.12 * (number + 1) / len(pairs), f"held-out pair {number + 1} of {len(pairs)}")

    shown = list(training_pairs(unseen_pairs, model.template))
    measure = "NCC" if labels is None else "Dice"
    rows = [
        (
            name,
            f"{np.mean([s for s, _ in scores]):.3f}",
            "" if name == "before" else f"{1e3 * np.median([t for _, t in scores]):.0f}",
        )
        for name, scores in results.items()
    ]
    story = DemoStory(
        source=data.source,
        training=[working[i] for i in known],
        model=model,
        synthetic=[pair.fixed for pair in shown],
        pair=(shown[0].fixed, shown[0].moving, shown[0].displacement),
        curve=curve,
        without=without,
        held_out=(working[pairs[0][0]], working[pairs[0][1]]),
        what="end-systole to end-diastole of a person" if phases else "two people",
        alignments=alignments,
        header=("method", f"mean {measure}", "milliseconds"),
        rows=rows,
        machine=f"{len(pairs)} pairs; {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
    )
    path = directory / "index.html"
    with atomic(path) as temporary:
        temporary.write_text(demo_page(story), encoding="utf-8")
    lines = [f"{name:<30} {measure} {value:>6} {ms:>7}{' ms' if ms else ''}" for name, value, ms in rows]
    summary = {
        "page": str(path),
        "source": data.source,
        "training_images": len(known),
        "measure": measure,
        "results": {name: {"mean": float(value), "milliseconds": float(ms) if ms else None} for name, value, ms in rows},
    }
    yield Event(1.0, "\n".join([data.source, *lines, f"page: {path}"]), summary)


def _split(subjects: Sequence[str]) -> tuple[list[int], list[tuple[int, int]], bool]:
    """Images to learn from, pairs of images of other subjects, and whether the images of a pair show one subject.

    The last subjects in order, at least two, stay unseen; of the others, as many serve as are needed.
    """
    images: dict[str, list[int]] = {}
    for number, name in enumerate(subjects):
        images.setdefault(name, []).append(number)
    people = list(images.values())
    phases = all(len(part) == 2 for part in people)
    held_out = min(_HELD_OUT, max(2, len(people) // 3))
    known, unseen = [i for part in people[:-held_out] for i in part][:_TRAINING_IMAGES], people[-held_out:]
    if phases:
        return known, [(part[0], part[1]) for part in unseen], True
    return known, [(a[0], b[0]) for a, b in pairwise(unseen)], False


def _working(image: Image) -> Image:
    """Grey, at most _SIDE voxels along the longest side."""
    grey = image.luminance()
    factor = max(grey.grid.shape) / _SIDE
    grid = grey.grid if factor <= 1 else grey.grid.with_shape([max(2, round(n / factor)) for n in grey.grid.shape])
    return resample(grey.with_values(np.asarray(grey.values, dtype=np.float32)), grid)


def _affordable(model: AppearanceModel, batches: Batches, seconds: float) -> int:
    """How many steps fit into the time, from those of one block of pairs, drawing the next one included."""
    begin = time.perf_counter()
    network = seeded_network(0, model.template.ndim, _WIDTH)
    trial = TrainingOptions(steps=BLOCK * _REUSE + 1, checkpoint_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        times = [state.seconds for state in train(network, batches, model.template.spacing, folder, trial)]
    per_step = (times[-1] - times[0]) / (trial.steps - 1)
    return int(np.clip((seconds - (time.perf_counter() - begin)) / per_step, 20, 20_000))


def _score(fixed: Image, moving: Image, labels: tuple[Labels, Labels] | None, phi: Transform) -> float:
    """Mean Dice over structures, or without labels the correlation of the images."""
    if labels is not None:
        return metrics.mean_overlap(metrics.dice(labels[0], warp(labels[1], phi, labels[0].grid)))
    moved = warp(moving, phi, fixed.grid, fill=np.nan).values
    inside = np.isfinite(moved)
    return float(np.corrcoef(fixed.values[inside], moved[inside])[0, 1])
