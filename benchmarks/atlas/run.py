"""Segmentation by several atlases: directly, through templates, and how their votes are fused.

A row is a target and a way: mean Dice over labels, CPU seconds of all threads for one target from its image in memory to its
label map, with atlases and stored transforms in memory, too. Registrations that several ways need are made once and counted in
each. For a template that all targets share, and for three drawn at random, the mean over templates and over draws is told. Direct
registrations that a bank's rough maps begin are shorter. On training people more fusions, and weights of the choice, stand beside
each other: settings are chosen there. With `--ants-python` ANTs fuses the same propagated maps. With `--weights` a network of
`python -m benchmarks run hearts` registers their sections, and the marks that it makes of an image by itself stand beside. Rows
are kept as they come; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import augreg as ar
from augreg.atlas import (
    Atlas,
    Choice,
    Fusion,
    JointFusion,
    LocalWeights,
    Majority,
    Staple,
    TemplateBank,
    building,
    fuse,
)
from augreg.threads import set_threads
from benchmarks.atlas.ants_fusion import joint_fusion
from benchmarks.atlas.cases import Case, boxed, cases
from benchmarks.atlas.table import rendered
from benchmarks.harness.places import ROOT
from benchmarks.harness.record import Row, about, continued, write_record
from benchmarks.registration.between import SPLITS

__all__ = ["options", "rendered", "run"]

_FUSIONS: dict[str, Fusion] = {
    "majority": Majority(),
    "local weights": LocalWeights(),
    "joint": JointFusion(),
    "joint, overlap": JointFusion(overlap=0.5),
    "STAPLE": Staple(),
}
_TRIED: dict[str, Fusion] = {
    "joint, alpha 0.1": JointFusion(alpha=0.1),
    "joint, alpha 1": JointFusion(alpha=1.0),
    "joint, own 0": JointFusion(own=0.0),
    "joint, own 100": JointFusion(own=100.0),
    "joint, radius 1": JointFusion(radius=1),
    "joint, radius 3": JointFusion(radius=3),
    "joint, search 1": JointFusion(search=1),
    "joint, overlap 0": JointFusion(overlap=0.0),
    "joint, overlap 0.25": JointFusion(overlap=0.25),
    "joint, overlap 1": JointFusion(overlap=1.0),
}
# of how well atlases fit a template, in the choice of one
_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
_DRAWS, _THREE, _ANTS_TARGETS = 4, 3, 3
# atlases that look most like the target, where not all are registered
_LIKEST = (7, 5)


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=["brain2d", "brain3d", "hearts3d", "hearts2d"], metavar="CASE")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a network of `run hearts` for hearts2d; left out without")
    parser.add_argument("--targets", type=int, default=10**6, help="stop after so many new targets")
    parser.add_argument("--ants-python", type=Path, metavar="PATH", help="an interpreter that has antspyx; left out without")


def run(options: argparse.Namespace) -> None:
    """Measure what the output lacks."""
    set_threads(min(options.threads, ar.get_threads()))
    record = continued(
        options.output, about(options.threads, ("augreg", "numba", "numpy", "scipy")) | {"split": options.split, "rows": []}
    )
    left = options.targets
    for name in options.only:
        case = cases(options.split)[name]
        done = {row["target"] for row in record["rows"] if row["case"] == name}
        for target in [one for one in case.targets if one not in done][:left]:
            left -= 1
            begin = time.perf_counter()
            rows = [{"case": name, "target": target, **row} for row in _rows(case, target, options)]
            # of a target all rows or none: they share registrations
            record["rows"] += rows
            write_record(options.output, record)
            print(f"{name} {target}: {len(rows)} rows, {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)


@dataclass
class _Clock:
    """CPU seconds since the last look."""

    last: float = field(default_factory=time.process_time)

    def took(self) -> float:
        """And begin again."""
        now = time.process_time()
        seconds, self.last = now - self.last, now
        return seconds


def _rows(case: Case, target: str, options: argparse.Namespace) -> Iterator[Row]:
    registration = ar.LPRegistration.for_people()
    names = case.of(target)
    here = case.read(target)
    atlases = [case.read(name) for name in names]
    # kernels are compiled, or loaded, before anything is measured
    _warm(registration, here, atlases[0])
    clock = _Clock()
    online, spent = [], []
    for atlas in atlases:
        online.append(registration(here.image, atlas.image))
        spent.append(clock.took())
    direct = []
    for atlas, phi in zip(atlases, online, strict=True):
        direct.append(atlas.through(phi, here.image.grid))
    mapped = clock.took()
    cost = (sum(spent) + mapped) / len(names)
    yield {"way": "single atlas: mean", **_single(case, here, direct), "cpu_seconds": cost, "registrations": 1}
    fusions = _FUSIONS | (_TRIED if options.split == "training" else {})
    if case.name == "brain3d":
        # minutes, and below the majority on every slice
        del fusions["STAPLE"]
    for name, fusion in fusions.items():
        yield _fused(case, here, direct, fusion, f"direct, {name}", sum(spent) + mapped, len(names))
    # minutes a volume
    if options.ants_python and case.name == "brain2d" and target in case.targets[:_ANTS_TARGETS]:
        yield _ants(case, here, direct, options.ants_python)
    if case.name == "brain2d":
        yield from _through_templates(case, here, atlases, names, online, spent, options.split)
    if case.name == "hearts2d" and options.weights:
        yield from _by_network(case, here, atlases, options.weights)


def _single(case: Case, here: Atlas, maps: Sequence[Atlas]) -> Row:
    """Dice of each map by itself: the mean, the best, and the mean of each label where these are told."""
    overlaps = [case.dice(one.labels, here.labels) for one in maps]
    scores = [float(np.mean(list(one.values()))) for one in overlaps]
    row: Row = {"dice": float(np.mean(scores)), "best": max(scores)}
    return row | _labels(case, {name: float(np.mean([one[name] for one in overlaps])) for name in overlaps[0]})


def _labels(case: Case, overlaps: Mapping[int, float]) -> Row:
    return {f"label {name}": value for name, value in overlaps.items()} if case.name.startswith("hearts") else {}


def _by_network(case: Case, here: Atlas, atlases: Sequence[Atlas], weights: Path) -> Iterator[Row]:
    """The registrations of a network, fused; and the label map that its marker draws without any atlas, if it has one."""
    from benchmarks.atlas.network import Marks, flow_of  # brings torch

    flow = flow_of(weights)
    flow(here.image, atlases[0].image)
    clock = _Clock()
    maps = [atlas.through(flow(here.image, atlas.image), here.image.grid) for atlas in atlases]
    spent = clock.took()
    cost = spent / len(atlases)
    yield {"way": "network, single atlas: mean", **_single(case, here, maps), "cpu_seconds": cost, "registrations": 1}
    for name in ("majority", "joint", "joint, overlap"):
        yield _fused(case, here, maps, _FUSIONS[name], f"network, {name}", spent, len(atlases))
    marks = Marks.of(flow)
    if marks is not None:
        clock.took()
        overlaps = case.dice(marks(here.image), here.labels)
        row: Row = {"way": "network's marks, no atlas", "cpu_seconds": clock.took(), "registrations": 0}
        yield row | {"dice": float(np.mean(list(overlaps.values())))} | _labels(case, overlaps)


def _fused(case: Case, here: Atlas, maps: Sequence[Atlas], fusion: Fusion, way: str, before: float, registrations: int) -> Row:
    """A row; `before` are the CPU seconds of the maps."""
    clock = _Clock()
    found = fuse(here.image, maps, fusion)
    took = clock.took()
    overlaps = case.dice(found.labels, here.labels)
    row: Row = {
        "way": way,
        "dice": float(np.mean(list(overlaps.values()))),
        "cpu_seconds": before + took,
        "fusion_seconds": took,
        "registrations": registrations,
        "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    return row | _labels(case, overlaps)


def _through_templates(
    case: Case,
    here: Atlas,
    atlases: Sequence[Atlas],
    names: Sequence[str],
    online: Sequence[ar.Transform],
    spent: Sequence[float],
    split: str,
) -> Iterator[Row]:
    """Templates chosen, drawn, and shared by all."""
    bank = _bank(case, atlases, ar.LPRegistration.for_people())
    bank.choose(here.image, 1)
    begun = TemplateBank.direct(bank)
    clock, maps, mapping = _Clock(), [], []
    for count in (len(atlases), *_LIKEST):
        clock.took()
        direct = list(begun.propagate(here.image, begun.choose(here.image, count)))
        took = clock.took()
        way = "direct" if count == len(atlases) else f"direct, {count} most alike"
        for name in ("joint", "joint, overlap"):
            yield _fused(case, here, direct, _FUSIONS[name], f"{way}, begun by the bank's rough maps, {name}", took, count)
    clock.took()
    for t, phi in enumerate(online):
        maps.append(list(bank.carried(Choice(t), phi, here.image.grid)))
        mapping.append(clock.took())
    rng = np.random.default_rng(int(names[0]) + len(names) + int(here.labels.values.sum()) % 1000)
    draws = [rng.choice(len(maps), _THREE, replace=False) for _ in range(_DRAWS)]
    ways = ((1, "one template chosen"), (2, "two templates chosen"), (_THREE, "three templates chosen"))
    propagated = []
    for count, way in ways:
        clock.took()
        chosen = bank.choose(here.image, count)
        propagated.append((way, count, list(bank.propagate(here.image, chosen)), clock.took()))
    for name in ("joint", "joint, overlap"):
        fusion = _FUSIONS[name]
        common = [_fused(case, here, one, fusion, "", spent[t] + mapping[t], 1) for t, one in enumerate(maps)]
        yield _averaged(common, f"one template, all the same: mean, {name}") | {"best": max(row["dice"] for row in common)}
        for weight in _WEIGHTS if split == "training" else ():
            first = max(bank.ranked(here.image), key=lambda choice, w=weight: choice.likeness + w * choice.fit)
            yield {"way": f"one template chosen, weight of the fit {weight}, {name}", "dice": common[first.template]["dice"]}
        drawn = []
        for draw in draws:
            before = sum(spent[t] + mapping[t] for t in draw)
            drawn.append(_fused(case, here, [one for t in draw for one in maps[t]], fusion, "", before, _THREE))
        yield _averaged(drawn, f"three templates drawn: mean, {name}")
        for way, count, some, took in propagated:
            yield _fused(case, here, some, fusion, f"{way}, {name}", took, count)
    for way, count, some, took in propagated:
        if count != 2:
            yield _fused(case, here, some, Majority(), f"{way}, majority", took, count)


def _averaged(rows: Sequence[Row], way: str) -> Row:
    numbers = [name for name in rows[0] if name != "way"]
    return {"way": way} | {name: float(np.mean([row[name] for row in rows])) for name in numbers}


def _bank(case: Case, atlases: Sequence[Atlas], registration: ar.LPRegistration) -> TemplateBank:
    """All atlases as templates; the folder is shared by all targets."""
    folder = ROOT / "runs" / "atlas" / case.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    images = [atlas.image for atlas in atlases]
    for _ in building(images, atlases, registration, folder):
        pass
    return TemplateBank.read(folder, registration).held()


def _warm(registration: ar.LPRegistration, here: Atlas, atlas: Atlas) -> None:
    maps = [atlas.through(registration(here.image, atlas.image), here.image.grid), here]
    for fusion in (*_FUSIONS.values(), JointFusion(search=1)):
        box, few = boxed(here, maps, 20)
        fuse(box.image, few, fusion)


def _ants(case: Case, here: Atlas, maps: Sequence[Atlas], python: Path) -> Row:
    """ANTs' joint fusion of the same maps."""
    labels, seconds = joint_fusion(here.image, maps, python)
    return {"way": "direct, ANTs' joint fusion", "dice": _mean(case, labels, here.labels), "fusion_seconds": seconds}


def _mean(case: Case, found: ar.Labels, truth: ar.Labels) -> float:
    return float(np.mean(list(case.dice(found, truth).values())))
