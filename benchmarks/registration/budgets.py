"""Budgets: is a registration back in time, and what has it found by then?

Photographs of 512 x 512 pixels and brains of 1 mm, each under a known map of the kind that is asked for, with noise. Every budget
is asked for several times; how late a result was is its time less the budget. A result is in time if it is at most a tenth of
the budget or 5 ms late, whichever is more. With `--clock cpu` the registrations' own clock and the figures count the CPU time of
the process, at one thread the wall time of a core with nothing else to do: for machines that are shared. An error is the mean
distance from the truth, in voxels, over lattice points whose targets lie in the moving image. Images that the output has are not
run again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import augreg as ar
from augreg.registration import Clock, Pair
from augreg.registration.clock import kept
from augreg.registration.method import last
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.registration.motions import BRAINS, PHOTOGRAPHS, photograph

BUDGETS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_KINDS = ("rigid", "affine", "bspline")
_CASES = tuple(f"{kind} {ndim}-D" for ndim in (2, 3) for kind in _KINDS)
# of the map: degrees, share of the sides, of a scale, of a control spacing
_TURN, _SHIFT, _STRETCH, _BEND = 6.0, 0.04, 0.05, 0.15
# control points of the elastic map along an axis, and standard deviation of the noise as a share of the range
_CELLS, _NOISE = 6, 3 / 255


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what registrations and figures count")
    parser.add_argument("--only", nargs="+", choices=_CASES, default=list(_CASES), metavar="CASE")
    parser.add_argument("--images", type=int, default=2, help="of every dimension, at most four")
    parser.add_argument("--repeats", type=int, default=10, help="of budgets up to 100 ms; a fourth of them above")


def run(options: argparse.Namespace) -> None:
    """Measure what the output lacks."""
    set_threads(options.threads)
    record = continued(
        options.output, about(options.threads, ("augreg", "numba", "numpy")) | {"clock": options.clock, "rows": []}
    )
    done = {(row["case"], row["image"]) for row in record["rows"]}
    for case in options.only:
        kind, ndim = case.split()
        for name in (PHOTOGRAPHS if ndim == "2-D" else BRAINS)[: options.images]:
            if (case, name) not in done:
                record["rows"] += _measured(case, kind, name, _image(name, ndim), options)
                write_record(options.output, record)
                print(case, name, file=sys.stderr, flush=True)


def _image(name: str, ndim: str) -> ar.Image:
    if ndim == "2-D":
        values = photograph(name).astype(np.float32)
        return ar.Image(values, ar.Grid(values.shape))
    return ar.read_image(DATA / f"brain3d/{name}.nii.gz")


def _measured(case: str, kind: str, name: str, image: ar.Image, options: argparse.Namespace) -> Iterator[Row]:
    truth = _truth(kind, image.grid)
    rng = np.random.default_rng(0)
    noise = _NOISE * float(np.ptp(image.values))
    fixed, moving = (
        ar.Image((part.values + rng.normal(0, noise, image.grid.shape)).astype(np.float32), image.grid)
        for part in (ar.warp(ar.Image(image.values.astype(np.float32), image.grid), truth, image.grid), image)
    )
    now = time.perf_counter if options.clock == "wall" else time.process_time

    def registered(budget: float | None) -> tuple[Any, float]:
        begin = now()
        clock = Clock(now=now)
        state = last(ar.LPRegistration(transform=kind, budget=budget)._states(Pair.of(fixed, moving), clock))  # type: ignore[arg-type]
        return state, now() - begin

    # every kernel is compiled, or read, before it counts
    for budget in (None, 1e9, 0.3, 0.05):
        registered(budget)
    for budget in (*BUDGETS, None):
        repeats = options.repeats if budget and budget <= 100 else max(1, options.repeats // 4)
        for repeat in range(repeats):
            state, seconds = registered(budget and budget / 1000)
            error = _error(state.transform, truth, image.grid)
            told = {"stage": state.stage, "late": state.late, "seconds": seconds, "error": error}
            yield {"case": case, "image": name, "budget": budget, "repeat": repeat, **told}


def _truth(kind: str, grid: ar.Grid) -> ar.Transform:
    ndim, rng = grid.ndim, np.random.default_rng(7)
    matrix, angle = np.eye(ndim), np.deg2rad(_TURN)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if kind != "rigid":
        matrix = matrix @ (np.eye(ndim) + rng.uniform(-_STRETCH, _STRETCH, (ndim, ndim)))
    shift = _SHIFT * np.asarray(grid.extent) * rng.choice([-1.0, 1.0], ndim)
    affine = ar.Affine.about(matrix, grid.center, shift)
    if kind != "bspline":
        return affine
    spline = ar.BSpline.zeros(grid, max(grid.extent) / _CELLS)
    values = np.zeros_like(spline.coefficients)
    size = _BEND * max(grid.extent) / _CELLS
    values[spline.free] = rng.uniform(-size, size, (int(spline.free.sum()), ndim))
    return affine @ ar.BSpline(values, spline.grid)


def _error(phi: ar.Transform, truth: ar.Transform, grid: ar.Grid) -> float:
    points = grid.with_shape([24 if grid.ndim == 2 else 10] * grid.ndim).points().reshape(-1, grid.ndim)
    targets = truth(points)
    seen = grid.contains(targets)
    return float(np.linalg.norm(phi(points[seen]) - targets[seen], axis=1).mean()) / min(grid.spacing)


def rendered(record: Record) -> str:
    """A table for every case."""
    said = "CPU time of one thread" if record["clock"] == "cpu" else "wall time"
    parts = [heading(record, said) + "\n", *(_part(case, record["rows"]) for case in _CASES)]
    return "\n".join(filter(None, parts))


def _part(case: str, rows: list[Row]) -> str:
    mine = [row for row in rows if row["case"] == case]
    lines = []
    for budget in (*BUDGETS, None):
        some = [row for row in mine if row.get("budget") == budget]
        if not some:
            continue
        took = 1000 * np.array([row["seconds"] for row in some])
        errors = np.array([row["error"] for row in some])
        stages = [row["stage"] for row in some]
        # of equals the same one whatever the order of sets
        reached = max(sorted(set(stages)), key=stages.count)
        middle, most = np.percentile(took, (50, 99))
        cells = ["none" if budget is None else f"{budget}", f"{len(some)}", f"{middle:.1f}", f"{most:.1f}"]
        if budget is None:
            cells += ["", ""]
        else:
            in_time = sum(kept(budget / 1000, row["seconds"]) for row in some)
            cells += [f"{max(0.0, took.max() - budget):.1f}", f"{in_time / len(some):.0%}"]
        lines.append([*cells, f"{np.median(errors):.3f}", f"{errors.max():.3f}", reached])
    if not lines:
        return ""
    header = ["ms", "n", "p50", "p99", "largest overrun", "in time", "error", "largest", "reached, most often"]
    return f"**{case.replace('bspline', 'B-spline')}**\n\n{table(header, lines)}"
