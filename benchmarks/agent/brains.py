"""Slices of brains, each beside itself in another contrast, from poses at chance: up to 30 pixels and 45 degrees.

The moving image is the fixed one through a map of intensities that no monotone function undoes (see
`augreg.training.contrasts`), in another pose, with noise of 2 % of its range, on a grid
that holds all of it. So the truth is known exactly.

program              linear programs, rigid, mutual information, starts turned by up to 45 degrees
agent                learns gains on training people, every image through a map of its own
agent, program       and then linear programs, rigid, mutual information, from where it has ended
affine, program      an affine map learned from the same states, used three times, the nearest rigid map, then the same programs
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from augreg.agents import (
    AdvantageLearner,
    AgentRegistration,
    Jitter,
    Known,
    Lesson,
    Offsets,
    PosePairs,
    QNet,
    any_contrast,
    view_of,
)
from augreg.agents.pairs import fitted
from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Affine
from augreg.lp import LPRegistration
from augreg.networks import AffineFlow, Network, StackedEncoder, seeded
from augreg.registration import Chained, Clock, Method, Pair, State
from augreg.training import Learner, supervised
from augreg.training.contrasts import random_knots, remapped
from benchmarks.agent.taught import Start, as_pairs, taught
from benchmarks.experiments import lessons
from benchmarks.experiments.people import Subject, read_slices
from benchmarks.harness.places import TEST_BRAINS
from benchmarks.harness.record import Record, Row

SPACING, BATCH, RATE = 4.0, 16, 2e-3
OFFSETS = Offsets(30.0, 45.0)
STEPS = {"agent": 1000, "affine": 1000}
METHODS = ("none", "program", "agent", "agent-program", "affine", "affine-program")
CASES = 24
# of the moving image's range; voxels around it; nearer than this a case is a success, pixels
NOISE, MARGIN, NEAR = 0.02, 40, 1.0
_POINTS = 64
PROGRAM = LPRegistration(transform="rigid", criterion="mi")


STATES = Lesson(OFFSETS, Jitter(8.0, 4.0, 0.05, mirrored=0), any_contrast(NOISE))


def people(choosing: bool) -> tuple[list[Subject], list[Subject]]:
    """Who is learned from, and who is tested: of the training people the last four, where settings are chosen."""
    slices = {level: read_slices(level) for level in ("z08", "z20")}
    known = [one.person for one in slices["z08"] if one.person not in TEST_BRAINS]
    tested = known[-4:] if choosing else list(TEST_BRAINS)
    training = [one for level in slices.values() for one in level if one.person in known and one.person not in tested]
    test = [next(one for one in slices[level] if one.person == who) for level in ("z08", "z20", "z08") for who in tested]
    return training, test[:CASES]


def itself(one: Subject) -> Known:
    """A person beside itself, as it lies."""
    return Known(one.image, one.image, Affine.identity(2), _points(one.image, 0))


def _points(image: Image, seed: int) -> FloatArray:
    where = np.argwhere(image.values > 0)
    return np.asarray(image.grid.points_at(where[np.random.default_rng(seed).integers(len(where), size=_POINTS)]))


def case(one: Subject, number: int) -> Known:
    """A person beside itself in another pose and contrast."""
    rng = np.random.default_rng([17, number])
    offset, center = OFFSETS.draw(rng, 2), one.image.grid.center
    matrix = offset[:2, :2]
    truth = Affine(matrix, center + offset[:2, 2] - matrix @ center)
    grid = one.image.grid.padded(MARGIN)
    moved = warp(one.image, truth.inverse(), grid, interpolation="cubic")
    values = remapped(np.maximum(moved.values, 0), random_knots(rng))
    values += NOISE * float(np.ptp(values)) * rng.standard_normal(values.shape).astype(np.float32)
    return Known(one.image, Image(values, grid), truth, _points(one.image, number))


def made(method: str, training: list[Subject], folder: Path) -> tuple[Method, float]:
    """A registration, and the CPU seconds of its training."""
    if method == "none":
        return Start(), 0.0
    if method == "program":
        return LPRegistration(transform="rigid", criterion="mi", rotation=45.0), 0.0
    pairs = [itself(one) for one in training]
    view = view_of(pairs, SPACING)
    network = seeded(0, lambda: QNet(view))
    if method.startswith("agent"):

        def learner() -> Learner:
            return AdvantageLearner(network, PosePairs.of(pairs, network), STATES, batch=BATCH)

        found: Method
        found, seconds = taught(learner, folder / "brain-agent", STEPS["agent"], RATE)
    else:
        batches = as_pairs(PosePairs.of(pairs, network), STATES, network, BATCH, 0)
        lesson = lessons.Lesson(partial(seeded, 0, _affine), batches, supervised, STEPS["affine"], RATE)
        flow, seconds = lessons.learned(lesson, view.spacing, folder / "brain-affine")
        found = Rigid(Chained(Chained(flow, flow), flow))
    return (Chained(found, PROGRAM) if method.endswith("program") else found), seconds


def _affine() -> Network:
    return AffineFlow(StackedEncoder(2, 1, 0.25))


@dataclass(frozen=True)
class Rigid(Method):
    """The rigid map that is nearest to another registration's, over the fixed image.

    Parameters
    ----------
    registration : the other one
    """

    registration: Method

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        places = pair.fixed.grid.lattice((5,) * pair.fixed.ndim)
        for state in self.registration._states(pair, clock):
            yield replace(state, transform=fitted(places, state.transform(places), "rigid"))


def rows(method: str, test: list[Subject], register: Method) -> Iterator[Row]:
    """Every case, once more for the first."""
    for number, one in enumerate([test[0], *test]):
        pair = case(one, max(0, number - 1))
        begin = time.process_time()
        states = list(register.steps(pair.fixed, pair.moving))
        spent = time.process_time() - begin
        if number == 0:
            # for what a first call has to load
            continue
        error = np.linalg.norm(states[-1].transform(pair.points) - pair.truth(pair.points), axis=1).mean()
        moves = {"moves": len(states) - 1} if isinstance(register, AgentRegistration) else {}
        yield {"method": method, "case": one.name, "error": float(error), **moves, "cpu_ms": 1000 * spent}


def record(method: str, folder: Path, *, choosing: bool) -> Record:
    """Rows of a method and of its training."""
    training, test = people(choosing)
    register, seconds = made(method, training, folder)
    trained = [{"method": method, "cpu_seconds": seconds}] if seconds else []
    return {"rows": list(rows(method, test, register)), "trainings": trained}
