"""Commands that learn from images: sam, synthesize, train, demo."""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from augreg import io, sam
from augreg.cli.output import PAGES, check_output, report, say
from augreg.cli.progress import bar
from augreg.geometry.image import Image, Labels

if TYPE_CHECKING:
    # torch: loaded only where a command needs it
    from augreg import training
    from augreg.networks import FlowNet
    from augreg.synthesis import PairBatch

# pairs that training looks at without learning from them
_HELD_OUT = 16
_WIDTH = 0.25


def sam_fit(options: argparse.Namespace) -> None:
    """`augreg sam fit`."""
    check_output(options.output, (".npz",))
    begin = time.perf_counter()
    images = _images(options.images)
    given = _correspondences(options, len(images))
    if not given or options.register:
        from augreg.lp import LPRegistration

        given["registration"] = LPRegistration(transform="bspline")
    template = io.read_image(options.template) if options.template else None
    locality = sam.Locality(levels=options.levels, taper=sam.TAPERS[options.taper], scale=options.scale)
    dense = {None: None, "displacement": sam.DisplacementMaps(), "velocity": sam.VelocityMaps()}[options.dense]
    with bar("register to a template, fit" if "registration" in given else "fit", None), _files_named(options) as doubts:
        model = sam.fit_appearance_model(
            images, template=template, locality=locality, dense=dense, rounds=options.rounds, **given
        )
    sam.write_model(model, options.output)
    for doubt in doubts:
        say(f"augreg: warning: {doubt}")
    if "registration" in given:
        # not before: an error is the only line on stderr
        say("augreg: every image was registered to a template")
    result = {
        "images": len(images),
        "landmarks": len(model.landmarks),
        "scale": model.locality.scale,
        "structures": _structures(model),
        "dropped": _dropped(model, given.get("labels"), options.labels),
        "shape_modes": len(model.shape.variance),
        "appearance_modes": len(model.appearance.variance),
        "seconds": time.perf_counter() - begin,
        "warnings": doubts,
    }
    text = "{images} images, {landmarks} landmarks, {shape_modes} shape and {appearance_modes} appearance modes, {seconds:.1f} s"
    report(result, f"{options.output}: " + text.format(**result), as_json=options.json)


def sam_evaluate(options: argparse.Namespace) -> None:
    """`augreg sam evaluate`."""
    model, images = sam.read_model(options.model), _images(options.images)
    given = _correspondences(options, len(images))
    with bar("evaluate", None):
        landmarks = _landmarks(model, images, given)
        measures = sam.evaluate(model, images, landmarks, np.random.default_rng(options.seed), options.samples)
        curves = sam.rank_curve(model, images, landmarks, np.random.default_rng(options.seed), samples=options.samples)
    parts = ("shape", "appearance")
    result: dict[str, Any] = {
        name: {part: asdict(getattr(measures, f"{part}_{name}")) for part in parts} for name in ("generalisation", "specificity")
    }
    result["compactness"] = {part: getattr(measures, f"{part}_compactness") for part in parts}
    result |= {"curves": asdict(curves), "images": measures.images, "samples": measures.samples}
    lines = [f"{len(images)} images, {measures.samples} samples (shape: mm, appearance: intensity)"]
    for name in ("generalisation", "specificity"):
        for part, measure in result[name].items():
            lines.append(f"{name} {part}: {measure['mean']:.4g} +- {measure['error']:.2g}")
    for part, shares in result["compactness"].items():
        lines.append(f"compactness {part}: {int(np.searchsorted(shares, 0.95)) + 1} of {len(shares)} modes hold 95 %")
    report(result, "\n".join(lines), as_json=options.json)


def sam_show(options: argparse.Namespace) -> None:
    """`augreg sam show`."""
    check_output(options.output, PAGES)
    images = _images(options.images or [])
    given = _correspondences(options, len(images))
    model = sam.read_model(options.model)
    from augreg.report import evaluation_diagrams, model_page

    diagrams = []
    if images:
        with bar("evaluate", None):
            landmarks = _landmarks(model, images, given)
            diagrams = evaluation_diagrams(model, images, landmarks, np.random.default_rng(0))
    with io.atomic(options.output) as temporary:
        temporary.write_text(model_page(model, diagrams), encoding="utf-8")


