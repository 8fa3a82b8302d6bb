"""`augreg register`: one image aligned to another."""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import augreg as ar
from augreg.cli.arguments import degrees, not_negative, positive, tile
from augreg.cli.inputs import (
    check_both_or_none,
    check_sizes,
    check_units,
    fill_of,
    image_of,
    labels_of,
    points_of,
    transform_of,
    units_of,
)
from augreg.cli.methods import PRESETS, network_of, program_of
from augreg.cli.options import FIXED, MOVING, TRANSFORM, Commands, command_of, convention_option, json_option
from augreg.cli.output import (
    PAGES,
    all_or_none,
    check_distinct,
    check_image,
    check_output,
    check_transform,
    rehearse,
    report,
    say_warning,
)
from augreg.cli.slides import is_pyramid, warped_slide
from augreg.geometry.jacobian import mirrors, unmirrored
from augreg.progress import bar
from augreg.registration.clock import kept

if TYPE_CHECKING:
    from augreg.registration import State

# writes the moved image to a path
Moved = Callable[[Path], None]

# options that a network knows nothing of, and those that only a network knows
_OF_PROGRAMS = (
    "preset",
    "transform",
    "grid_spacing",
    "criterion",
    "rigid_mask",
    "tolerance",
    "budget",
    "rotation",
    "mirror",
    "contrast",
)
_OF_NETWORKS = ("passes", "symmetric", "refine", "then_program", "device", "tile")

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


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "register",
        run,
        "align MOVING to FIXED; the transform maps fixed to moving points",
        "augreg register fixed.nii.gz moving.nii.gz -o transform.h5 --warped moved.nii.gz",
    )
    parser.add_argument("fixed", metavar="FIXED", help=FIXED)
    parser.add_argument("moving", metavar="MOVING", help=MOVING)
    parser.add_argument("-o", "--output", metavar="TRANSFORM", required=True, help=TRANSFORM)
    parser.add_argument(
        "--warped", metavar="IMAGE", help="also write the moving image seen through the transform, same pixel type"
    )
    parser.add_argument(
        "--fill",
        type=float,
        metavar="V",
        help="of --warped, outside the moving image (default: as of augreg warp)",
    )
    parser.add_argument("--report", metavar="PAGE.html", help="also write a page with pictures before and after")
    json_option(parser)
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="what for: people who differ (a rough affine map, then a dense stage), or a quick B-spline (default default)",
    )
    parser.add_argument("--transform", choices=("rigid", "similarity", "affine", "bspline"), help="kind (default bspline)")
    parser.add_argument(
        "--grid-spacing",
        type=positive(float),
        metavar="MM",
        help="of the B-spline's control points, mm (default a sixteenth of FIXED's longest side)",
    )
    parser.add_argument(
        "--criterion",
        choices=("ncc", "ssd", "mi", "labels", "classes"),
        help="what is compared (default ncc, for two stains too); classes are those of superpixels unless label maps are given",
    )
    parser.add_argument(
        "--contrast", choices=("same", "any"), help="any: MOVING may look like the negative of FIXED (ncc; default same)"
    )
    parser.add_argument("--channel", metavar="N", help="number from 0, or name, of the channel that is looked at in both images")
    parser.add_argument("--initial", metavar="TRANSFORM", help="a first guess")
    convention_option(parser)
    parser.add_argument("--fixed-labels", metavar="F", help="label map, for --criterion labels")
    parser.add_argument("--moving-labels", metavar="M", help="the same of MOVING")
    parser.add_argument("--fixed-mask", metavar="F", help="where to look: voxels that are not 0")
    parser.add_argument("--moving-mask", metavar="M", help="the same of MOVING")
    parser.add_argument("--rigid-mask", metavar="F", help="where the transform is to be locally rigid, on FIXED: not 0")
    parser.add_argument("--fixed-points", metavar="F", help="landmarks (as of `augreg points`) that must meet their partners")
    parser.add_argument("--moving-points", metavar="M", help="the same of MOVING")
    parser.add_argument("--tolerance", type=not_negative, metavar="MM", help="landmarks must meet within so many mm (default 0)")
    parser.add_argument(
        "--rotation", type=degrees, metavar="DEGREES", help="how far the start may be turned: 180 finds any rotation (default 15)"
    )
    parser.add_argument(
        "--mirror",
        action="store_const",
        const=True,
        help="try mirrored images, too: sections that lie on their other side, headers whose axes point the wrong way",
    )
    parser.add_argument(
        "--budget",
        type=positive(float),
        metavar="SECONDS",
        help="of the registration, without reading and writing files: then the best transform so far is taken",
    )
    parser.add_argument("--threads", type=positive(int), metavar="T", help="at most the number of cores, the default")
    parser.add_argument(
        "--model",
        metavar="WEIGHTS",
        help="register with this network instead of the linear program: a file, or sunnybrook-sax, which comes with augreg",
    )
    parser.add_argument(
        "--dense",
        action=argparse.BooleanOptionalAction,
        help="end with a dense stage on local correlation, or not (default: with a B-spline by ncc)",
    )
    network = parser.add_argument_group("with --model")
    network.add_argument("--passes", type=positive(int), metavar="N", help="of the network, each on what is left (default 1)")
    network.add_argument("--symmetric", action="store_true", help="average what it says in both directions")
    network.add_argument("--refine", type=positive(int), metavar="STEPS", help="gradient steps on the pair after the last pass")
    network.add_argument("--device", metavar="D", help="of the network: cpu (default), cuda, mps, or auto")
    network.add_argument(
        "--tile",
        type=tile,
        metavar="VOXELS[:MARGIN]",
        help="the network sees tiles, for volumes that do not fit into memory; multiples of its coarsest cells",
    )
    network.add_argument("--then-program", action="store_true", help="and then the linear program, with its options")


