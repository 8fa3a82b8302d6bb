"""Commands that learn from images: sam, synthesize, train, demo."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from augreg import io, sam
from augreg.cli.output import PAGES, check_output, plain_warnings, report, say
from augreg.cli.progress import bar
from augreg.image import Image


def sam_fit(options: argparse.Namespace) -> None:
    """`augreg sam fit`."""
    check_output(options.output, (".npz",))
    begin = time.perf_counter()
    images = _images(options.images)
    given = _correspondences(options, len(images))
    if not given:
        from augreg.lp import LPRegistration

        given = {"registration": LPRegistration(transform="bspline")}
    template = io.read_image(options.template) if options.template else None
    locality = sam.Locality(levels=options.levels, taper=options.taper)
    with bar("register to a template, fit" if "registration" in given else "fit", None):
        model = sam.fit_appearance_model(images, template=template, locality=locality, **given)
    sam.write_model(model, options.output)
    if "registration" in given:
        # not before: an error is the only line on stderr
        say("augreg: no labels or landmarks given: every image was registered to a template")
    result = {
        "images": len(images),
        "landmarks": len(model.landmarks),
        "shape_modes": len(model.shape.variance),
        "appearance_modes": len(model.appearance.variance),
        "seconds": time.perf_counter() - begin,
    }
    text = "{images} images, {landmarks} landmarks, {shape_modes} shape and {appearance_modes} appearance modes, {seconds:.1f} s"
    report(result, f"{options.output}: " + text.format(**result), as_json=options.json)


def sam_evaluate(options: argparse.Namespace) -> None:
    """`augreg sam evaluate`."""
    model, images = sam.read_model(options.model), _images(options.images)
    given = _correspondences(options, len(images))
    if not given:
        from augreg.lp import LPRegistration

        given = {"registration": LPRegistration(transform="bspline")}
    with bar("evaluate", None):
        landmarks = given["landmarks"] if "landmarks" in given else sam.find_landmarks(model, images, **given)
        measures = sam.evaluate(model, images, landmarks, np.random.default_rng(options.seed), options.samples)
    parts = ("shape", "appearance")
    result: dict[str, Any] = {
        name: {part: asdict(getattr(measures, f"{part}_{name}")) for part in parts} for name in ("generalisation", "specificity")
    }
    result["compactness"] = {part: getattr(measures, f"{part}_compactness") for part in parts}
    result |= {"images": measures.images, "samples": measures.samples}
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
    model = sam.read_model(options.model)
    from augreg.report import model_page

    with io.atomic(options.output) as temporary:
        temporary.write_text(model_page(model), encoding="utf-8")


def synthesize(options: argparse.Namespace) -> None:
    """`augreg synthesize`."""
    model = sam.read_model(options.model)
    from augreg.synthesis import AppearancePairs, write_shards

    begin, state = time.perf_counter(), None
    settings = {name: getattr(options, name) for name in ("seed", "shard_size", "workers", "scheduler")}
    with bar("synthesize", options.count) as update:
        for state in write_shards(AppearancePairs(model), options.output, options.count, **settings):
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


@plain_warnings()
def train(options: argparse.Namespace) -> None:
    """`augreg train`."""
    from augreg import training  # torch: only here
    from augreg.networks import read_network

    settings = training.TrainingOptions(steps=options.steps, device=options.device, learning_rate=options.learning_rate)
    if Path(options.source).is_dir():
        batches = training.pairs_from_shards(options.source, options.batch, options.seed)
        spacing, ndim = training.shard_spacing(options.source), batches(0).flow.shape[1]
    else:
        model = sam.read_model(options.source)
        batches = training.pairs_from_model(model, options.batch, options.seed)
        spacing, ndim = model.template.spacing, model.template.ndim
    network = read_network(options.init).network if options.init else training.seeded_network(options.seed, ndim, options.width)
    if network.ndim != ndim or network.channels != 1:
        raise ValueError(
            f"{options.init}: expected a {ndim}-D network of one channel for these pairs, got a {network.ndim}-D one of "
            f"{network.channels}; leave --init out to start anew"
        )
    state = None
    with bar("train", options.steps) as update:
        for state in training.train(network, batches, spacing, options.output, settings, resume=options.resume):
            update(state.step, f"loss {state.loss:.3f}, EPE {state.epe:.2f} (without {state.epe_without:.2f})")
    weights = Path(options.output) / training.WEIGHTS
    result: dict[str, Any] = {"weights": str(weights), "steps": options.steps}
    if state is not None:
        result |= {"loss": state.loss, "epe": state.epe, "epe_without": state.epe_without, "seconds": state.seconds}
    text = f"{weights}: {options.steps} steps"
    if state is not None:
        text += f", EPE {state.epe:.2f} voxels on the last pairs (without registration {state.epe_without:.2f})"
    report(result, text, as_json=options.json)


def demo(options: argparse.Namespace) -> None:
    """`augreg demo`."""
    from augreg import demo as story

    event = None
    with bar("demo", 1.0) as update:
        for event in story.run(Path(options.output), images=options.images, seconds=options.seconds):
            update(event.done, event.message)
    assert event is not None
    report(event.summary, event.message, as_json=options.json)


def _images(paths: Sequence[str]) -> list[Image]:
    return [io.read_image(path) for path in paths]


def _correspondences(options: argparse.Namespace, count: int) -> dict[str, Any]:
    for name, read in (("labels", io.read_labels), ("landmarks", io.read_points)):
        paths = getattr(options, name)
        if paths is not None:
            if len(paths) != count:
                raise ValueError(f"--{name}: expected one file for each of the {count} images, got {len(paths)}")
            return {name: [read(path) for path in paths]}
    return {}
