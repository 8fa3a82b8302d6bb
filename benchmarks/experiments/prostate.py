"""Prostates in ultrasound and MR: networks that labels have taught and that need none in use, beside registrations and an oracle.

`--only affine marked` picks methods, `--choosing` keeps test patients out: of the training patients every fourth is tested.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from augreg.geometry.image import Image
from augreg.geometry.transforms import Transform
from augreg.lp import LPRegistration
from augreg.networks import (
    AffineFlow,
    Marked,
    Marker,
    Moments,
    StackedEncoder,
    seeded,
)
from augreg.registration import Centred, Chained
from augreg.synthesis import PairBatch
from augreg.training import (
    Batches,
    LabelOverlap,
    Outlined,
    RealPairs,
    jittered,
    mirrored,
    pairs_of_table,
    real_pairs,
    seen_differently,
    shaded,
    torch_threads,
)
from benchmarks.experiments import glands
from benchmarks.experiments.glands import Glands, Scan
from benchmarks.experiments.lessons import Lesson, learned
from benchmarks.experiments.prostate_table import rendered
from benchmarks.harness.record import Record, Row, about, write_record

__all__ = ["options", "rendered", "run"]

_PACKAGES = ("numpy", "torch")
# mm; the axis along which a body is nearly symmetric
SPACING, _SIDEWAYS = 3.0, 1
_BATCH = 4
STEPS, RATE = 2000, 2e-3
SEEDS = {"affine": 1, "marked": 3}


@dataclass(frozen=True)
class Run:
    """A method and its seed."""

    method: str
    seed: int = 0

    @property
    def key(self) -> str:
        """Unique, and the name of the run's folder."""
        return f"{self.method}-s{self.seed}"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help=f"of {', '.join([*PLAIN, *SEEDS])}")
    parser.add_argument("--choosing", action="store_true", help="test on some of the training patients, learn from the others")
    parser.add_argument("--out", type=Path, default=Path("runs/prostate"), metavar="FOLDER", help="of networks; is continued")


def run(options: argparse.Namespace) -> None:
    """Measure."""
    study = glands.read_glands()
    folder = options.out
    if options.choosing:
        study, folder = study.choosing(), folder / "choosing"
    record: Record = {**about(1, _PACKAGES), "spacing": SPACING, "steps": STEPS, "trainings": [], "rows": []}
    with torch_threads(1):
        for method in PLAIN:
            if not options.only or method in options.only:
                record["rows"] += list(_rows(Run(method), PLAIN[method], study))
        pairs = real_pairs(glands.lines(study.training), [SPACING], before=Centred())
        for method, seeds in SEEDS.items():
            for seed in range(seeds):
                one = Run(method, seed)
                if options.only and method not in options.only and one.key not in options.only:
                    continue
                print(f"{one.key} ...", file=sys.stderr, flush=True)
                flow, seconds = learned(lesson(one, pairs), pairs.spacing, folder / one.key)
                record["trainings"].append({"method": method, "seed": seed, "cpu_seconds": seconds})
                record["rows"] += list(_rows(one, partial(_alone, Chained(Centred(), flow)), study))
    write_record(options.output, record)


def lesson(run: Run, pairs: RealPairs) -> Lesson:
    """What a network learns."""
    overlap = LabelOverlap(spacing=pairs.spacing)
    batches = seen(pairs, run.seed)
    if run.method == "affine":
        return Lesson(lambda: seeded(run.seed, lambda: AffineFlow(StackedEncoder(3, 1, 0.125))), batches, overlap, STEPS, RATE)
    return Lesson(lambda: seeded(run.seed, lambda: Marked(_markers(), Moments(3))), batches, Outlined(overlap), STEPS, RATE)


def seen(pairs: RealPairs, seed: int) -> Batches:
    """Pairs of every step: each image in a pose and with a look of its own, half of the batches mirrored."""
    batches = pairs_of_table(pairs.pairs, _BATCH, seed)
    batches = jittered(batches, rotation=12.0, scale=0.12, shift=12.0 / SPACING, bend=1.5, seed=seed)
    batches = seen_differently(shaded(batches, gain=0.3, seed=seed), gamma=0.3, noise=0.03, seed=seed)

    def sideways(step: int) -> PairBatch:
        batch = batches(step)
        return mirrored(batch, [_SIDEWAYS]) if np.random.default_rng([seed, step, 9]).random() < 0.5 else batch

    return sideways


def _markers() -> list[Marker]:
    # two scanners: one for each
    return [Marker(3, 1, 1, 0.5) for _ in range(2)]


def _alone(registration: Callable[[Image, Image], Transform], scan: Scan) -> Transform:
    """Without labels."""
    return registration(scan.fixed, scan.moving)


def _oracle(scan: Scan) -> Transform:
    return Centred()(scan.fixed, scan.moving, fixed_labels=scan.fixed_gland, moving_labels=scan.moving_gland)


PLAIN: dict[str, Callable[[Scan], Transform]] = {
    "none": partial(_alone, Centred()),
    "program": partial(_alone, Chained(Centred(), LPRegistration(transform="rigid", criterion="mi"))),
    "oracle": _oracle,
}


def _rows(run: Run, method: Callable[[Scan], Transform], study: Glands) -> Iterator[Row]:
    # once for what a first call has to load
    method(study.training[0])
    for scan in study.test:
        begin = time.process_time()
        phi = method(scan)
        spent = time.process_time() - begin
        known = {"method": run.method, "seed": run.seed, "scan": scan.name, "patient": scan.patient}
        yield {**known, **glands.measured(scan, phi), "cpu_ms": 1000 * spent}
