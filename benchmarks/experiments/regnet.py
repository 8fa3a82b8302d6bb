"""Known fields of up to 20 pixels on brains: three scales after each other against one scale, equal in steps and parameters.

    one scale           FlowNetS
    three scales        Cascade(AtScale(n, 4), AtScale(n, 2), n), composed and trained jointly, n narrower: as many parameters
    published           the same three networks, each trained alone at its scale with what is left for it (fields of 20, 15 and 7
                        pixels, as in Sokooti et al. 2019), displacements added up;   composed: the same networks, composed
    RegNet              the trunk of 2017, half of its width, all of an image in one pass: at one scale, and at three, composed

Fields are B-splines of one frequency each: 20 pixels at control points 45 to 60 pixels apart, 15 at 30 to 45, 8 at 20 to 30, or
none. Networks see heads at half of the resolution, 80 x 96 at 2 mm, and their scales are of these pixels; all else is at 1 mm.
Errors are counted in heads of people that nothing was learned from, in classes of the true displacement.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import nn

from augreg.lp import LPRegistration
from augreg.networks import AtScale, Cascade, Displacement, FlowNetS, FlowRegistration, Map, Network, PatchNet, RegNet
from augreg.recipes import BRAIN, shown
from augreg.registration import Chained
from augreg.synthesis import BSplineField, RandomDeformations, TrainingPair, ZeroField, make_pairs, training_pairs
from augreg.threads import set_threads
from augreg.training import Batches, FlowLearner, Learner, pairs_from_generators, patches
from benchmarks.experiments import trials
from benchmarks.experiments.people import Study, read_study
from benchmarks.experiments.software import nothing
from benchmarks.experiments.trials import HALF, Lesson, Registration, at_half, on_people, spread, taught
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row

__all__ = ["options", "rendered", "run"]

# the largest displacement, pixels
LARGEST = 20.0
# least displacements of the classes, pixels
CLASSES = (0.0, 1.5, 4.0, 8.0)
SCALES = (4, 2, 1)
# what is left for the stages of the published form
LEFT = (20.0, 15.0, 7.0)
WIDTH, STEPS, SEEDS = 0.25, 1000, (0, 1, 2)
# three networks of a third of the parameters each
_NARROW = WIDTH / 3**0.5
# of RegNet
_HALF = 0.5
# side of a patch, and patches of a pair, that together are about as large as the images
_SIDE, _EACH = 40, 4
_PAIRS, _SEED = 24, 1000
NAMES = {
    "none": "no registration",
    "program": "linear program, then dense",
    "people": "linear program, for people",
    "one": "one scale",
    "three": "three scales, composed",
    "added": "published: trained apart, added",
    "composed": "trained apart, composed",
    "regnet": "RegNet's trunk, one scale",
    "regnets": "RegNet's trunk, three scales, composed",
    "patchnet": "network of patches, from whole images",
    "patches": "network of patches, from balanced patches",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    trials.options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, and measure."""
    set_threads(1)
    torch.set_num_threads(1)
    study = read_study("brain")
    trials.gathered("regnet", listed(study.choosing() if options.choosing else study), options)


def listed(study: Study) -> Iterator[tuple[str, Callable[[Path], list[Row]]]]:
    """The trials."""
    alone: dict[str, Registration] = {
        "none": nothing,
        "program": LPRegistration(),
        "people": LPRegistration.for_people(),
    }
    for name, method in alone.items():
        yield name, functools.partial(_rows, name, {"alone": method}, study, {})
    for seed in SEEDS:
        for name in ("one", "three"):
            yield f"{name}-s{seed}", functools.partial(_of_network, name, seed, study)
    yield "apart-s0", functools.partial(_published, 0, study)
    for name, seed in (*(("regnets", seed) for seed in SEEDS), *(("patchnet", seed) for seed in SEEDS), ("patches", 0)):
        yield f"{name}-s{seed}", functools.partial(_of_network, name, seed, study)


def network(name: str) -> Network:
    """One scale or three."""
    if name == "three":
        return Cascade([stage(scale) for scale in SCALES])
    if name == "regnets":
        return Cascade([stage(scale, RegNet(2, 1, _HALF)) for scale in SCALES])
    if name in ("patchnet", "patches"):
        return PatchNet(2)
    return FlowNetS(2, 1, WIDTH) if name == "one" else RegNet(2, 1, _HALF)


def stage(scale: int, found: Network | None = None) -> Network:
    """One of three."""
    found = FlowNetS(2, 1, _NARROW) if found is None else found
    return found if scale == 1 else AtScale(found, scale)


def fields(largest: float = LARGEST) -> tuple[Any, ...]:
    """Families of fields, those of 20 pixels scaled."""
    share = largest / LARGEST
    single = (((45.0, 60.0), 20.0), ((30.0, 45.0), 15.0), ((20.0, 30.0), 8.0))
    return (*(BSplineField(spacing, share * most) for spacing, most in single), ZeroField())


def known(study: Study, seed: int, largest: float = LARGEST) -> Batches:
    """Pairs of training people with known fields: two a step, each in both directions, mirrored by chance."""
    generator = RandomDeformations.of([one.image for one in at_half(study).training], fields(largest), intensity=BRAIN.intensity)
    return shown(BRAIN, pairs_from_generators(lambda _: generator, BRAIN.drawn, seed), seed)


