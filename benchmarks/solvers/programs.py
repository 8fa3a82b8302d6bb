"""Programs of real registrations are recorded, for the benchmark and the tests of the solvers: numbers only, a file per program.

    python -m benchmarks run programs runs/programs                     # whole sequences, for `run solvers`
    python -m benchmarks run programs --small tests/solvers/programs    # the few that the tests keep

A registration runs as usual while a callable that stands in for its solver writes down what it is asked. A sequence is what one
registration asks with one kind of transform, in its order. Sequences whose images are not there are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse

import augreg as ar
from benchmarks.harness.places import DATA
from benchmarks.registration.cases import read_cases
from solvers import InteriorPoint, PiecewiseLinearProgram, Solution

Pair = tuple[ar.Image, ar.Image]


@dataclass(frozen=True)
class Recorder:
    """A solver that keeps the programs it has solved."""

    solver: Callable[..., Solution]
    programs: list[PiecewiseLinearProgram] = field(default_factory=list)

    def __call__(self, program: PiecewiseLinearProgram, *start: Solution | None) -> Solution:
        """What the solver says."""
        self.programs.append(program)
        return self.solver(program, *start)


@dataclass(frozen=True)
class Recipe:
    """A sequence.

    Parameters
    ----------
    read : the pair of images
    registration : its solver is replaced
    unknowns : programs with fewer are another sequence's
    """

    read: Callable[[], Pair]
    registration: ar.LPRegistration
    unknowns: int = 0

    def programs(self) -> list[PiecewiseLinearProgram]:
        """What the registration asks."""
        recorder = Recorder(InteriorPoint(tolerance=1e-4))
        replace(self.registration, solver=recorder)(*self.read())
        return [program for program in recorder.programs if program.matrix.shape[1] >= self.unknowns]


def write_program(program: PiecewiseLinearProgram, path: Path) -> None:
    """In single precision: rounded, it is as good a program, in half the room."""
    matrix = program.matrix
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        shape=np.array(matrix.shape),
        indptr=matrix.indptr,
        indices=matrix.indices.astype(np.int16),
        data=matrix.data.astype(np.float32),
        lower=program.lower.astype(np.float32),
        values=program.values.astype(np.float32),
        pointers=program.pointers.astype(np.int32),
        widths=program.widths.astype(np.float32),
        slopes=program.slopes.astype(np.float32),
    )


def read_program(path: Path) -> PiecewiseLinearProgram:
    """What `write_program` has written."""
    with np.load(path) as f:
        parts = (f["data"].astype(np.float64), f["indices"].astype(np.int32), f["indptr"])
        matrix = scipy.sparse.csr_array(parts, shape=tuple(f["shape"]))
        return PiecewiseLinearProgram(matrix, f["lower"], f["values"], f["pointers"], f["widths"], f["slopes"])


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("folder", type=Path, help="folder for one folder per sequence")
    parser.add_argument("--small", action="store_true", help="the tests' few, first and last of each sequence")
    parser.add_argument("--only", nargs="*", default=[], help="sequences whose names begin so")


def run(options: argparse.Namespace) -> None:
    """Record."""
    for name, recipe in (_small() if options.small else _large()).items():
        if not name.startswith(tuple(options.only) or ("",)):
            continue
        try:
            programs = recipe.programs()
        except FileNotFoundError as missing:
            print(f"{name}: left out, {missing.filename or missing} is not there")
            continue
        kept = sorted({0, len(programs) - 1}) if options.small else range(len(programs))
        for number in kept:
            write_program(programs[number], options.folder / name / f"{number:02}.npz")
        print(f"{name}: {len(kept)} programs, {' x '.join(map(str, programs[-1].matrix.shape))}", flush=True)


def _case(key: str) -> Pair:
    for case in read_cases((key,)):
        fixed, moving = (ar.Image(values, ar.Grid(values.shape[:2])) for values in (case.fixed, case.moving))
        return fixed, moving
    raise FileNotFoundError(key)


def _files(fixed: str, moving: str) -> Pair:
    return ar.read_image(DATA / fixed), ar.read_image(DATA / moving)


_BRAIN = partial(_files, "brain2d/1000_z08.nii.gz", "brain2d/1001_z08.nii.gz")
_HEAD = partial(_files, "brain3d/1000.nii.gz", "brain3d/1003.nii.gz")


def _large() -> dict[str, Recipe]:
    # without a polish: where one follows there are few programs, and none of many unknowns
    affine, elastic = ar.LPRegistration(transform="affine", polish=0), ar.LPRegistration(polish=0, dense=None)
    found = {}
    for name in ("512/camera", "512/coins", "512/retina", "512/immunohistochemistry", "1024/retina", "brain/r16"):
        found[f"affine-{name.replace('/', '-')}"] = Recipe(partial(_case, f"affine-{name}"), affine)
    found["affine-people"] = Recipe(_BRAIN, affine)
    found["affine-head"] = Recipe(_HEAD, affine)
    for name in ("512/camera", "512/retina", "brain/r16"):
        found[f"spline-{name.replace('/', '-')}"] = Recipe(partial(_case, f"elastic-{name}"), elastic, 300)
    found["spline-people"] = Recipe(_BRAIN, elastic, 300)
    fine = replace(elastic, keypoints=2000)
    for name, spacing in (("512/coins", 18.0), ("512/camera", 16.0)):
        recipe = Recipe(partial(_case, f"elastic-{name}"), replace(fine, grid_spacing=spacing), 1000)
        found[f"fine-{name.replace('/', '-')}"] = recipe
    for spacing in (26.0, 15.2):
        registration = replace(fine, keypoints=3000, grid_spacing=spacing)
        found[f"head-{spacing:g}mm"] = Recipe(_HEAD, registration, 3000)
    return found


def _small() -> dict[str, Recipe]:
    matrix = ar.LPRegistration(transform="affine", keypoints=150)
    spline = ar.LPRegistration(keypoints=150)
    return {
        "affine-2d": Recipe(partial(_case, "affine-512/camera"), matrix),
        "rigid-2d": Recipe(partial(_case, "affine-512/retina"), replace(matrix, transform="rigid", criterion="mi")),
        "affine-3d": Recipe(_HEAD, matrix),
        "spline-2d": Recipe(partial(_case, "elastic-512/coins"), spline, 100),
        "spline-people": Recipe(_BRAIN, replace(spline, grid_spacing=12.0), 100),
        "spline-3d": Recipe(_HEAD, replace(spline, keypoints=100, grid_spacing=50.0), 100),
    }
