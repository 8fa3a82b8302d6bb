"""`augreg register`."""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from augreg import io, metrics
from augreg.cli.inputs import background, check_both_or_none, fill_of, labels_of, transform_of
from augreg.cli.output import PAGES, TRANSFORMS, all_or_none, check_distinct, check_output, rehearse, report, say_warning
from augreg.cli.progress import bar
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from augreg.registration import State
from augreg.threads import set_threads

if TYPE_CHECKING:
    from augreg.lp import LPRegistration
    from augreg.registration.chained import SteppedRegistration

# options that a network knows nothing of, and those that only a network knows
_OF_PROGRAMS = ("transform", "grid_spacing", "criterion", "rigid_mask", "tolerance", "budget", "rotation")
_OF_NETWORKS = ("passes", "symmetric", "refine", "then_program")

# inputs beside the images
_FILES = (
    "initial",
    "model",
    "fixed_labels",
    "moving_labels",
    "fixed_mask",
    "moving_mask",
    "rigid_mask",
    "fixed_points",
    "moving_points",
)


def register(options: argparse.Namespace) -> None:
    """`augreg register`."""
    _check_register(options)
    _use_threads(options)
    begin = time.perf_counter()
    fixed, moving = io.read_image(options.fixed), io.read_image(options.moving)
    _check_grid_spacing(options.grid_spacing, fixed.grid)
    fill = background(moving) if options.fill is None else fill_of(options.fill, moving)
    if options.warped is not None:
        rehearse(moving, options.warped)
    state = None
    with bar("register", 1.0) as update:
        for state in _states(options, fixed, moving):
            # how many steps are left is not known: the bar nears its end without reaching it
            update(1 - 0.5 ** (0.2 * state.iteration + state.level), f"level {state.level}")
        update(1.0, "")
    assert state is not None
    seconds = time.perf_counter() - begin
    # all that may fail comes first: what is written is whole
    share = metrics.folding(state.transform, fixed.grid)
    moved = None if options.warped is None else warp(moving, state.transform, fixed.grid, fill=fill)
    page = None if options.report is None else _page(fixed, moving, state.transform)
    _write(options, state.transform, fixed.grid, moved, page)
    result = {
        "seconds": seconds,
        "solve_seconds": state.solve_seconds,
        "objective": state.objective,
        "gap": state.gap,
        "keypoints": state.keypoints,
        "levels": state.level + 1,
        "folding": share,
        "warnings": list(state.warnings),
    }
    for warning in state.warnings:
        say_warning(warning)
    lines = {
        "seconds": f"{seconds:.3f}, of these in the solver {state.solve_seconds:.3f}",
        "objective": f"{state.objective:.4g} (relative gap {state.gap:.1g})",
        "keypoints": f"{state.keypoints} at the last of {state.level + 1} levels",
        "folding": f"{share:.2%} of the voxels",
        "transform": options.output,
    }
    report(result, "\n".join(f"{name:10} {line}" for name, line in lines.items()), as_json=options.json)


def _check_register(options: argparse.Namespace) -> None:
    """Everything that can be known to be wrong before the work starts."""
    check_output(options.output, TRANSFORMS)
    if options.warped is not None:
        check_output(options.warped, io.IMAGE_SUFFIXES)
    if options.report is not None:
        check_output(options.report, PAGES)
    outputs = {"-o": options.output, "--warped": options.warped, "--report": options.report}
    inputs = {"FIXED": options.fixed, "MOVING": options.moving}
    check_distinct(outputs, inputs | {_typed([name]): getattr(options, name) for name in _FILES})
    for name in ("labels", "points"):
        check_both_or_none(options, name)
    alone = [name for name in _OF_NETWORKS if getattr(options, name)] if options.model is None else []
    if alone:
        raise ValueError(f"{_typed(alone)}: expected --model, whose network this is about, got none; name one or leave it out")
    if options.fill is not None and options.warped is None:
        raise ValueError("--fill: expected --warped, whose outside this is about, got none; name a file or leave --fill out")
    if options.report is not None:
        importlib.import_module("augreg.report")  # a broken matplotlib is told before the work


