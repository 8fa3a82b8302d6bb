"""The demo: a few images, an appearance model, synthetic pairs, a network that learns from them, and a linear program.

Nothing here depends on a clock: the network learns for a number of steps, so a busy machine takes longer and shows the same. What
was measured in milliseconds is told, and is not on the page: the same seed gives the same page, byte for byte, on one machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from augreg import metrics
from augreg.datasets import sample_data
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample, warp
from augreg.geometry.transforms import Affine, Transform
from augreg.io import atomic
from augreg.lp import LPRegistration
from augreg.networks import Network
from augreg.recipes import DEMO, PHASES, Recipe, first_network, objective, pairs_at_hand, pool, shown, training_options
from augreg.report import DemoStory, HeldOut, Scores, demo_page
from augreg.sam import AppearanceModel, contours_correspond, fit_appearance_model
from augreg.synthesis import AppearancePairs, PairBatch, make_pairs, training_pairs
from augreg.training import FlowRegistration, Machine, pairs_error, torch_threads, train

_TRAINING_IMAGES = 32
_FEWEST = 3
_HELD_OUT = 6
_UNSEEN = 16
_LOOKS = 16
# where a bar stands when a part begins: as their seconds are on two quiet cores
_FITTED, _DRAWN, _TRAINED, _COMPARED = 0.12, 0.3, 0.85, 0.95
Method = Callable[..., Transform]


@dataclass(frozen=True)
class Lesson:
    """How much a network learns from: pairs and steps, never seconds.

    After two thirds of these steps the error on unseen pairs of hearts is less than half of that of doing nothing, and in the end
    about a third (seeds 0 to 2).

    Parameters
    ----------
    side : voxels along the longest side of images; of volumes half as many
    points : number of points on the contour of a structure; at this size more of them tell nothing new
    recipe : recipe of the training, with a pool of pairs; where images are phases of one person the turns are those of phases
    seed : seed of pairs, weights and their order

    Raises
    ------
    ValueError : for a recipe without a pool.
    """

    side: int = 128
    points: int = 60
    recipe: Recipe = DEMO
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe.pool is None:
            raise ValueError("recipe: expected one with a pool of pairs, whose number the demo tells, got one without; set pool")

    @property
    def pairs(self) -> int:
        """Drawn once and kept in memory."""
        return self.recipe.pool or 0

    def working(self, image: Image) -> Image:
        """Grey, and not larger than `side`."""
        return _at_most(image.luminance(), self.side if image.ndim == 2 else self.side // 2)

    def of(self, grid: Grid) -> Lesson:
        """The same with fewer pairs, and fewer in a step, where they have more voxels than a square of `side`."""
        share = min(1.0, self.side**2 / np.prod(grid.shape))
        drawn = max(1, round(share * self.recipe.drawn))
        batch = drawn * (self.recipe.batch // self.recipe.drawn)
        recipe = replace(self.recipe, batch=batch, pool=max(4, round(share * self.pairs / drawn)) * drawn)
        return replace(self, recipe=recipe)


@dataclass(frozen=True)
class Event:
    """Progress: what share is done, a message, and at the end the summary."""

    done: float
    message: str
    summary: dict[str, Any] = field(default_factory=dict)


def run(directory: Path, *, images: Sequence[str] | None = None, lesson: Lesson | None = None) -> Iterator[Event]:
    """Run the demo; its page is `directory/index.html`.

    Parameters
    ----------
    directory : made if it does not exist
    images : the user's own; see `augreg.datasets.sample_data`
    lesson : amount of data that the network learns from

    Raises
    ------
    ValueError, FileNotFoundError : for unusable images.
    """
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"{directory}: expected a folder to write to, got a file, {there}; choose another")
    yield Event(0.0, "sample data")
    data = sample_data(images)
    lesson = lesson or Lesson()
    working = [lesson.working(image) for image in data.images]
    labels = data.labels and [resample(part, image.grid) for part, image in zip(data.labels, working, strict=True)]
    known, pairs, phases = split(data.subjects)
    if len(known) < _FEWEST:
        raise ValueError(
            f"images: expected those of at least {_FEWEST + 2} people, {_FEWEST} images to learn from and two others, "
            f"got {len(data.images)} images of {len(set(data.subjects))}"
        )
    yield Event(0.02, f"a model of {len(known)} images")
    contours = labels is not None and contours_correspond([labels[i] for i in known])
    if labels is not None and contours:
        points = lesson.points * max(len(labels[i].unique()) for i in known)
        model = fit_appearance_model([working[i] for i in known], labels=[labels[i] for i in known], points=points)
    else:
        model = fit_appearance_model([working[i] for i in known], registration=LPRegistration())
    if phases:
        lesson = replace(lesson, recipe=replace(lesson.recipe, turns=PHASES))
    lesson = lesson.of(model.template)
    recipe = lesson.recipe
    yield Event(_FITTED, f"model with {model.shape.rank} shape modes")
    # one appearance in both images: what the page says of a pair holds for all that it shows
    unseen = make_pairs(AppearancePairs(model, pose=recipe.turns[0].pose), lesson.seed, range(_UNSEEN))
    network, curve = yield from _taught(model, lesson, unseen)
    learned = FlowRegistration(network, model.template.spacing)
    program = LPRegistration(transform="bspline")

    def flow(fixed: Image, moving: Image) -> Transform:
        with torch_threads(1):  # as in training
            return learned(fixed, moving)

    methods: dict[str, Method] = {
        "network": flow,
        "linear program": program,
        "network, then linear program": lambda f, m: program(f, m, initial=flow(f, m)),
    }
    yield Event(_TRAINED, "registering held-out subjects")
    alignments, milliseconds = yield from _compared(methods, working, pairs)
    scores = _scores(alignments, working, labels, pairs)
    yield Event(_COMPARED, "the page")

    shown = list(training_pairs(unseen, model.template))
    clearest = max(shown, key=lambda pair: float(np.abs(pair.displacement.values).mean()))
    typical = int(np.argsort(scores.values["network"], kind="stable")[len(pairs) // 2])
    first, second = (data.images[i].luminance() for i in pairs[typical])
    maps = data.labels and tuple(data.labels[i] for i in pairs[typical])
    story = DemoStory(
        source=data.source,
        training=[working[i] for i in known],
        points="from the contours of the label maps" if contours else "by registering a template to every image",
        model=model,
        synthetic=[pair.fixed for pair in shown],
        pair=(clearest.fixed, clearest.moving, clearest.displacement),
        lesson=f"{recipe.steps} steps of {recipe.batch} out of {lesson.pairs} pairs",
        curve=curve,
        without=pairs_error(None, unseen),
        held_out=HeldOut(first, second, maps, typical, {name: parts[typical] for name, parts in alignments.items()}),
        what="end-systole to end-diastole of a person" if phases else "two people",
        scores=scores,
    )
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "index.html"
    with atomic(path) as temporary:
        temporary.write_text(demo_page(story), encoding="utf-8")
    told = {"before": None, **milliseconds}
    lines = [
        f"{name:<30} {scores.measure} {scores.mean(name):>6.3f} {'' if ms is None else f'{ms:>7.0f} ms'}".rstrip()
        for name, ms in told.items()
    ]
    summary = {
        "page": str(path),
        "source": data.source,
        "training_images": len(known),
        "pairs": len(pairs),
        "steps": recipe.steps,
        "seed": lesson.seed,
        "error": {"without": story.without, "network": curve[-1][1]},
        "measure": scores.measure,
        "results": {name: {"mean": scores.mean(name), "milliseconds": ms} for name, ms in told.items()},
    }
    yield Event(1.0, "\n".join([data.source, story.learned, *lines, scores.verdict, f"page: {path}"]), summary)


def _taught(
    model: AppearanceModel, lesson: Lesson, unseen: PairBatch
) -> Generator[Event, None, tuple[Network, list[tuple[int, float]]]]:
    """A network, and its error on unseen pairs as it learns."""
    recipe, seed = lesson.recipe, lesson.seed
    drawn: list[PairBatch] = []
    for batch in pool(recipe, model, seed):
        drawn.append(batch)
        count = len(drawn) * recipe.drawn
        yield Event(_between(_FITTED, _DRAWN, count / lesson.pairs), f"{count} of {lesson.pairs} pairs with exact truth")
    batches = shown(recipe, pairs_at_hand(recipe, PairBatch.concatenate(drawn), seed), seed)
    network = first_network(recipe, unseen.flow.shape[1], seed)
    # on one thread of the CPU: threads that wait for each other are slow on a busy machine, and sums keep their order
    options = training_options(recipe, Machine("cpu", threads=1), checkpoint_seconds=1e9)
    without = pairs_error(None, unseen)
    curve: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for state in train(network, batches, model.template.spacing, folder, options, objective=objective(recipe)):
            if state.step % max(1, recipe.steps // _LOOKS) == 0 or state.step in (1, recipe.steps):
                with torch_threads(1):
                    curve.append((state.step, pairs_error(network, unseen)))
            message = f"step {state.step} of {recipe.steps}, error {curve[-1][1]:.2f} of {without:.2f}"
            yield Event(_between(_DRAWN, _TRAINED, state.step / recipe.steps), message)
    return network, curve


def _compared(
    methods: dict[str, Method], images: Sequence[Image], pairs: Sequence[tuple[int, int]]
) -> Generator[Event, None, tuple[dict[str, list[Transform]], dict[str, float]]]:
    """Transforms of every pair by every method, and median milliseconds."""
    for method in methods.values():  # compiled code is loaded once
        method(images[pairs[0][0]], images[pairs[0][1]])
    alignments: dict[str, list[Transform]] = {"before": [Affine.identity(images[0].ndim)] * len(pairs)}
    times: dict[str, list[float]] = {name: [] for name in methods}
    for number, (i, j) in enumerate(pairs):
        for name, method in methods.items():
            begin = time.perf_counter()
            alignments.setdefault(name, []).append(method(images[i], images[j]))
            times[name].append(time.perf_counter() - begin)
        share = (number + 1) / len(pairs)
        yield Event(_between(_TRAINED, _COMPARED, share), f"held-out pair {number + 1} of {len(pairs)}")
    return alignments, {name: 1e3 * float(np.median(taken)) for name, taken in times.items()}


def _scores(
    alignments: dict[str, list[Transform]],
    images: Sequence[Image],
    labels: Sequence[Labels] | None,
    pairs: Sequence[tuple[int, int]],
) -> Scores:
    values = {
        name: [
            _score(images[i], images[j], None if labels is None else (labels[i], labels[j]), phi)
            for (i, j), phi in zip(pairs, transforms, strict=True)
        ]
        for name, transforms in alignments.items()
    }
    return Scores("NCC" if labels is None else "Dice", values)


def _between(begin: float, end: float, share: float) -> float:
    """Where a bar stands; exactly at the end there."""
    return (1 - share) * begin + share * end


def split(subjects: Sequence[str]) -> tuple[list[int], list[tuple[int, int]], bool]:
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


def _at_most(image: Image, side: int) -> Image:
    """At most so many voxels along the longest side, as float32."""
    factor = max(image.grid.shape) / side
    grid = image.grid if factor <= 1 else image.grid.with_shape([max(2, round(n / factor)) for n in image.grid.shape])
    return resample(image.with_values(np.asarray(image.values, dtype=np.float32)), grid)


def _score(fixed: Image, moving: Image, labels: tuple[Labels, Labels] | None, phi: Transform) -> float:
    """Mean Dice over structures, or without labels the correlation of the images."""
    if labels is not None:
        known = set(labels[0].unique()) & set(labels[1].unique())
        return metrics.mean_overlap(metrics.dice(labels[0], warp(labels[1], phi, labels[0].grid), known=known))
    moved = warp(moving, phi, fixed.grid, fill=np.nan).values
    inside = np.isfinite(moved)
    return float(np.corrcoef(fixed.values[inside], moved[inside])[0, 1])
