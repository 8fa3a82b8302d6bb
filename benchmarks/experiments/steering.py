"""A network that looks at what matching leaves (`Steered`) against the same network without, on brains; splines of keypoints.

Pairs are those of the appearance model, FlowNetS has a quarter of its width and sees heads at half of the resolution, 80 x 96 at
2 mm. Learned from slices z08, used on z08 and, unchanged, on z20 of test people. "Splined" is the network at keypoints, in both
directions, lifted to a B-spline that does not fold. Below, keypoints of lungs that breathe are lifted in the same manner and by
thin plates, and both carry 300 landmarks of experts.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import scipy.interpolate
import torch

from augreg.geometry.grid import Grid
from augreg.matching import SplinedRegistration, splined
from augreg.networks import FlowNetS, FlowRegistration, Map, Network, Steered
from augreg.recipes import BRAIN, objective, shown, turn_pairs
from augreg.registration import Chained
from augreg.threads import set_threads
from augreg.training import pairs_from_generators
from benchmarks.experiments import regnet, trials
from benchmarks.experiments.contrast import fitted
from benchmarks.experiments.people import Study, read_slices, read_study
from benchmarks.experiments.software import nothing
from benchmarks.experiments.trials import HALF, Lesson, Registration, at_half, on_people, spread, taught
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA
from benchmarks.harness.record import Record, Row

__all__ = ["options", "rendered", "run"]

WIDTH, STEPS, SEEDS = 0.25, 600, (0, 1, 2)
# 3 has been looked at in tests
LUNGS = ("02", "03", "04", "05", "06")
NAMES = {
    "none": "no registration",
    "matched": "matching without a network",
    "plain": "plain",
    "steered": "steered",
    "scales": "three scales, as many parameters",
}
_WAYS = ("alone", "twice", "splined")
_LATTICE = 6.0


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    trials.options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, and measure."""
    set_threads(1)
    torch.set_num_threads(1)
    study = read_study("brain")
    study = study.choosing() if options.choosing else study
    trials.gathered("steering", listed(study, options.out / f"contrast-kept-{len(study.people)}"), options)


def listed(study: Study, kept: Path) -> Iterator[tuple[str, Callable[[Path], list[Row]]]]:
    """The trials."""
    people = tuple(one.person for one in study.test)
    slices = {"z08": study, "z20": replace(study, test=tuple(one for one in read_slices("z20") if one.person in people))}
    yield "none", functools.partial(_rows, "none", {"alone": nothing}, slices, {})
    yield (
        "matched",
        functools.partial(
            _rows, "matched", {"alone": FlowRegistration(Matched(Steered(FlowNetS(2, 1, WIDTH))), HALF)}, slices, {}
        ),
    )
    for seed in SEEDS:
        for name in ("plain", "steered", "scales"):
            yield f"{name}-s{seed}", functools.partial(_learned, name, seed, slices, kept)
    for case in LUNGS:
        yield f"lungs-{case}", functools.partial(_lungs, case)


def network(name: str) -> Network:
    """With and without maps of similarity, or at three scales."""
    if name != "steered":
        return regnet.network("one" if name == "plain" else "three")
    return Steered(FlowNetS(2, 1, WIDTH))


class Matched(Network):
    """What `Steered` finds before its network looks."""

    def __init__(self, steered: Steered) -> None:
        super().__init__()
        self.steered = steered
        self.ndim, self.channels, self.unit = self.steered.ndim, self.steered.channels, self.steered.unit

    @property
    def description(self) -> dict[str, Any]:
        """Its name: it has nothing that is learned, and no file."""
        return {"architecture": "Matched"}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Map]:
        """One map."""
        return [self.steered.match(fixed, moving)]


def _learned(name: str, seed: int, slices: dict[str, Study], kept: Path, folder: Path) -> list[Row]:
    study = at_half(slices["z08"])
    generator = turn_pairs(BRAIN, BRAIN.turns[0], fitted(study, kept))
    pairs = shown(BRAIN, pairs_from_generators(lambda _: generator, BRAIN.drawn, seed), seed)
    flow, said = taught(Lesson(functools.partial(network, name), pairs, objective(BRAIN), STEPS), seed, folder, HALF)
    rows = _rows(name, {"alone": flow, "twice": Chained(flow, flow)}, slices, {"seed": seed, **said})
    if seed == SEEDS[0]:
        rows += _rows(name, {"splined": SplinedRegistration(flow)}, {"z08": slices["z08"]}, {"seed": seed, **said})
    return rows


def _rows(name: str, ways: dict[str, Registration], slices: dict[str, Study], said: Row, _: Path | None = None) -> list[Row]:
    return [
        {"method": name, "how": how, "slice": level, **on_people(method, study), **said}
        for how, method in ways.items()
        for level, study in slices.items()
    ]


def _lungs(case: str, _: Path) -> list[Row]:
    names = ("exp_keypoints", "insp_keypoints", "exp_points", "insp_points")
    p, q, landmarks, partners = (
        np.loadtxt(DATA / "lungpoints" / f"{case}_{name}.csv", delimiter=",", skiprows=1) for name in names
    )
    low, high = np.minimum(p.min(0), landmarks.min(0)), np.maximum(p.max(0), landmarks.max(0))
    template = Grid(tuple((np.ceil((high - low) / _LATTICE).astype(int) + 1).tolist()), (_LATTICE,) * 3, tuple(low.tolist()))
    begin = time.process_time()
    phi = splined(p, q, template)
    took = time.process_time() - begin
    plates = landmarks + scipy.interpolate.RBFInterpolator(p, q - p, kernel="thin_plate_spline")(landmarks)
    before, flat, spline = (
        round(float(np.linalg.norm(found - partners, axis=1).mean()), 4) for found in (landmarks, plates, phi(landmarks))
    )
    least = round(float(np.linalg.det(phi.jacobian(template.points().reshape(-1, 3))).min()), 4)
    return [{"case": case, "keypoints": len(p), "before": before, "plates": flat, "splined": spline, "det": least, "s": took}]


def rendered(record: Record) -> str:
    """The tables."""
    rows = [row for row in record["rows"] if "method" in row]
    lines = []
    for name, title in NAMES.items():
        for how in _WAYS:
            found = [row for row in rows if (row["method"], row["how"]) == (name, how)]
            if found:
                lines.append([title + (f", {how}" if how != "alone" else ""), *_cells(found)])
    header = ["Jaccard of people", "seeds", "z08", "folding %", "z20", "folding %", "CPU ms", "training, CPU min"]
    lungs = [
        [
            row["case"],
            str(row["keypoints"]),
            *(f"{row[part]:.2f}" for part in ("before", "plates", "splined", "det")),
            f"{row['s']:.0f}",
        ]
        for row in record["rows"]
        if "case" in row
    ]
    known = table(["lungs, mm", "keypoints", "before", "thin plates", "splined", "least det", "CPU s"], lungs)
    return f"{heading(record)}\n\n{table(header, lines)}\n{known}"


def _cells(found: Sequence[Row]) -> list[str]:
    cells = []
    for level in ("z08", "z20"):
        each = [row for row in found if row["slice"] == level]
        cells += (
            [spread([mean(row["jaccard"]) for row in each]), f"{mean(row['folding'] for row in each):.3f}"] if each else ["", ""]
        )
    seeds = {row["seed"] for row in found if "seed" in row}
    took = f"{mean(row['cpu'] for row in found) / 60:.1f}" if seeds and found[0]["how"] == "alone" else ""
    return [str(len(seeds)) if seeds else "", *cells, f"{mean(row['ms'] for row in found):.0f}", took]