def _check_grid_spacing(spacing: float | None, grid: Grid) -> None:
    """Control points closer than voxels have no data, and can be more than memory holds."""
    if spacing is not None and spacing < min(grid.spacing):
        raise ValueError(f"--grid-spacing: expected at least the size of a voxel, {min(grid.spacing):g} mm, got {spacing:g}")


def _use_threads(options: argparse.Namespace) -> None:
    if options.threads is None:
        return
    set_threads(options.threads)
    if options.model is not None:
        # torch reads it when it is imported, which is later
        os.environ["OMP_NUM_THREADS"] = str(options.threads)


def _states(options: argparse.Namespace, fixed: Image, moving: Image) -> Iterator[State]:
    """The states of the registration that the options ask for."""
    given: dict[str, Any] = {
        "fixed_mask": labels_of(options.fixed_mask),
        "moving_mask": labels_of(options.moving_mask),
        "fixed_labels": labels_of(options.fixed_labels),
        "moving_labels": labels_of(options.moving_labels),
        "fixed_points": options.fixed_points and io.read_points(options.fixed_points),
        "moving_points": options.moving_points and io.read_points(options.moving_points),
        "initial": options.initial and transform_of(options, options.initial),
    }
    if options.model is not None:
        method = _network(options)
        if options.then_program:
            from augreg.registration.chained import Chained

            return Chained(method, _program(options)).steps(fixed, moving, **given)
        ignored = [name for name in _OF_PROGRAMS if getattr(options, name) is not None]
        states = method.steps(fixed, moving, **given)
        return (replace(state, warnings=(*state.warnings, *_without_effect(ignored))) for state in states)
    if options.criterion == "classes" and options.fixed_labels is None:
        from augreg.lp import superpixel_classes

        given |= {"fixed_labels": superpixel_classes(fixed), "moving_labels": superpixel_classes(moving)}
    given["rigid_mask"] = labels_of(options.rigid_mask)
    return _program(options).steps(fixed, moving, **given)


def _program(options: argparse.Namespace) -> LPRegistration:
    """Registration by linear programs as asked for."""
    from augreg.lp import LPRegistration

    return LPRegistration(
        transform=options.transform or "bspline",
        criterion=options.criterion or "ncc",
        grid_spacing=options.grid_spacing,
        tolerance=options.tolerance or 0.0,
        budget=options.budget,
        **({} if options.rotation is None else {"rotation": options.rotation}),
    )


def _network(options: argparse.Namespace) -> SteppedRegistration:
    """Registration by a network: so many passes, the last one refined."""
    from augreg.networks import RefinedFlow, SymmetricFlow, read_network  # torch: only where a network is asked for
    from augreg.networks.predictor import Predictor
    from augreg.registration.chained import Chained
    from augreg.training import FlowRegistration

    file = read_network(options.model)
    predictor: Predictor = SymmetricFlow(file.network) if options.symmetric else file.network
    once = FlowRegistration(predictor, file.spacing)
    method: SteppedRegistration = once
    if options.refine:
        method = FlowRegistration(RefinedFlow(predictor, options.refine), file.spacing)
    for _ in range((options.passes or 1) - 1):
        method = Chained(once, method)
    return method


def _without_effect(names: Sequence[str]) -> list[str]:
    """A warning, if there is something to warn of."""
    return [f"{_typed(names)}: without effect with --model"] if names else []


def _typed(names: Sequence[str]) -> str:
    """Options as they are typed."""
    return ", ".join("--" + name.replace("_", "-") for name in names)


def _page(fixed: Image, moving: Image, transform: Transform) -> str:
    from augreg.report import registration_page  # matplotlib: only where a page is asked for

    return registration_page(fixed, moving, transform)


def _write(options: argparse.Namespace, transform: Transform, grid: Grid, moved: Image | None, page: str | None) -> None:
    with all_or_none(options.output, options.warped, options.report) as (output, *others):
        io.write_transform(transform, output, grid)
        if moved is not None:
            io.write_image(moved, others.pop(0))
        if page is not None:
            others.pop(0).write_text(page, encoding="utf-8")
