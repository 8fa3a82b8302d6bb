"""Prostates in ultrasound and MR: networks that labels have taught and that need none in use, beside registrations and an oracle.

`--only affine marked` picks methods, `--choosing` keeps test patients out: of the training patients every fourth is tested;
with `--weights 1 3` regularisers are tried with these weights there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from augreg.geometry.image import Image
from augreg.geometry.transforms import Transform
from augreg.lp import LPRegistration
from augreg.networks import FlowRegistration
from augreg.registration import Centred, Chained
from augreg.training import WEIGHTS, RealPairs, real_pairs, torch_threads
from benchmarks.experiments import glands
from benchmarks.experiments.glands import Glands, Scan
from benchmarks.experiments.lessons import learned, once, shortened
from benchmarks.experiments.outlines import Shown, write_page
from benchmarks.experiments.prostate_lessons import RATE, SEEDS, SPACING, STEPS, WEIGHTS_OF, lesson, together
from benchmarks.experiments.prostate_table import NAMES, rendered
from benchmarks.harness.record import Record, Row, Unusable, about, write_record

__all__ = ["options", "rendered", "run"]

_PACKAGES = ("numpy", "torch")
# patients on the page
_SHOWN = 5


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    known = ", ".join(METHODS)
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help=f"or keys, as marked-s1; of {known}")
    parser.add_argument("--choosing", action="store_true", help="test on some of the training patients, learn from the others")
    parser.add_argument("--weights", nargs="+", type=float, metavar="W", help="of regularisers, with --choosing; one seed")
    parser.add_argument("--out", type=Path, default=Path("runs/prostate"), metavar="FOLDER", help="of networks; is continued")
    parser.add_argument("--page", type=Path, metavar="PAGE.html", help="also draw some pairs, with the networks that are there")


def run(options: argparse.Namespace) -> None:
    """Measure."""
    if options.weights and not options.choosing:
        raise Unusable("--weights: expected --choosing, since test patients choose nothing, got none; add it")
    study = glands.read_glands()
    folder = options.out
    if options.choosing:
        study, folder = study.choosing(), folder / "choosing"
    settings = {"spacing": SPACING, "steps": STEPS, "rate": RATE, "weights": WEIGHTS_OF}
    record: Record = {**about(1, _PACKAGES), "settings": settings, "trainings": [], "rows": []}
    with torch_threads(1):
        pairs = real_pairs(glands.lines(study.training), [SPACING], before=Centred())
        wanted = options.only or list(METHODS)
        for one in _runs(wanted, options.weights):
            print(f"{one.key} ...", file=sys.stderr, flush=True)
            found = once(folder / one.key, partial(_measured, one, study, pairs, folder))
            record["rows"] += shortened(found["rows"])
            record["trainings"] += found["trainings"]
    write_record(options.output, record)
    if options.page is not None:
        # of other patients
        shown = [_shown(scan, wanted, folder) for scan in study.test[:: max(1, len(study.test) // _SHOWN)][:_SHOWN]]
        lead = "Prostates of patients that no network has learned from: ultrasound, and outlines of the gland in MR."
        write_page(options.page, "Prostates in ultrasound and MR", lead, shown)


@dataclass(frozen=True)
class Run:
    """A method, its seed, and the weight of its regulariser where it is not the settled one."""

    method: str
    seed: int = 0
    weight: float | None = None

    @property
    def key(self) -> str:
        """Unique, and the name of the run's folder."""
        return f"{self.name}-s{self.seed}"

    @property
    def name(self) -> str:
        """The method, with its weight."""
        return self.method if self.weight is None else f"{self.method}-w{self.weight:g}"


def _runs(only: list[str], weights: list[float] | None) -> Iterator[Run]:
    for method in METHODS:
        tried = weights if weights and method in WEIGHTS_OF else [None]
        seeds = 1 if weights else SEEDS.get(method, 1)
        for run in (Run(method, seed, weight) for weight in tried for seed in range(seeds)):
            if method in only or run.key in only:
                yield run


def _shown(scan: Scan, wanted: list[str], folder: Path) -> Shown:
    found = {NAMES[method]: PLAIN[method](scan) for method in PLAIN if method in wanted}
    for method in METHODS:
        weights = folder / (method if method == "together" else f"{method}-s0") / WEIGHTS
        if method in wanted and weights.exists():
            found[NAMES[method]] = Chained(Centred(), FlowRegistration.from_file(weights))(scan.fixed, scan.moving)
    return Shown(scan.name, scan.fixed, scan.fixed_gland, scan.moving_gland, found)


def _measured(run: Run, study: Glands, pairs: RealPairs, folder: Path) -> Record:
    """The rows of a method, and of its training."""
    if run.method in PLAIN:
        return {"rows": list(_rows(run, PLAIN[run.method], study)), "trainings": []}
    trainings: list[Row] = []
    if run.method == "together":
        flow = FlowRegistration.from_file(together(SEEDS["marked"], pairs.spacing, folder))
    else:
        taught = lesson(run.method, run.seed, pairs, folder, run.weight)
        flow, seconds = learned(taught, pairs.spacing, folder / run.key)
        trainings.append({"method": run.name, "seed": run.seed, "cpu_seconds": seconds})
    return {"rows": list(_rows(run, partial(_alone, Chained(Centred(), flow)), study)), "trainings": trainings}


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


# in the order in which they need each other
METHODS = (*PLAIN, "affine", "cascade", "frozen", "marked", "together", *WEIGHTS_OF)


def _rows(run: Run, register: Callable[[Scan], Transform], study: Glands) -> Iterator[Row]:
    # once for what a first call has to load
    register(study.training[0])
    for scan in study.test:
        begin = time.process_time()
        phi = register(scan)
        spent = time.process_time() - begin
        known = {"method": run.name, "seed": run.seed, "scan": scan.name, "patient": scan.patient}
        yield {**known, **glands.measured(scan, phi), "cpu_ms": 1000 * spent}
