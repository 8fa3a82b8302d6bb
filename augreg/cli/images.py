"""Commands on images and transforms: register, warp, points, transform, evaluate."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from augreg import io, metrics
from augreg.cli.output import check_output, report, say
from augreg.cli.progress import bar
from augreg.grid import Grid
from augreg.image import Image, Labels
from augreg.registration import State
from augreg.transforms import Transform
from augreg.warp import set_threads
from augreg.warp import warp as pull_back

_TRANSFORM_SUFFIXES = (*io.TRANSFORM_SUFFIXES, *io.FIELD_SUFFIXES)


def register(options: argparse.Namespace) -> None:
    """`augreg register`."""
    check_output(options.output, _TRANSFORM_SUFFIXES)
    for path, suffixes in ((options.warped, ()), (options.report, (".html", ".htm"))):
        if path is not None:
            check_output(path, suffixes)
    if options.threads is not None:
        set_threads(options.threads)
    _together(options, "labels")
    _together(options, "points")
    begin = time.perf_counter()
    fixed, moving = io.read_image(options.fixed), io.read_image(options.moving)
    state = State(0, 0, float("nan"), float("nan"), _identity(fixed), 0.0)
    with bar("register", 1.0) as update:
        for state in _states(options, fixed, moving):
            update(1 - 0.5 ** (0.2 * state.iteration + state.level), f"level {state.level}")
    seconds = time.perf_counter() - begin
    warnings = list(state.warnings)
    _write_all(options, fixed, moving, state.transform)
    share = metrics.folding(state.transform, fixed.grid)
    result = {
        "seconds": seconds,
        "solve_seconds": state.solve_seconds,
        "objective": state.objective,
        "gap": state.gap,
        "keypoints": state.keypoints,
        "levels": state.level + 1,
        "folding": share,
        "warnings": warnings,
    }
    for warning in warnings:
        say(f"augreg: warning: {warning}")
    text = f"{1e3 * seconds:.0f} ms, objective {state.objective:.4g}, {state.keypoints} keypoints, folding {share:.2%}"
    report(result, f"{options.output}: {text}", as_json=options.json)


def warp(options: argparse.Namespace) -> None:
    """`augreg warp`."""
    check_output(options.output)
    transform, grid = io.read_transform(options.transform), io.read_image(options.reference).grid
    how = {"interpolation": options.interpolation, "fill": options.fill}
    if options.labels:
        io.write_image(pull_back(io.read_labels(options.moving), transform, grid, **how), options.output)
    else:
        io.write_image(pull_back(io.read_image(options.moving), transform, grid, **how), options.output)


def points(options: argparse.Namespace) -> None:
    """`augreg points`."""
    check_output(options.output, (".csv",))
    transform, given = io.read_transform(options.transform), io.read_points(options.points)
    io.write_points(transform(given), options.output)


def compose(options: argparse.Namespace) -> None:
    """`augreg transform compose`."""
    check_output(options.output, _TRANSFORM_SUFFIXES)
    product = io.read_transform(options.first) @ io.read_transform(options.second)
    io.write_transform(product, options.output, _reference(options))


def invert(options: argparse.Namespace) -> None:
    """`augreg transform invert`."""
    check_output(options.output, _TRANSFORM_SUFFIXES)
    transform, grid = io.read_transform(options.transform), _reference(options)
    inverse = transform.inverse(grid)
    if grid is not None:
        miss = np.linalg.norm(transform(inverse(grid.points())) - grid.points(), axis=-1)
        share = float(np.mean(miss > 0.1 * min(grid.spacing)))
        if share > 0:
            say(f"augreg: warning: {share:.2%} of the voxels miss by more than a tenth of a voxel: no inverse there")
    io.write_transform(inverse, options.output, grid)


def convert(options: argparse.Namespace) -> None:
    """`augreg transform convert`."""
    check_output(options.output, _TRANSFORM_SUFFIXES)
    io.write_transform(io.read_transform(options.transform), options.output, _reference(options))


def jacobian(options: argparse.Namespace) -> None:
    """`augreg transform jacobian`."""
    check_output(options.output)
    transform, grid = io.read_transform(options.transform), io.read_image(options.reference).grid
    determinant = metrics.jacobian_determinant(transform, grid).astype(np.float32)
    io.write_image(Image(determinant, grid), options.output)


def evaluate(options: argparse.Namespace) -> None:
    """`augreg evaluate`."""
    _together(options, "labels")
    _together(options, "points")
    grid, transform = io.read_image(options.fixed).grid, io.read_transform(options.transform)
    landmarks = [path and io.read_points(path) for path in (options.fixed_points, options.moving_points)]
    fixed_labels = moved_labels = None
    if options.fixed_labels:
        fixed_labels = io.read_labels(options.fixed_labels)
        moved_labels = pull_back(io.read_labels(options.moving_labels), transform, fixed_labels.grid)
    result = metrics.evaluate(
        transform,
        grid,
        fixed_points=landmarks[0],
        moving_points=landmarks[1],
        fixed_labels=fixed_labels,
        moved_labels=moved_labels,
    )
    report(result, "\n".join(_lines(result)), as_json=options.json)


def _states(options: argparse.Namespace, fixed: Image, moving: Image) -> Iterator[State]:
    """The states of the registration that the options ask for."""
    given: dict[str, Any] = {
        "fixed_mask": _labels(options.fixed_mask),
        "moving_mask": _labels(options.moving_mask),
        "fixed_labels": _labels(options.fixed_labels),
        "moving_labels": _labels(options.moving_labels),
        "fixed_points": options.fixed_points and io.read_points(options.fixed_points),
        "moving_points": options.moving_points and io.read_points(options.moving_points),
        "initial": options.initial and io.read_transform(options.initial),
    }
    if options.model is not None:
        from augreg.training import FlowRegistration  # torch: only where a network is asked for

        return FlowRegistration.from_file(options.model).steps(fixed, moving, **given)
    from augreg.lp import LPRegistration

    method = LPRegistration(
        transform=options.transform,
        criterion=options.criterion,
        grid_spacing=options.grid_spacing,
        tolerance=options.tolerance,
        budget=options.budget,
    )
    return method.steps(fixed, moving, **given)


def _write_all(options: argparse.Namespace, fixed: Image, moving: Image, transform: Transform) -> None:
    """All outputs, or none: what was written before a failure is removed."""
    written: list[str] = []
    try:
        io.write_transform(transform, options.output, fixed.grid)
        written.append(options.output)
        if options.warped is not None:
            io.write_image(pull_back(moving, transform, fixed.grid), options.warped)
            written.append(options.warped)
        if options.report is not None:
            from augreg.report import registration_page  # matplotlib: only where a page is asked for

            with io.atomic(options.report) as temporary:
                temporary.write_text(registration_page(fixed, moving, transform), encoding="utf-8")
    except BaseException:
        for path in written:
            Path(path).unlink(missing_ok=True)
        raise


def _identity(image: Image) -> Transform:
    from augreg.transforms import Affine

    return Affine.identity(image.ndim)


def _labels(path: str | None) -> Labels | None:
    return io.read_labels(path) if path else None


def _reference(options: argparse.Namespace) -> Grid | None:
    return io.read_image(options.reference).grid if options.reference else None


def _together(options: argparse.Namespace, name: str) -> None:
    if (getattr(options, f"fixed_{name}") is None) != (getattr(options, f"moving_{name}") is None):
        raise ValueError(f"--fixed-{name}, --moving-{name}: expected both or none, got one of them")


def _lines(result: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in result.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}: " + ("-" if value is None else f"{value:.4g}")
