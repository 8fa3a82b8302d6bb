"""The demo: a few images, an appearance model, synthetic pairs, a network that learns from them, and a linear program."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
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
from augreg.networks import FlowNet
from augreg.report import DemoStory, demo_page
from augreg.sam import contours_correspond, fit_appearance_model
from augreg.synthesis import AppearancePairs, PairBatch, make_pairs, training_pairs
from augreg.training import (
    Batches,
    FlowRegistration,
    Machine,
    TrainingOptions,
    mirrored_by_chance,
    pairs_error,
    pairs_from_memory,
    pairs_from_model,
    seeded_network,
    torch_threads,
    train,
)
from augreg.transforms import Affine, Transform
from augreg.warp import resample, warp

# what a network learns from in a minute or two on two cores: voxels along the longest side, width, pairs per step, rate of Adam
_SIDE = 128
_WIDTH = 0.125
_BATCH = 8
_RATE = 2e-3
# drawing a pair takes as long as several steps with it: the share of the time, and the most pairs that are drawn
_DRAWING = 0.3
_POOL = 512
# steps that show how long one takes, and the share of the time after which training ends wherever it is
_TRIAL = 6
_PATIENCE = 1.2
# how pairs are drawn that stand for two people, and for two phases of one: there the body rests and looks the same
_PEOPLE: dict[str, Any] = {"pose": 1.0, "appearances": ("shared", "independent")}
_PHASES: dict[str, Any] = {"pose": 0.05, "appearances": ("shared",)}
_TRAINING_IMAGES = 32
_FEWEST = 3
_HELD_OUT = 6
_CHECKS = 16
Method = Callable[..., Transform]


@dataclass(frozen=True)
class Event:
    """Progress: what share is done, a message, and at the end the summary."""

    done: float
    message: str
    summary: dict[str, Any] = field(default_factory=dict)


def run(directory: Path, *, images: Sequence[str] | None = None, seconds: float = 90.0) -> Iterator[Event]:
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
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"{directory}: expected a folder to write to, got a file, {there}; choose another")
    yield Event(0.0, "sample data")
    data = sample_data(images)
    working = [_working(image) for image in data.images]
    labels = data.labels and [resample(part, image.grid) for part, image in zip(data.labels, working, strict=True)]
    known, pairs, phases = _split(data.subjects)
    if len(known) < _FEWEST:
        raise ValueError(
            f"images: expected those of at least {_FEWEST + 2} people, {_FEWEST} images to learn from and two others, "
            f"got {len(data.images)} images of {len(set(data.subjects))}"
        )
    yield Event(0.05, data.source)
    contours = labels is not None and contours_correspond([labels[i] for i in known])
    if labels is not None and contours:
        model = fit_appearance_model([working[i] for i in known], labels=[labels[i] for i in known])
    else:
        model = fit_appearance_model([working[i] for i in known], registration=LPRegistration())
    yield Event(0.2, f"model with {model.shape.rank} shape modes")
    how = _PHASES if phases else _PEOPLE
    # one appearance in both images: what the page says of a pair holds for all that it shows
    unseen = make_pairs(AppearancePairs(model, pose=how["pose"]), 0, range(2 * _BATCH))
    draw = pairs_from_model(model, _BATCH, seed=1, **how)
    network, curve = yield from _trained(draw, unseen, model.template.spacing, seconds)
    learned = FlowRegistration(network.cpu(), model.template.spacing)
    program = LPRegistration(transform="bspline")

    def flow(fixed: Image, moving: Image) -> Transform:
        with torch_threads(1):  # as in training
            return learned(fixed, moving)

    methods: dict[str, Method] = {
        "linear program": program,
        "network": flow,
        "network, then linear program": lambda f, m: program(f, m, initial=flow(f, m)),
    }
    yield Event(0.82, "registering held-out subjects")
    results, alignments = yield from _compared(methods, working, labels, pairs)

    shown = list(training_pairs(unseen, model.template))
    clearest = max(shown, key=lambda pair: float(np.abs(pair.displacement.values).mean()))
    measure = "NCC" if labels is None else "Dice"
    rows = [(name, f"{score:.3f}", "" if ms is None else f"{ms:.0f}") for name, (score, ms) in results.items()]
    first, second = pairs[0]
    story = DemoStory(
        source=data.source,
        training=[working[i] for i in known],
        points="from the contours of the label maps" if contours else "by registering a template to every image",
        model=model,
        synthetic=[pair.fixed for pair in shown],
        pair=(clearest.fixed, clearest.moving, clearest.displacement),
        curve=curve,
        without=pairs_error(None, unseen),
        held_out=(working[first], working[second]),
        what="end-systole to end-diastole of a person" if phases else "two people",
        alignments=alignments,
        header=("method", f"mean {measure}", "milliseconds"),
        rows=rows,
        machine=f"{len(pairs)} pairs; {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
    )
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "index.html"
    with atomic(path) as temporary:
        temporary.write_text(demo_page(story), encoding="utf-8")
    lines = [f"{name:<30} {measure} {value:>6} {ms:>7}{' ms' if ms else ''}" for name, value, ms in rows]
    summary = {
        "page": str(path),
        "source": data.source,
        "training_images": len(known),
        "pairs": len(pairs),
        "measure": measure,
        "results": {name: {"mean": score, "milliseconds": ms} for name, (score, ms) in results.items()},
    }
    yield Event(1.0, "\n".join([data.source, *lines, f"page: {path}"]), summary)


def _trained(
    draw: Batches, unseen: PairBatch, spacing: tuple[float, ...], seconds: float
) -> Generator[Event, None, tuple[FlowNet, list[tuple[int, float]]]]:
    """A network, and its error on unseen pairs as it learns."""
    begin = time.perf_counter()
    drawn: list[PairBatch] = []
    while not drawn or (len(drawn) * _BATCH < _POOL and time.perf_counter() - begin < _DRAWING * seconds):
        drawn.append(draw(len(drawn)))
        yield Event(0.2 + 0.15 * len(drawn) * _BATCH / _POOL, f"{len(drawn) * _BATCH} pairs with exact truth")
    batches = mirrored_by_chance(pairs_from_memory(PairBatch.concatenate(drawn), _BATCH))
    left = seconds - (time.perf_counter() - begin)
    network = seeded_network(0, unseen.flow.shape[1], _WIDTH)
    without = pairs_error(None, unseen)
    curve: list[tuple[int, float]] = []
    steps = _affordable(batches, spacing, unseen, left)
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingOptions(steps=steps, learning_rate=_RATE, checkpoint_seconds=1e9, machine=Machine(threads=1))
        for state in train(network, batches, spacing, folder, options):
            # a machine that has become busy must not make the demo long
            late = state.seconds > _PATIENCE * left
            if late or state.step % max(1, steps // _CHECKS) == 0 or state.step in (1, steps):
                curve.append((state.step, pairs_error(network, unseen)))
            message = f"training: end-point error {curve[-1][1]:.2f} voxels (without {without:.2f})"
            yield Event(0.35 + 0.45 * state.step / steps, message)
            if late:
                break
    return network, curve


def _compared(
    methods: dict[str, Method], images: Sequence[Image], labels: Sequence[Labels] | None, pairs: Sequence[tuple[int, int]]
) -> Generator[Event, None, tuple[dict[str, tuple[float, float | None]], dict[str, Transform]]]:
    """Mean score and median milliseconds of every method, and its transform of the first pair."""
    for method in methods.values():  # compiled code is loaded once
        method(images[pairs[0][0]], images[pairs[0][1]])
    scores: dict[str, list[float]] = {name: [] for name in ("before", *methods)}
    times: dict[str, list[float]] = {name: [] for name in methods}
    alignments: dict[str, Transform] = {}
    for number, (i, j) in enumerate(pairs):
        fixed, moving = images[i], images[j]
        truth = None if labels is None else (labels[i], labels[j])
        scores["before"].append(_score(fixed, moving, truth, Affine.identity(fixed.ndim)))
        for name, method in methods.items():
            begin = time.perf_counter()
            phi = method(fixed, moving)
            times[name].append(time.perf_counter() - begin)
            scores[name].append(_score(fixed, moving, truth, phi))
            alignments.setdefault(name, phi)
        yield Event(0.82 + 0.12 * (number + 1) / len(pairs), f"held-out pair {number + 1} of {len(pairs)}")
    milliseconds = {name: 1e3 * float(np.median(taken)) for name, taken in times.items()}
    return {name: (float(np.mean(of)), milliseconds.get(name)) for name, of in scores.items()}, alignments


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


def _affordable(batches: Batches, spacing: tuple[float, ...], unseen: PairBatch, seconds: float) -> int:
    """How many steps fit into the time, from a few of them and one look at the error."""
    network = seeded_network(0, unseen.flow.shape[1], _WIDTH)
    trial = TrainingOptions(steps=_TRIAL, checkpoint_seconds=1e9, machine=Machine(threads=1))
    with tempfile.TemporaryDirectory() as folder:
        times = [state.seconds for state in train(network, batches, spacing, folder, trial)]
    begin = time.perf_counter()
    pairs_error(network, unseen)
    looking = _CHECKS * (time.perf_counter() - begin)
    return int(np.clip((seconds - looking) / float(np.median(np.diff(times))), 20, 20_000))


def _score(fixed: Image, moving: Image, labels: tuple[Labels, Labels] | None, phi: Transform) -> float:
    """Mean Dice over structures, or without labels the correlation of the images."""
    if labels is not None:
        known = set(labels[0].unique()) & set(labels[1].unique())
        return metrics.mean_overlap(metrics.dice(labels[0], warp(labels[1], phi, labels[0].grid), known=known))
    moved = warp(moving, phi, fixed.grid, fill=np.nan).values
    inside = np.isfinite(moved)
    return float(np.corrcoef(fixed.values[inside], moved[inside])[0, 1])
