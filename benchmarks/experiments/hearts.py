"""Hearts of two people in sections: velocities learned from labels, from outlines matched beforehand (SVF-Net) or from likeness.

`cardiac2d` and `hearts3d` are two studies, see `benchmarks.experiments.sections`. `--choosing` keeps test people out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample, warp
from augreg.geometry.transforms import Affine, Transform
from augreg.lp import LPRegistration
from augreg.networks import Antisymmetric, Marked, Marker, Network, UNet, VelocityFlow, seeded
from augreg.training import (
    Batches,
    LabelOverlap,
    Likeness,
    Objective,
    Outlined,
    Smooth,
    jittered,
    pairs_from_images,
    seen_differently,
    shaded,
    torch_threads,
)
from benchmarks.experiments.hearts_table import rendered
from benchmarks.experiments.lessons import Lesson, learned
from benchmarks.experiments.measures import measured
from benchmarks.experiments.people import Pair, Subject
from benchmarks.experiments.sections import Sections, read_sections
from benchmarks.experiments.software import Method, nothing, rival, timed
from benchmarks.harness.record import Record, Row, about, write_record

__all__ = ["options", "rendered", "run"]

_PACKAGES = ("numpy", "torch")
STUDIES = ("cardiac2d", "hearts3d")
# networks see pixels of two; all works in two dimensions
SPACING, _BATCH = 2.0, 4
STEPS, RATE, WIDTH = 1200, 3e-3, 0.5
SMOOTH = 0.1
PLAIN: dict[str, Callable[[Image, Image], Transform]] = {"none": nothing, "program": LPRegistration()}
RIVALS = ("syn_cc",)
SEEDS = {"unsupervised": 1, "labels": 1, "marked": 1}
_CORNER = 6


@dataclass(frozen=True)
class Run:
    """A method of a study, and its seed."""

    study: str
    method: str
    seed: int = 0

    @property
    def key(self) -> str:
        """Unique, and the name of the run's folder."""
        return f"{self.study}-{self.method}-s{self.seed}"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--study", nargs="+", default=list(STUDIES), choices=STUDIES)
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help=f"of {', '.join([*PLAIN, *RIVALS, *SEEDS])}")
    parser.add_argument("--choosing", action="store_true", help="test on some of the training people, learn from the others")
    parser.add_argument("--out", type=Path, default=Path("runs/hearts"), metavar="FOLDER", help="of networks; is continued")
    parser.add_argument("--ants-python", type=Path, metavar="PYTHON", help="of an environment with antspyx")


def run(options: argparse.Namespace) -> None:
    """Measure."""
    record: Record = {**about(1, _PACKAGES), "spacing": SPACING, "steps": STEPS, "trainings": [], "rows": []}
    folder = options.out / "choosing" if options.choosing else options.out
    with torch_threads(1):
        for name in options.study:
            study = read_sections(name, choosing=options.choosing)
            for one in _runs(name, options.only):
                print(f"{one.key} ...", file=sys.stderr, flush=True)
                if one.method in RIVALS:
                    if options.ants_python is not None:
                        with rival(one.method, str(options.ants_python), 1, study.pairs[-1]) as (method, versions):
                            record["rows"] += list(_rows(one, method, study))
                        record["versions"] |= versions
                elif one.method in PLAIN:
                    record["rows"] += list(_rows(one, timed(PLAIN[one.method]), study))
                else:
                    flow, seconds = learned(lesson(one, study), (SPACING, SPACING), folder / one.key)
                    record["trainings"].append({"study": name, "method": one.method, "seed": one.seed, "cpu_seconds": seconds})
                    record["rows"] += list(_rows(one, timed(flow), study))
    write_record(options.output, record)


def _runs(study: str, only: list[str]) -> list[Run]:
    listed = [Run(study, method) for method in (*PLAIN, *RIVALS)]
    listed += [Run(study, method, seed) for method, seeds in SEEDS.items() for seed in range(seeds)]
    return [run for run in listed if not only or run.method in only]


def lesson(run: Run, study: Sections) -> Lesson:
    """What a network learns."""
    overlap = LabelOverlap(study.structures, (0.0, 2.0, 4.0, 8.0), SPACING)
    known: dict[str, Objective] = {
        "unsupervised": Smooth(Likeness(), 0.5),
        "labels": Smooth(overlap, SMOOTH),
        "marked": Outlined(Smooth(overlap, SMOOTH), study.structures),
    }
    network = partial(seeded, run.seed, partial(_network, run.method == "marked", len(study.structures)))
    return Lesson(network, seen(study.training, run.seed), known[run.method], STEPS, RATE)


def seen(subjects: tuple[Subject, ...], seed: int) -> Batches:
    """Pairs of two people, each image in a pose and with a look of its own."""
    images, labels = zip(*map(_coarse, subjects), strict=True)
    batches = pairs_from_images(images, _BATCH, seed, labels=labels)
    batches = jittered(batches, rotation=10.0, scale=0.1, shift=6.0 / SPACING, bend=1.0, seed=seed)
    batches = shaded(batches, gain=0.2, seed=seed)
    return seen_differently(batches, gamma=0.3, noise=0.02, seed=seed)


def _coarse(one: Subject) -> tuple[Image, Labels]:
    grid = one.image.grid.with_spacing(SPACING)
    return resample(one.image, grid), warp(one.labels, Affine.identity(2), grid)


def _network(marked: bool, structures: int) -> Network:
    strides = [(2, 2)] * 4
    channels = 1 + structures if marked else 1
    flow = Antisymmetric(VelocityFlow(UNet(2, channels, WIDTH, strides, finest=1)))
    return Marked([Marker(2, 1, structures, WIDTH, strides, finest=0)], flow) if marked else flow


def _rows(run: Run, method: Method, study: Sections) -> Iterator[Row]:
    # once for what a first call has to load
    method(study.pairs[-1])
    for pair in study.pairs:
        outcome = method(pair)
        phi = outcome.transform
        yield {
            "study": run.study,
            "method": run.method,
            "seed": run.seed,
            "fixed": pair.fixed.name,
            "moving": pair.moving.name,
            **measured(pair, phi, contours=run.study == "cardiac2d"),
            "returned": _returned(phi, pair),
            "cpu_ms": 1000 * outcome.cpu_seconds,
        }


def _returned(phi: Transform, pair: Pair) -> float:
    """The largest |phi^-1(phi(x)) - x| at pixels away from the border, pixels; NaN where there is no inverse."""
    points = pair.fixed.image.grid.points()[_CORNER:-_CORNER, _CORNER:-_CORNER]
    try:
        back = phi.inverse()
    except (ValueError, NotImplementedError, AttributeError):
        return float("nan")
    return float(np.linalg.norm(back(phi(points)) - points, axis=-1).max())
