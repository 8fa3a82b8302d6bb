"""The demo: a few images, an appearance model, synthetic pairs, a network that learns from them, and a linear program."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
from augreg.training import FlowRegistration, TrainingOptions, TrainingState, pairs_from_model, seeded_network, train
from augreg.transforms import Affine, Transform
from augreg.warp import resample, warp

# voxels along the longest side: what trains in a minute on two cores
_SIDE = 128
_WIDTH = 0.125
_BATCH = 4
_RATE = 2e-3
_HELD_OUT = 6
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
    subjects = [_working(image) for image in data.images]
    labels = (
        None
        if data.labels is None
        else [resample(part, subject.grid) for part, subject in zip(data.labels, subjects, strict=True)]
    )
    # at least three subjects stay unseen
    split = len(subjects) - max(3, min(_HELD_OUT, len(subjects) // 3)) if len(subjects) > 6 else len(subjects) - 2
    yield Event(0.05, data.source)
    given: dict[str, Any] = {"labels": labels[:split]} if labels else {"registration": LPRegistration()}
    model = fit_appearance_model(subjects[:split], **given)
    yield Event(0.2, f"model with {len(model.shape.variance)} shape modes")
    batch = render_pairs(model, draw_pairs(model, np.random.default_rng(0), 6))
    pairs = list(training_pairs(batch, model.template))

    curve: list[TrainingState] = []
    network = seeded_network(0, model.template.ndim, _WIDTH)
    with tempfile.TemporaryDirectory() as run_folder:
        steps = _affordable(model, seconds)
        options = TrainingOptions(steps=steps, learning_rate=_RATE, checkpoint_seconds=1e9)
        for state in train(network, pairs_from_model(model, _BATCH), model.template.spacing, run_folder, options):
            curve.append(state)
            yield Event(
                0.2 + 0.6 * state.step / steps,
                f"training: end-point error {state.epe:.2f} voxels (without {state.epe_without:.2f})",
            )

    flow = FlowRegistration(network.cpu(), model.template.spacing)
    program = LPRegistration(transform="bspline")
    methods: dict[str, Method] = {
        "linear program": program,
        "network": flow,
        "network, then linear program": lambda f, m: program(f, m, initial=flow(f, m)),
    }
    yield Event(0.82, "registering held-out subjects")
    unseen = subjects[split:]
    held = [(i, i + 1) for i in range(len(unseen) - 1)]
    program(unseen[0], unseen[1])  # compiled code is loaded once
    results: dict[str, list[tuple[float, float]]] = {"before": []}
    alignments: dict[str, Transform] = {}
    for number, (i, j) in enumerate(held):
        truth = None if labels is None else (labels[split + i], labels[split + j])
        results["before"].append((_score(unseen[i], unseen[j], truth, Affine.identity(unseen[i].ndim)), 0.0))
        for name, method in methods.items():
            begin = time.perf_counter()
            phi = method(unseen[i], unseen[j])
            took = time.perf_counter() - begin
            results.setdefault(name, []).append((_score(unseen[i], unseen[j], truth, phi), took))
            if number == 0:
                alignments[name] = phi
        yield Event(0.82 + 0.12 * (number + 1) / len(held), f"held-out pair {number + 1} of {len(held)}")

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
        training=subjects[:split],
        model=model,
        synthetic=[pair.fixed for pair in pairs],
        pair=(pairs[0].fixed, pairs[0].moving, pairs[0].displacement),
        curve=_smoothed(curve),
        held_out=(unseen[0], unseen[1]),
        alignments=alignments,
        header=("method", f"mean {measure}", "milliseconds"),
        rows=rows,
        machine=f"{len(held)} pairs of {len(unseen)} subjects; {platform.machine()}, Python {platform.python_version()}.",
    )
    path = directory / "index.html"
    with atomic(path) as temporary:
        temporary.write_text(demo_page(story), encoding="utf-8")
    lines = [f"{name:<30} {measure} {value:>6} {ms:>7}{' ms' if ms else ''}" for name, value, ms in rows]
    summary = {
        "page": str(path),
        "source": data.source,
        "training_images": split,
        "measure": measure,
        "results": {name: {"mean": float(value), "milliseconds": float(ms) if ms else None} for name, value, ms in rows},
    }
    yield Event(1.0, "\n".join([data.source, *lines, f"page: {path}"]), summary)


def _working(image: Image) -> Image:
    """Grey, at most _SIDE voxels along the longest side."""
    grey = image.luminance()
    factor = max(grey.grid.shape) / _SIDE
    grid = grey.grid if factor <= 1 else grey.grid.with_shape([max(2, round(n / factor)) for n in grey.grid.shape])
    return resample(grey.with_values(np.asarray(grey.values, dtype=np.float32)), grid)


def _affordable(model: AppearanceModel, seconds: float) -> int:
    """How many steps fit into the time, from a few of them."""
    trial = TrainingOptions(steps=4, checkpoint_seconds=1e9)
    network = seeded_network(0, model.template.ndim, _WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        *_, first, _, last = (
            state.seconds for state in train(network, pairs_from_model(model, _BATCH), model.template.spacing, folder, trial)
        )
    return int(np.clip(seconds / max((last - first) / 2, 1e-3), 20, 20_000))


def _score(fixed: Image, moving: Image, labels: tuple[Labels, Labels] | None, phi: Transform) -> float:
    """Mean Dice over structures, or without labels the correlation of the images."""
    if labels is not None:
        return metrics.mean_overlap(metrics.dice(labels[0], warp(labels[1], phi, labels[0].grid)))
    moved = warp(moving, phi, fixed.grid, fill=np.nan).values
    inside = np.isfinite(moved)
    return float(np.corrcoef(fixed.values[inside], moved[inside])[0, 1])


def _smoothed(curve: Sequence[TrainingState], points: int = 60) -> list[tuple[int, float, float]]:
    """Means over windows: single batches are too noisy to look at."""
    parts = np.array_split(np.arange(len(curve)), min(points, len(curve)))
    return [
        (
            curve[int(part[-1])].step,
            float(np.mean([curve[i].epe for i in part])),
            float(np.mean([curve[i].epe_without for i in part])),
        )
        for part in parts
    ]
