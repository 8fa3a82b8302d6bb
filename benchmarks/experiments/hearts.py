"""Hearts of two people: velocities learned from labels, from outlines matched beforehand (SVF-Net) or from likeness.

`cardiac2d` and `hearts3d`, sections, and `volumes` are three studies, see `benchmarks.experiments.sections`.
`--choosing` keeps test people out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from augreg.geometry.image import Image
from augreg.geometry.resampling import resample
from augreg.geometry.transforms import Transform
from augreg.lp import LPRegistration
from augreg.networks import RefinedFlow, read_network
from augreg.training import WEIGHTS, FlowRegistration, torch_threads
from benchmarks.experiments.hearts_lessons import SEEDS, SPACING, STEPS, lesson
from benchmarks.experiments.hearts_table import NAMES, rendered
from benchmarks.experiments.lessons import learned, once, one_by_one, shortened
from benchmarks.experiments.measures import measured
from benchmarks.experiments.outlines import Shown, write_page
from benchmarks.experiments.people import Pair, Subject
from benchmarks.experiments.sections import Sections, read_sections
from benchmarks.experiments.software import Method, nothing, rival, timed
from benchmarks.harness.record import Record, Row, about, write_record

__all__ = ["options", "rendered", "run"]

_PACKAGES = ("numpy", "torch")
STUDIES = ("cardiac2d", "hearts3d", "volumes")
PLAIN: dict[str, Callable[[Image, Image], Transform]] = {"none": nothing, "program": LPRegistration()}
RIVALS = ("syn_cc",)
# networks, then gradient steps on the pair at hand: how many was chosen on training people of `cardiac2d`
REFINED, _REFINING = {"marked_refined": "marked", "refined": "together"}, 10
_CORNER, _SHOWN = 6, 4


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
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="METHOD",
        help=f"or keys, as hearts3d-marked-s0; of {', '.join([*PLAIN, *RIVALS, *SEEDS, *REFINED])}",
    )
    parser.add_argument("--choosing", action="store_true", help="test on some of the training people, learn from the others")
    parser.add_argument("--out", type=Path, default=Path("runs/hearts"), metavar="FOLDER", help="of networks; is continued")
    parser.add_argument("--ants-python", type=Path, metavar="PYTHON", help="of an environment with antspyx")
    parser.add_argument("--page", type=Path, metavar="PAGE.html", help="also draw some pairs, with the networks that are there")


def run(options: argparse.Namespace) -> None:
    """Measure."""
    record: Record = {**about(1, _PACKAGES), "spacing": SPACING, "steps": STEPS, "trainings": [], "rows": []}
    folder = options.out / "choosing" if options.choosing else options.out
    with torch_threads(1):
        for name in options.study:
            study = read_sections(name, choosing=options.choosing)
            for one in _runs(name, options.only):
                if one.method in RIVALS and options.ants_python is None and not (folder / one.key).exists():
                    continue
                print(f"{one.key} ...", file=sys.stderr, flush=True)
                found = once(folder / one.key, partial(_measured, one, study, folder / one.key, options.ants_python))
                record["rows"] += shortened(found["rows"])
                record["trainings"] += found["trainings"]
                record["versions"] |= found["versions"]
    write_record(options.output, record)
    if options.page is not None:
        shown = [one for name in options.study for one in _shown(name, options, folder)]
        lead = "Sections of hearts of two people, whom no network has learned from."
        write_page(options.page, "Hearts of two people", lead, shown)


def _shown(name: str, options: argparse.Namespace, folder: Path) -> list[Shown]:
    study = read_sections(name, choosing=options.choosing)
    methods: dict[str, Callable[[Image, Image], Transform]] = {NAMES[method]: PLAIN[method] for method in PLAIN}
    for method in SEEDS:
        weights = folder / Run(name, method).key / WEIGHTS
        if weights.exists():
            methods[NAMES[method]] = FlowRegistration.from_file(weights)
    pairs = study.pairs[:: max(1, len(study.pairs) // _SHOWN)][:_SHOWN]
    return [
        Shown(
            f"{name}: {pair.fixed.name}, {pair.moving.name}",
            pair.fixed.image,
            pair.fixed.labels,
            pair.moving.labels,
            {label: method(pair.fixed.image, pair.moving.image) for label, method in methods.items()},
        )
        for pair in pairs
    ]


def _measured(run: Run, study: Sections, folder: Path, ants: Path | None) -> Record:
    """The rows of a method, and of its training."""
    if run.method in RIVALS:
        shown = _seen_by_rivals(study)
        with rival(run.method, str(ants), 1, shown(study.pairs[-1])) as (method, versions):
            return {"rows": _rows(run, lambda pair: method(shown(pair)), study, folder), "trainings": [], "versions": versions}
    if run.method in PLAIN:
        return {"rows": _rows(run, timed(PLAIN[run.method]), study, folder), "trainings": [], "versions": {}}
    if run.method in REFINED:
        network = read_network(folder.parent / Run(run.study, REFINED[run.method], run.seed).key / WEIGHTS).network
        refined = FlowRegistration(RefinedFlow(network, steps=_REFINING), SPACING[run.study])
        return {"rows": _rows(run, timed(refined), study, folder), "trainings": [], "versions": {}}
    flow, seconds = learned(lesson(run.method, run.seed, study, folder.parent), SPACING[run.study], folder)
    training = {"study": run.study, "method": run.method, "seed": run.seed, "cpu_seconds": seconds}
    return {"rows": _rows(run, timed(flow), study, folder), "trainings": [training], "versions": {}}


def _seen_by_rivals(study: Sections) -> Callable[[Pair], Pair]:
    """Volumes as networks see them, since a pair of whole ones takes minutes; sections as they are."""

    def coarse(one: Subject) -> Subject:
        return replace(one, image=resample(one.image, one.image.grid.with_spacing(SPACING[study.name])))

    def shown(pair: Pair) -> Pair:
        return replace(pair, fixed=coarse(pair.fixed), moving=coarse(pair.moving)) if study.name == "volumes" else pair

    return shown


def _runs(study: str, only: list[str]) -> list[Run]:
    listed = [Run(study, method) for method in (*PLAIN, *RIVALS)]
    listed += [Run(study, method, seed) for method, seeds in SEEDS.items() for seed in range(seeds)]
    listed += [Run(study, method, seed) for method, first in REFINED.items() for seed in range(SEEDS[first])]
    return [run for run in listed if not only or run.method in only or run.key in only]


def _rows(run: Run, method: Method, study: Sections, folder: Path) -> list[Row]:
    def row(pair: Pair) -> Row:
        outcome = method(pair)
        phi = outcome.transform
        return {
            "study": run.study,
            "method": run.method,
            "seed": run.seed,
            "fixed": pair.fixed.name,
            "moving": pair.moving.name,
            **measured(pair, phi, contours=run.study == "cardiac2d"),
            "returned": _returned(phi, pair),
            "cpu_ms": 1000 * outcome.cpu_seconds,
        }

    if run.method not in RIVALS:
        # once for what a first call has to load; processes of rivals have done so
        method(study.pairs[-1])
    return one_by_one(folder, study.pairs, row)


def _returned(phi: Transform, pair: Pair) -> float:
    """The largest |phi^-1(phi(x)) - x| at voxels away from the border, mm; NaN where there is no inverse."""
    grid = pair.fixed.image.grid
    # of few slices none is away from the border
    points = grid.points()[tuple(slice(_CORNER, -_CORNER) if n > 4 * _CORNER else slice(1, -1) for n in grid.shape)]
    try:
        back = phi.inverse()
    except (ValueError, NotImplementedError, AttributeError):
        return float("nan")
    return float(np.linalg.norm(back(phi(points)) - points, axis=-1).max())