def held_out(study: Study) -> Sequence[TrainingPair]:
    """Pairs of people that nothing was learned from."""
    generator = RandomDeformations.of([one.image for one in study.test], fields(), intensity=BRAIN.intensity)
    return list(training_pairs(make_pairs(generator, _SEED, range(_PAIRS)), generator.grid))


def on_known(registration: Registration, pairs: Sequence[TrainingPair]) -> Row:
    """Mean end-point error in every class, and how many pixels it has."""
    errors, sizes = [], []
    for pair in pairs:
        points = pair.fixed.grid.points()
        counted = (pair.mask.values != 0) & (pair.fixed.values > 0)
        missed = np.linalg.norm(registration(pair.fixed, pair.moving)(points) - pair.displacement(points), axis=-1)
        errors.append(missed[counted])
        sizes.append(np.linalg.norm(pair.displacement.values, axis=-1)[counted])
    missed, size = np.concatenate(errors), np.concatenate(sizes)
    classes = np.digitize(size, CLASSES) - 1
    means = [float(missed[classes == number].mean()) for number in range(len(CLASSES))]
    return {"epe": [round(value, 4) for value in means], "pixels": np.bincount(classes).tolist()}


class Added(Network):
    """The published form: displacements of networks one after the other are added up, u = u_1 + u_2 + ..., not composed.

    Parameters
    ----------
    networks : from coarse to fine
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.ndim, self.channels, self.unit = networks[0].ndim, networks[0].channels, networks[-1].unit

    @property
    def description(self) -> dict[str, Any]:
        """Its parts."""
        return {"architecture": "Added", "parts": [network.description for network in self.networks]}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Map]:
        """One displacement."""
        total = torch.zeros_like(fixed[:, :1]).expand(-1, self.ndim, *fixed.shape[2:])
        for one in self.networks:
            total = total + one(fixed, Displacement.of(total).warp(moving))[0].flow()
        return [Displacement.of(total)]


def _patched(seed: int, network: Network, batches: Batches, spacing: tuple[float, ...]) -> Learner:
    cut = patches(batches, _SIDE, each=_EACH, prepare=network.prepare, seed=seed)
    return FlowLearner(network, cut, spacing, prepared=True)


def _of_network(name: str, seed: int, study: Study, folder: Path) -> list[Row]:
    teach = functools.partial(_patched, seed) if name == "patches" else None
    lesson = Lesson(functools.partial(network, name), known(study, seed), steps=STEPS, teach=teach)
    flow, said = taught(lesson, seed, folder, HALF)
    return _rows(name, {"alone": flow, "twice": Chained(flow, flow)}, study, {"seed": seed, **said})


def _published(seed: int, study: Study, folder: Path) -> list[Row]:
    stages, spent, parameters = [], 0.0, 0
    for scale, largest in zip(SCALES, LEFT, strict=True):
        lesson = Lesson(functools.partial(stage, scale), known(study, seed, largest), steps=STEPS)
        flow, said = taught(lesson, seed, folder / f"at-{scale}", HALF)
        stages.append(flow.network)
        spent, parameters = spent + said["cpu"], parameters + said["parameters"]
    said = {"seed": seed, "cpu": spent, "parameters": parameters, "steps": len(SCALES) * STEPS}
    rows = []
    for name, whole in (("added", Added(stages)), ("composed", Cascade(stages))):
        rows += _rows(name, {"alone": FlowRegistration(whole, HALF)}, study, said)
    return rows


def _rows(name: str, ways: dict[str, Registration], study: Study, said: Row, _: Path | None = None) -> list[Row]:
    pairs = held_out(study)
    return [
        {"method": name, "how": how, **on_known(method, pairs), **on_people(method, study), **said}
        for how, method in ways.items()
    ]


def rendered(record: Record) -> str:
    """The tables."""
    rows = record["rows"]
    classes = [
        *(f"{low:g} to {high:g} px" for low, high in pairwise(CLASSES)),
        f"{CLASSES[-1]:g} px and more",
    ]
    header = [
        "end-point error, px",
        "seeds",
        *classes,
        "Jaccard of people",
        "folding %",
        "CPU ms",
        "training, CPU min",
        "parameters",
    ]
    lines = []
    for name, title in NAMES.items():
        for how in ("alone", "twice"):
            found = [row for row in rows if (row["method"], row["how"]) == (name, how)]
            if not found:
                continue
            learned = "parameters" in found[0]
            epe = [spread([row["epe"][number] for row in found]) for number in range(len(CLASSES))]
            took = [row["cpu"] / 60 for row in found if learned and not row.get("resumed")]
            lines.append(
                [
                    title + (f", {how}" if how != "alone" else ""),
                    str(len(found)) if learned else "",
                    *epe,
                    spread([mean(row["jaccard"]) for row in found]),
                    f"{mean(row['folding'] for row in found):.3f}",
                    f"{mean(row['ms'] for row in found):.0f}",
                    f"{mean(took):.1f}" if took and how == "alone" else "",
                    f"{found[0]['parameters'] / 1e6:.2f} M" if learned else "",
                ]
            )
    pixels = ", ".join(f"{count:,}" for count in rows[0]["pixels"])
    about = f"{_PAIRS} pairs with known fields, {pixels} pixels in the classes"
    return f"{heading(record, about)}\n\n{table(header, lines)}"