def run(options: argparse.Namespace) -> None:
    """`augreg register`."""
    _check_register(options)
    _use_threads(options)
    begin = time.perf_counter()
    (fixed, fixed_slide), (moving, moving_slide) = (image_of(path, options.channel) for path in (options.fixed, options.moving))
    slides, grids = (fixed_slide, moving_slide), (fixed.grid, moving.grid)
    check_units(*slides, grids)
    if options.initial is None:
        check_sizes(*slides)
    tiled = options.warped is not None and any(slides) and is_pyramid(options.warped)
    _check_grid_spacing(options.grid_spacing, fixed.grid)
    fill = fill_of(options.fill, moving)
    if options.warped is not None and not tiled:
        rehearse(moving, options.warped)
    state, states = None, _states(options, fixed, moving, slides)
    asked = time.perf_counter()
    way: list[tuple[str, ar.Transform]] = []
    with bar("register", 1.0) as update:
        for state in states:
            # how many steps are left is not known: the bar nears its end without reaching it
            update(1 - 0.5 ** (0.2 * state.iteration + state.level), state.stage)
            if options.report is not None and options.model is not None and isinstance(state.transform, ar.Affine):
                # of an agent every move is worth a look
                way.append((state.stage, state.transform))
        took = time.perf_counter() - asked
        update(1.0, "")
    assert state is not None
    seconds = time.perf_counter() - begin
    in_time = None if options.budget is None else kept(options.budget, max(state.seconds, took))
    # all that may fail comes first: what is written is whole
    share = ar.metrics.folding(unmirrored(state.transform), fixed.grid)
    moved: Moved | None = None
    if tiled:
        moved = partial(warped_slide, moving_slide or moving, state.transform, fixed_slide or fixed, fill=fill)
    elif options.warped is not None:
        moved = partial(ar.write_image, ar.warp(moving, state.transform, fixed.grid, fill=fill))
    page = None if options.report is None else _page(options, (fixed, moving), state.transform, way)
    _write(options, state.transform, fixed.grid, moved, page)
    result = {
        "seconds": seconds,
        "solve_seconds": state.solve_seconds,
        "objective": state.objective,
        "gap": state.gap,
        "keypoints": state.keypoints,
        "levels": state.level + 1,
        "folding": share,
        "mirrored": mirrors(state.transform),
        "stage": state.stage,
        "completed": not state.late,
        "budget_met": in_time,
        "units": units_of(*slides, grids),
        "warnings": list(state.warnings),
    }
    for warning in state.warnings:
        say_warning(warning)
    lines = {
        "seconds": f"{seconds:.3f}, of these in the solver {state.solve_seconds:.3f}",
        "objective": f"{state.objective:.4g}" + (f" (relative gap {state.gap:.1g})" if state.gap == state.gap else ""),
        "levels": f"{state.level + 1}" + (f", {state.keypoints} keypoints at the last that has any" if state.keypoints else ""),
        "folding": f"{share:.2%} of the voxels",
        **({"units": result["units"]} if any(slides) else {}),
        "transform": options.output,
    }
    report(result, "\n".join(f"{name:10} {line}" for name, line in lines.items()), as_json=options.json)


def _check_register(options: argparse.Namespace) -> None:
    """Everything that can be known to be wrong before the work starts."""
    check_transform(options.output)
    if options.warped is not None:
        check_image(options.warped)
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
    _check_dense(options)
    if options.fill is not None and options.warped is None:
        raise ValueError("--fill: expected --warped, whose outside this is about, got none; name a file or leave --fill out")
    if options.report is not None:
        importlib.import_module("augreg.report")  # a broken matplotlib is told before the work


