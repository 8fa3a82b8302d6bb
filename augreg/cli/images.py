"""Commands on images and transforms: register, warp, points, transform, evaluate."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from augreg import io, metrics
from augreg.cli.output import PAGES, TRANSFORMS, all_or_none, check_distinct, check_output, report, say
from augreg.cli.progress import bar
from augreg.grid import Grid
from augreg.image import Image, Labels
from augreg.registration import State
from augreg.transforms import Transform
from augreg.warp import set_threads
from augreg.warp import warp as pull_back

if TYPE_CHECKING:
    from augreg.chain import SteppedRegistration
    from augreg.lp import LPRegistration

# options of `register` that a network knows nothing of, and those that only a network knows
_OF_PROGRAMS = ("transform", "grid_spacing", "criterion", "rigid_mask", "tolerance", "budget")
_OF_NETWORKS = ("passes", "symmetric", "refine", "then_program")


def register(options: argparse.Namespace) -> None:
    """`augreg register`."""
    _check_register(options)
    _use_threads(options)
    begin = time.perf_counter()
    fixed, moving = io.read_image(options.fixed), io.read_image(options.moving)
    _check_grid_spacing(options.grid_spacing, fixed.grid)
    state = None
    with bar("register", 1.0) as update:
        for state in _states(options, fixed, moving):
            # how many steps are left is not known: the bar nears its end without reaching it
            update(1 - 0.5 ** (0.2 * state.iteration + state.level), f"level {state.level}")
        update(1.0, "")
    assert state is not None
    seconds = time.perf_counter() - begin
    _write(options, fixed, moving, state.transform)
    share = metrics.folding(state.transform, fixed.grid)
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
        say(f"augreg: warning: {warning}")
    lines = {
        "seconds": f"{seconds:.3f}, of these in the solver {state.solve_seconds:.3f}",
        "objective": f"{state.objective:.4g} (relative gap {state.gap:.1g})",
        "keypoints": f"{state.keypoints} at the last of {state.level + 1} levels",
        "folding": f"{share:.2%} of the voxels",
        "transform": options.output,
    }
    report(result, "\n".join(f"{name:10} {line}" for name, line in lines.items()), as_json=options.json)


def warp(options: argparse.Namespace) -> None:
    """`augreg warp`."""
    check_output(options.output, io.IMAGE_SUFFIXES)
    transform, grid = _read(options, options.transform), io.read_image(options.reference).grid
    moved: Image | Labels
    if options.labels:
        labels = io.read_labels(options.moving)
        moved = pull_back(labels, transform, grid, interpolation=options.interpolation, fill=_fill(options, labels))
    else:
        image = io.read_image(options.moving)
        moved = pull_back(image, transform, grid, interpolation=options.interpolation, fill=_fill(options, image))
    io.write_image(moved, options.output)
    say(f"{options.output}: {' x '.join(map(str, grid.shape))} {moved.values.dtype}")


def points(options: argparse.Namespace) -> None:
    """`augreg points`."""
    check_output(options.output, (".csv",))
    transform, given = _read(options, options.transform), io.read_points(options.points)
    io.write_points(transform(given), options.output)
    say(f"{options.output}: {len(given)} points")


def compose(options: argparse.Namespace) -> None:
    """`augreg transform compose`."""
    check_output(options.output, TRANSFORMS)
    product = _read(options, options.first) @ _read(options, options.second)
    io.write_transform(product, options.output, _reference(options))


def invert(options: argparse.Namespace) -> None:
    """`augreg transform invert`."""
    check_output(options.output, TRANSFORMS)
    transform, grid = _read(options, options.transform), io.read_image(options.reference).grid
    _same_dimension(transform, grid)
    inverse = transform.inverse(grid)
    miss = np.linalg.norm(transform(inverse(grid.points())) - grid.points(), axis=-1)
    share = float(np.mean(miss > 0.1 * min(grid.spacing)))
    if share > 0:
        say(f"augreg: warning: {share:.2%} of the voxels miss by more than a tenth of a voxel: no inverse there")
    io.write_transform(inverse, options.output, grid)


def convert(options: argparse.Namespace) -> None:
    """`augreg transform convert`."""
    check_output(options.output, TRANSFORMS)
    io.write_transform(_read(options, options.transform), options.output, _reference(options))


def jacobian(options: argparse.Namespace) -> None:
    """`augreg transform jacobian`."""
    check_output(options.output, io.IMAGE_SUFFIXES)
    transform, grid = _read(options, options.transform), io.read_image(options.reference).grid
    _same_dimension(transform, grid)
    determinant = metrics.jacobian_determinant(transform, grid).astype(np.float32)
    io.write_image(Image(determinant, grid), options.output)
    say(f"{options.output}: det from {determinant.min():.4g} to {determinant.max():.4g}")


def evaluate(options: argparse.Namespace) -> None:
    """`augreg evaluate`."""
    _both_or_none(options, "labels")
    _both_or_none(options, "points")
    grid, transform = io.read_image(options.fixed).grid, _read(options, options.transform)
    _same_dimension(transform, grid)
    landmarks = [path and io.read_points(path) for path in (options.fixed_points, options.moving_points)]
    result = metrics.evaluate(
        transform,
        grid,
        fixed_points=landmarks[0],
        moving_points=landmarks[1],
        fixed_labels=_labels(options.fixed_labels),
        moving_labels=_labels(options.moving_labels),
    )
    report(result, "\n".join(_lines(result)), as_json=options.json)


def _check_register(options: argparse.Namespace) -> None:
    """Everything that can be known to be wrong before the work starts."""
    check_output(options.output, TRANSFORMS)
    if options.warped is not None:
        check_output(options.warped, io.IMAGE_SUFFIXES)
    if options.report is not None:
        check_output(options.report, PAGES)
    outputs = {"-o": options.output, "--warped": options.warped, "--report": options.report}
    inputs = {"FIXED": options.fixed, "MOVING": options.moving, "--initial": options.initial, "--model": options.model}
    check_distinct(outputs, inputs)
    for name in ("labels", "points"):
        _both_or_none(options, name)
    alone = [name for name in _OF_NETWORKS if getattr(options, name)] if options.model is None else []
    if alone:
        raise ValueError(f"{_typed(alone)}: expected --model, whose network this is about, got none; name one or leave it out")


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
        "fixed_mask": _labels(options.fixed_mask),
        "moving_mask": _labels(options.moving_mask),
        "fixed_labels": _labels(options.fixed_labels),
        "moving_labels": _labels(options.moving_labels),
        "fixed_points": options.fixed_points and io.read_points(options.fixed_points),
        "moving_points": options.moving_points and io.read_points(options.moving_points),
        "initial": options.initial and _read(options, options.initial),
    }
    if options.model is not None:
        method = _network(options)
        if options.then_program:
            from augreg.chain import Chained

            return Chained(method, _program(options)).steps(fixed, moving, **given)
        ignored = [name for name in _OF_PROGRAMS if getattr(options, name) is not None]
        states = method.steps(fixed, moving, **given)
        return (replace(state, warnings=(*state.warnings, *_without_effect(ignored))) for state in states)
    if options.criterion == "classes" and options.fixed_labels is None:
        from augreg.lp import superpixel_classes

        given |= {"fixed_labels": superpixel_classes(fixed), "moving_labels": superpixel_classes(moving)}
    given["rigid_mask"] = _labels(options.rigid_mask)
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
    )


def _network(options: argparse.Namespace) -> SteppedRegistration:
    """Registration by a network: so many passes, the last one refined."""
    from augreg.chain import Chained
    from augreg.networks import RefinedFlow, SymmetricFlow, read_network  # torch: only where a network is asked for
    from augreg.networks.predictor import Predictor
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


def _write(options: argparse.Namespace, fixed: Image, moving: Image, transform: Transform) -> None:
    with all_or_none(options.output, options.warped, options.report) as (output, *others):
        io.write_transform(transform, output, fixed.grid)
        if options.warped is not None:
            io.write_image(pull_back(moving, transform, fixed.grid), others.pop(0))
        if options.report is not None:
            from augreg.report import registration_page  # matplotlib: only where a page is asked for

            others.pop(0).write_text(registration_page(fixed, moving, transform), encoding="utf-8")


def _fill(options: argparse.Namespace, moving: Image | Labels) -> float:
    if moving.values.dtype.kind in "biu" and not math.isfinite(options.fill):
        raise ValueError(f"--fill: expected a finite number for {moving.values.dtype} pixels, got {options.fill}")
    return options.fill


def _read(options: argparse.Namespace, path: str) -> Transform:
    return io.read_transform(path, convention=options.convention)


def _labels(path: str | None) -> Labels | None:
    return io.read_labels(path) if path else None


def _reference(options: argparse.Namespace) -> Grid | None:
    return io.read_image(options.reference).grid if options.reference else None


def _same_dimension(transform: Transform, grid: Grid) -> None:
    if transform.ndim != grid.ndim:
        raise ValueError(f"transform: expected a {grid.ndim}-D one, as the image, got {transform.ndim}-D")


def _both_or_none(options: argparse.Namespace, name: str) -> None:
    if (getattr(options, f"fixed_{name}") is None) != (getattr(options, f"moving_{name}") is None):
        raise ValueError(f"--fixed-{name}, --moving-{name}: expected both or none, got one of them")


def _lines(result: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in result.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}: " + ("-" if value is None else f"{value:.4g}")
