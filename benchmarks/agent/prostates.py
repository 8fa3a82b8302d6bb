"""Prostates in ultrasound and MR from poses at chance, up to 20 mm and 20 degrees off that at which the glands' centroids meet.

agent-alone          learns gains, sees what two networks have marked in each image by itself, as of `prostate`
agent-images         the same, sees the images
agent-double-q       as the first, from its own moves and their rewards
affine-images        an affine map from both images, learned from the same states, used three times
affine               an affine map from both images that labels have taught, as of `prostate`, used three times
moments              scales and a shift from the moments of the marks, nothing is learned any more
program              linear programs, rigid, mutual information
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from augreg.agents import (
    AdvantageLearner,
    AgentRegistration,
    DoubleQLearner,
    Jitter,
    Known,
    Lesson,
    Offsets,
    PosePairs,
    QNet,
    from_pair,
    gamma_and_noise,
    view_of,
)
from augreg.geometry.transforms import Affine, Transform
from augreg.lp import LPRegistration
from augreg.networks import AffineFlow, FlowRegistration, Marked, Marker, Network, StackedEncoder, read_network, seeded
from augreg.registration import Centred, Chained, Method, Pair
from augreg.training import WEIGHTS, Learner, supervised
from benchmarks.agent.taught import Start, as_pairs, taught
from benchmarks.experiments import lessons
from benchmarks.experiments.glands import Glands, Scan, measured
from benchmarks.harness.record import Record, Row

SPACING, BATCH = 3.0, 16
OFFSETS = Offsets(20.0, 20.0)
STATES = Lesson(OFFSETS, Jitter(10.0, 6.0, 0.05, mirrored=1), gamma_and_noise(0.3, 0.02))
STEPS = {"agent-alone": 1500, "agent-images": 1500, "agent-double-q": 1500, "affine-images": 1500}
RATE = 2e-3
# agents that see marks alone
ALONE = ("agent-alone", "agent-double-q")
PLAIN = ("none", "program", "moments", "affine")
METHODS = (*PLAIN, *STEPS)
# offsets of every test pair
STARTS = 3


def known(scans: Sequence[Scan]) -> list[Known]:
    """Pairs, the glands' centroids on each other."""
    found = []
    for number, scan in enumerate(scans):
        start = Centred()(scan.fixed, scan.moving)
        glands = {"fixed_labels": scan.fixed_gland, "moving_labels": scan.moving_gland}
        found.append(from_pair(Pair.of(scan.fixed, scan.moving, initial=start, **glands), seed=number))
    return found


def starts(scan: Scan, truth: Affine, count: int = STARTS) -> Iterator[Affine]:
    """Poses from which a pair is registered: at chance about the middle of the fixed image."""
    rng = np.random.default_rng([int(scan.name), 16])
    center = scan.fixed.grid.center
    for _ in range(count):
        offset = OFFSETS.draw(rng, 3)
        matrix = offset[:3, :3]
        yield truth.after(Affine(matrix, center + offset[:3, 3] - matrix @ center))


def made(method: str, study: Glands, folder: Path, before: Path) -> tuple[Method, float]:
    """A registration, and the CPU seconds of its training."""
    if method == "none":
        return Start(), 0.0
    if method == "program":
        return LPRegistration(transform="rigid", criterion="mi", rotation=25.0), 0.0
    if method == "moments":
        return FlowRegistration.from_file(before / "marked-s0" / WEIGHTS), 0.0
    if method == "affine":
        flow = FlowRegistration.from_file(before / "affine-s0" / WEIGHTS)
        return Chained(Chained(flow, flow), flow), 0.0
    pairs, place = known(study.training), folder / method
    view = view_of(pairs, SPACING)
    markers = markers_of(before / "marked-s0" / WEIGHTS) if method in ALONE else []
    network = seeded(0, lambda: QNet(view, markers=markers, images=method not in ALONE))
    if method.startswith("agent"):
        make = AdvantageLearner if method != "agent-double-q" else DoubleQLearner

        def learner() -> Learner:
            return make(network, PosePairs.of(pairs, network), STATES, batch=BATCH, centred=True)

        return taught(learner, place, STEPS[method], RATE)
    plain = seeded(0, lambda: QNet(view, width=0.1))
    batches = as_pairs(PosePairs.of(pairs, plain), STATES, plain, BATCH, 0)
    lesson = lessons.Lesson(_affine, batches, supervised, STEPS[method], RATE)
    flow, seconds = lessons.learned(lesson, view.spacing, place)
    return Chained(Chained(flow, flow), flow), seconds


def markers_of(marked: Path) -> list[Marker]:
    """The two networks that mark."""
    network = read_network(marked).network
    assert isinstance(network, Marked)
    return [*network.markers]  # type: ignore[arg-type]  # modules in a list have lost their type


def _affine() -> Network:
    return seeded(0, lambda: AffineFlow(StackedEncoder(3, 1, 0.25)))


def rows(method: str, study: Glands, register: Method) -> Iterator[Row]:
    """Every test pair from every start."""
    scan = study.training[0]
    # once for what a first call has to load
    register(scan.fixed, scan.moving, initial=Centred()(scan.fixed, scan.moving))
    for scan, pair in zip(study.test, known(study.test), strict=True):
        for number, start in enumerate(starts(scan, pair.truth)):
            begin = time.process_time()
            states = list(register.steps(scan.fixed, scan.moving, initial=start))
            spent = time.process_time() - begin
            phi: Transform = states[-1].transform
            about = {"method": method, "scan": scan.name, "patient": scan.patient, "start": number}
            distance = float(np.linalg.norm(phi(pair.points) - pair.truth(pair.points), axis=1).mean())
            before = float(np.linalg.norm(start(pair.points) - pair.truth(pair.points), axis=1).mean())
            moves = {"moves": len(states) - 1} if isinstance(register, AgentRegistration) else {}
            found = {name: value for name, value in measured(scan, phi).items() if name != "folding"}
            yield {**about, **found, "before": before, "points": distance, **moves, "cpu_ms": 1000 * spent}


def record(method: str, study: Glands, folder: Path, before: Path) -> Record:
    """Rows of a method and of its training."""
    register, seconds = made(method, study, folder, before)
    trained: Callable[[], list[Row]] = lambda: [{"method": method, "cpu_seconds": seconds}] if method in STEPS else []  # noqa: E731
    return {"rows": list(rows(method, study, register)), "trainings": trained()}