def _check_dense(options: argparse.Namespace) -> None:
    """What contradicts a dense stage, or a preset."""
    people = options.preset == "people"
    if (options.dense or people) and options.criterion not in (None, "ncc"):
        asked = "--dense" if options.dense else "--preset people"
        raise ValueError(
            f"{asked}: expected --criterion ncc, which the dense stage compares by, got {options.criterion}; leave one out"
        )
    if people and options.dense is False:
        raise ValueError("--preset people: expected no --no-dense, since it is a dense stage; leave one of them out")
    kinds = [name for name in ("transform", "grid_spacing") if getattr(options, name) is not None]
    if people and kinds:
        raise ValueError(
            f"--preset people: expected no {_typed(kinds)}, since it begins with an affine map of its own; leave one of them out"
        )
    if options.preset == "quick" and options.dense:
        raise ValueError("--preset quick: expected no --dense, which it saves; leave one of them out")


def _check_grid_spacing(spacing: float | None, grid: ar.Grid) -> None:
    """Control points closer than voxels have no data, and can be more than memory holds."""
    if spacing is not None and spacing < min(grid.spacing):
        raise ValueError(f"--grid-spacing: expected at least the size of a voxel, {min(grid.spacing):g} mm, got {spacing:g}")


def _use_threads(options: argparse.Namespace) -> None:
    if options.threads is None:
        return
    ar.set_threads(options.threads)
    if options.model is not None:
        # torch reads it when it is imported, which is later
        os.environ["OMP_NUM_THREADS"] = str(options.threads)


def _states(
    options: argparse.Namespace, fixed: ar.Image, moving: ar.Image, slides: tuple[ar.io.Slide | None, ar.io.Slide | None]
) -> Iterator[State]:
    """The states of the registration that the options ask for."""
    given: dict[str, Any] = {
        "fixed_mask": labels_of(options.fixed_mask),
        "moving_mask": labels_of(options.moving_mask),
        "fixed_labels": labels_of(options.fixed_labels),
        "moving_labels": labels_of(options.moving_labels),
        "fixed_points": points_of(options.fixed_points, slides[0]),
        "moving_points": points_of(options.moving_points, slides[1]),
        "initial": options.initial and transform_of(options, options.initial),
    }
    if options.model is not None:
        method = network_of(options)
        if options.then_program:
            return ar.Chained(method, program_of(options), budget=options.budget).steps(fixed, moving, **given)
        ignored = [name for name in _OF_PROGRAMS if getattr(options, name) is not None]
        if options.dense:
            method = ar.Chained(method, ar.DenseRegistration(), budget=options.budget)
            ignored = [name for name in ignored if name != "budget"]
        states = method.steps(fixed, moving, **given)
        return (replace(state, warnings=(*state.warnings, *_without_effect(ignored))) for state in states)
    if options.criterion == "classes" and options.fixed_labels is None:
        given |= {f"{name}_labels": ar.lp.superpixel_classes(image) for name, image in (("fixed", fixed), ("moving", moving))}
    given["rigid_mask"] = labels_of(options.rigid_mask)
    _load_kernels(options, fixed)
    states = program_of(options).steps(fixed, moving, **given)
    if options.dense and options.preset in (None, "default") and options.transform in (None, "bspline"):
        # once it began with an affine map
        said = "--dense: without effect, it is there by default; for people who differ there is --preset people"
        return (replace(state, warnings=(*state.warnings, said)) for state in states)
    return states


def _load_kernels(options: argparse.Namespace, fixed: ar.Image) -> None:
    """Kernels are read from their cache, or compiled, before a budget counts: tiny images of noise are registered without one."""
    if options.budget is None or options.criterion in ("labels", "classes"):
        return
    rng, side = np.random.default_rng(0), {2: 64, 3: 24}[fixed.ndim]
    shape = (*[side] * fixed.ndim, *fixed.values.shape[fixed.ndim :])
    noise = [ar.Image(rng.uniform(0, 100, shape).astype(fixed.values.dtype), ar.Grid(shape[: fixed.ndim])) for _ in range(2)]
    program_of(argparse.Namespace(**(vars(options) | {"budget": None, "grid_spacing": None})))(*noise)


def _without_effect(names: Sequence[str]) -> list[str]:
    """A warning, if there is something to warn of."""
    return [f"{_typed(names)}: without effect with --model"] if names else []


def _typed(names: Sequence[str]) -> str:
    """Options as they are typed."""
    return ", ".join("--" + name.replace("_", "-") for name in names)


def _page(
    options: argparse.Namespace,
    images: tuple[ar.Image, ar.Image],
    transform: ar.Transform,
    way: Sequence[tuple[str, ar.Transform]],
) -> str:
    from augreg.report import registration_page  # matplotlib: only where a page is asked for

    names = Path(options.fixed).name, Path(options.moving).name
    return registration_page(*images, transform, way if len(way) > 1 else (), names)


def _write(options: argparse.Namespace, transform: ar.Transform, grid: ar.Grid, moved: Moved | None, page: str | None) -> None:
    with all_or_none(options.output, options.warped, options.report) as (output, *others):
        ar.write_transform(transform, output, grid)
        if moved is not None:
            moved(others.pop(0))
        if page is not None:
            others.pop(0).write_text(page, encoding="utf-8")