def synthesize(options: argparse.Namespace) -> None:
    """`augreg synthesize`."""
    model = sam.read_model(options.model)
    from augreg.synthesis import AppearancePairs, SmoothField, write_shards

    how = {name: getattr(options, name) for name in ("appearance", "amplitude", "pose", "intensity")}
    rest = tuple(SmoothField(spacing, (size,)) for spacing, size in options.rest)
    generator = AppearancePairs(model, **how, rest=rest)
    begin, state = time.perf_counter(), None
    settings = {name: getattr(options, name) for name in ("seed", "shard_size", "workers", "scheduler")}
    with bar("synthesize", options.count) as update:
        for state in write_shards(generator, options.output, options.count, **settings):
            update(state.written, f"shard {state.shard}")
    assert state is not None  # there is at least one shard
    for warning in state.warnings:
        say(f"augreg: warning: {warning}")
    result = {
        "pairs": state.written,
        "shards": -(-options.count // options.shard_size),
        "seed": options.seed,
        "kept": state.kept,
        "repaired": state.repaired,
        "shrunk": state.shrunk,
        "rejected": state.rejected,
        "bytes": sum(path.stat().st_size for path in Path(options.output).glob("pairs-*.tar")),
        "seconds": time.perf_counter() - begin,
        "warnings": list(state.warnings),
    }
    text = "{pairs} pairs ({kept} were there) in {shards} shards, {rejected} draws replaced, {seconds:.1f} s"
    report(result, f"{options.output}: " + text.format(**result), as_json=options.json)


def train(options: argparse.Namespace) -> None:
    """`augreg train`."""
    from augreg import training  # torch: only here

    machine = training.Machine(options.device, None, options.precision, compiled=options.compile)
    settings = training.TrainingOptions(steps=options.steps, learning_rate=options.learning_rate, machine=machine)
    # before the work
    known = training.run_settings(options.output) if options.resume else None
    with training.joined(options.device) as team:
        lesson = _lesson(options, team)
        network = _first_network(options, lesson.ndim, known or {})
        wanted = _run_settings(options, lesson, network)
        if known is None:
            training.claim(options.output, wanted, writes=team.rank == 0)
        else:
            training.check_same(options.output, known, wanted)
        states = training.train(
            network,
            lesson.batches,
            lesson.spacing,
            options.output,
            settings,
            objective=_objective(options),
            held_out=lesson.held_out,
            team=team,
            resume=options.resume,
        )
        state = None
        with training.tensorboard_log(Path(options.output) / "logs") as log, bar("train", options.steps) as update:
            for state in states:
                update(state.step, f"loss {state.loss:.3f}, EPE {state.epe:.2f} (without {state.epe_without:.2f})")
                if log is not None and team.rank == 0:
                    log(state)
    if team.rank > 0:
        return
    if log is None:
        say("augreg: no curves written: TensorBoard is not installed; pip install augreg[logs]")
    weights = Path(options.output) / training.WEIGHTS
    result: dict[str, Any] = {"weights": str(weights), "steps": options.steps}
    text = f"{weights}: {options.steps} steps"
    if state is not None:
        result |= {name: value for name, value in asdict(state).items() if name != "step"}
        text += f", EPE {state.epe:.2f} voxels on the last pairs (without registration {state.epe_without:.2f})"
        if np.isfinite(state.epe_held_out):
            text += f", {state.epe_held_out:.2f} on pairs held out"
    report(result, text, as_json=options.json)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What a network is to learn from."""

    batches: training.Batches
    held_out: PairBatch | None
    spacing: tuple[float, ...]
    ndim: int
    content: str


def _lesson(options: argparse.Namespace, team: training.Team) -> _Lesson:
    """Pairs drawn from a model, or those of a folder of shards but for the last ones."""
    from augreg import training

    if options.symmetric and options.batch % 2:
        raise ValueError(f"--symmetric: expected an even --batch, of pairs and the same pairs exchanged, got {options.batch}")
    batch = options.batch // 2 if options.symmetric else options.batch
    directions = training.in_both_directions if options.symmetric else (lambda batches: batches)
    part = team.part(batch)
    if Path(options.source).is_dir():
        if options.curriculum:
            raise ValueError(
                "--curriculum: expected a model to draw from, got a folder of pairs, whose size is settled; leave it out"
            )
        pairs = training.read_pairs(options.source)
        kept = len(pairs) - min(_HELD_OUT, len(pairs) // 10)
        if kept < options.batch:
            raise ValueError(
                f"{options.source}: expected at least a batch of {options.batch} pairs beside those held out, got {kept}; "
                "synthesize more, or lower --batch"
            )
        batches = training.pairs_from_memory(pairs[:kept], batch, options.seed, part=part)
        unseen = pairs[kept:] if kept < len(pairs) else None
        content = training.pairs_hash(pairs)
        return _Lesson(directions(batches), unseen, training.shard_spacing(options.source), pairs.flow.shape[1], content)
    model = sam.read_model(options.source)
    amplitude = training.growing(options.steps, share=options.curriculum)
    batches = training.pairs_from_model(model, batch, options.seed, amplitude=amplitude, part=part)
    unseen = training.held_out(training.pairs_from_model(model, _HELD_OUT // 2, options.seed)) if team.rank == 0 else None
    return _Lesson(directions(batches), unseen, model.template.spacing, model.template.ndim, training.model_hash(model))


def _objective(options: argparse.Namespace) -> training.Objective:
    """What is minimised: the end-point error, and what else has a weight."""
    from augreg import training

    objective: training.Objective = training.supervised
    if options.likeness:
        objective = training.Alike(objective, options.likeness)
    return training.Smooth(objective, options.smoothness) if options.smoothness else objective


def _run_settings(options: argparse.Namespace, lesson: _Lesson, network: FlowNet) -> dict[str, Any]:
    """What the weights of a run depend on; where it computes changes their last digits alone, more steps are allowed."""
    names = ("batch", "seed", "learning_rate", "curriculum", "likeness", "smoothness", "symmetric", "precision")
    return {"data": lesson.content, **network.description, **{name: getattr(options, name) for name in names}}


def _first_network(options: argparse.Namespace, ndim: int, known: Mapping[str, Any]) -> FlowNet:
    """The network that training begins with; what is not asked for is that of a run that is known."""
    from augreg import training
    from augreg.networks import ARCHITECTURES, read_network

    if options.init is None:
        architecture = ARCHITECTURES[options.architecture or known.get("architecture", "FlowNetS")]
        width = options.width or known.get("width", _WIDTH)
        window = known.get("window") if options.window is None else options.window
        return training.seeded_network(options.seed, ndim, width, architecture=architecture, window=window)
    network = read_network(options.init).network
    found = network.description
    wanted = {name: getattr(options, name) for name in ("architecture", "width", "window")} | {"ndim": ndim, "channels": 1}
    for name, value in wanted.items():
        if value is not None and found[name] != value:
            raise ValueError(f"{options.init}: expected a network with {name} {value}, got {found[name]}; start without --init")
    return network


def demo(options: argparse.Namespace) -> None:
    """`augreg demo`."""
    from augreg import demo as story

    event = None
    with bar("demo", 1.0) as update:
        for event in story.run(Path(options.output), images=options.images, lesson=story.Lesson(seed=options.seed)):
            update(event.done, event.message)
    assert event is not None
    report(event.summary, event.message, as_json=options.json)


@contextmanager
def _files_named(options: argparse.Namespace) -> Iterator[list[str]]:
    """Warnings of the block, for later; in them and in errors a file's name stands behind `labels[4]`."""
    told: list[str] = []

    def with_file(name: str, paths: Sequence[str], number: int) -> str:
        return f"{name} ({paths[number]})" if number < len(paths) else name

    def named(text: str) -> str:
        files = {name: getattr(options, name) or [] for name in ("images", "labels", "landmarks")}
        return re.sub(r"\b(images|labels|landmarks)\[(\d+)\]", lambda m: with_file(m[0], files[m[1]], int(m[2])), text)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield told
        except ValueError as error:
            raise ValueError(named(str(error))) from error
    told += dict.fromkeys(named(str(warning.message)) for warning in caught)


def _structures(model: sam.AppearanceModel) -> list[int]:
    """Labels whose structures give the landmarks, or where others do, those that the model carries."""
    if model.contours is not None:
        return list(model.contours.structures)
    return [] if model.label_maps is None else [label for label in np.unique(model.label_maps).tolist() if label]


def _dropped(model: sam.AppearanceModel, labels: Sequence[Labels] | None, files: Sequence[str] | None) -> dict[int, list[str]]:
    """Structures without landmarks, and the label maps that lack them."""
    if model.contours is None or labels is None or files is None:
        return {}
    return {label: [files[i] for i in lacking] for label, lacking in sam.dropped(labels).items()}


def _images(paths: Sequence[str]) -> list[Image]:
    return [io.read_image(path) for path in paths]


def _landmarks(model: sam.AppearanceModel, images: Sequence[Image], given: dict[str, Any]) -> Sequence[npt.ArrayLike]:
    """Of the model, in other images: as given, from label maps, or by registration."""
    if "landmarks" in given:
        return given["landmarks"]
    if not given:
        from augreg.lp import LPRegistration

        given = {"registration": LPRegistration(transform="bspline")}
    return sam.find_landmarks(model, images, **given)


def _correspondences(options: argparse.Namespace, count: int) -> dict[str, Any]:
    for name, read in (("labels", io.read_labels), ("landmarks", io.read_points)):
        paths = getattr(options, name)
        if paths is not None:
            if len(paths) != count:
                raise ValueError(f"--{name}: expected one file for each of the {count} images, got {len(paths)}")
            return {name: [read(path) for path in paths]}
    return {}
