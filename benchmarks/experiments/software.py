"""Registrations of a pair, with the time they take: ours, and those of other people's software.

    none        no registration
    program     `LPRegistration`
    gradient    the steps that refine a network's flow on the pair at hand, from no displacement
    syn_quick   ANTs, the script antsRegistrationSyNQuick: symmetric normalisation with mutual information
    syn_cc      ANTs, symmetric normalisation with local correlation
    elastix     rigid, affine, then a cubic B-spline

Software of others runs in processes of its own, as in `benchmarks.registration`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from augreg.geometry.image import Image
from augreg.geometry.transforms import Affine, DisplacementField, Transform
from augreg.networks import Displacement, Map, RefinedFlow, normalised
from augreg.training import FlowRegistration
from benchmarks.experiments.people import Pair
from benchmarks.experiments.settings import Settings
from benchmarks.harness import timing
from benchmarks.registration.cases import Case
from benchmarks.registration.process import Process
from benchmarks.registration.rivals import DISTRIBUTIONS

# module and function of `benchmarks.registration.rivals`
RIVALS = {"syn_quick": ("ants", "syn_quick"), "syn_cc": ("ants", "syn_cc"), "elastix": ("elastix", "bspline")}
# seconds of the clock for a pair: volumes take minutes where others compute beside them
_LIMIT = 1800.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """A transform, fixed to moving, and the seconds it took: of the clock, and of all cores together."""

    transform: Transform
    seconds: float
    cpu_seconds: float


Method = Callable[[Pair], Outcome]


def timed(registration: Callable[[Image, Image], Transform]) -> Method:
    """A registration of ours as a method."""

    def method(pair: Pair) -> Outcome:
        phi, took = timing.timed(lambda: registration(pair.fixed.image, pair.moving.image))
        return Outcome(phi, **took)

    return method


def nothing(fixed: Image, _: Image) -> Transform:
    """No registration."""
    return Affine.identity(fixed.ndim)


class Still:
    """A predictor of no displacement."""

    ndim = 2
    channels = 1

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """As networks want them."""
        return normalised(images)

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> Map:
        """Zero."""
        return Displacement.of(torch.zeros(len(moving), self.ndim, *fixed.shape[2:]))


def gradient(settings: Settings, like: Image) -> FlowRegistration:
    """Refinement without a network, for images like that one."""
    return FlowRegistration(RefinedFlow(Still(), settings.gradient), like.grid.spacing)


@contextmanager
def rival(name: str, python: str, threads: int, warm_up: Pair) -> Iterator[tuple[Method, dict[str, str]]]:
    """A method of other people's software, by the Python that has it, and its version.

    Raises
    ------
    RuntimeError : where it cannot be used, or fails on a pair.
    """
    module, function = RIVALS[name]
    with tempfile.TemporaryDirectory() as scratch:
        process = Process(python, module, threads, Path(scratch), _LIMIT)

        def method(pair: Pair) -> Outcome:
            answer, pixels, _ = process.register(function, _case(pair), _case(warm_up))
            if pixels is None:
                raise RuntimeError(f"{name}, {pair.fixed.name} and {pair.moving.name}: {answer['error']}")
            grid = pair.fixed.image.grid
            field = DisplacementField(grid.points_at(pixels) - grid.points(), grid)
            return Outcome(field, answer["seconds"], answer["cpu_seconds"])

        try:
            method(warm_up)
            yield method, {DISTRIBUTIONS[module]: process.version}
        finally:
            process.close()


def _case(pair: Pair) -> Case:
    images = (np.asarray(one.image.values, dtype=np.float32) for one in (pair.fixed, pair.moving))
    grids = (pair.fixed.image.grid, pair.moving.image.grid)
    none = np.empty((0, grids[0].ndim))
    return Case(pair.group, pair.fixed.name, "elastic", *images, none, none, spacings=(grids[0].spacing, grids[1].spacing))
