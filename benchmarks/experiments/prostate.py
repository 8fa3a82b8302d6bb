"""Prostates in ultrasound and MR: networks that labels have taught and that need none in use, beside registrations and an oracle.

`--only affine marked` picks methods, `--choosing` keeps test patients out: of the training patients every fourth is tested.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
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
from benchmarks.experiments.lessons import learned, once
from benchmarks.experiments.outlines import Shown, write_page
from benchmarks.experiments.prostate_lessons import RATE, SEEDS, SPACING, STEPS, WEIGHTS_OF, lesson, together
from benchmarks.experiments.prostate_table import NAMES, rendered
from benchmarks.harness.record import Record, Row, about, write_record

__all__ = ["options", "rendered", "run"]

_PACKAGES = ("numpy", "torch")
# patients on the page
_SHOWN = 5


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    known = ", ".join([*PLAIN, *SEEDS, "together", *WEIGHTS_OF])
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help=f"of {known}; what these need is made too")
    parser.add_argument("--choosing", action="store_true", help="test on some of the training patients, learn from the others")
    parser.add_argument("--out", type=Path, default=Path("runs/prostate"), metavar="FOLDER", help="of networks; is continued")
    parser.add_argument("--page", type=Path, metavar="PAGE.html", help="also draw some pairs, with the networks that are there")


def run(options: argparse.Namespace) -> None:
    """Measure."""
    study = glands.read_glands()
    folder = options.out
    if options.choosing:
        study, folder = study.choosing(), folder / "choosing"
    settings = {"spacing": SPACING, "steps": STEPS, "rate": RATE, "weights": WEIGHTS_OF}
    record: Record = {**about(1, _PACKAGES), "settings": settings, "trainings": [], "rows": []}
    wanted = options.only or [*PLAIN, *SEEDS, "together", *WEIGHTS_OF]
    with torch_threads(1):
        pairs = real_pairs(glands.lines(study.training), [SPACING], before=Centred())
        for method in (*PLAIN, *SEEDS, "together", *WEIGHTS_OF):
            for seed in range(SEEDS.get(method, 1)):
                key = f"{method}-s{seed}"
                if method in wanted or key in wanted:
                    print(f"{key} ...", file=sys.stderr, flush=True)
                    found = once(folder / key, partial(_measured, method, seed, study, pairs, folder))
                    record["rows"] += found["rows"]
                    record["trainings"] += found["trainings"]
    write_record(options.output, record)
    if options.page is not None:
        # of other patients
        shown = [_shown(scan, wanted, folder) for scan in study.test[:: max(1, len(study.test) // _SHOWN)][:_SHOWN]]
        lead = "Prostates of patients that no network has learned from: ultrasound, and outlines of the gland in MR."
        write_page(options.page, "Prostates in ultrasound and MR", lead, shown)


def _shown(scan: Scan, wanted: list[str], folder: Path) -> Shown:
    found = {NAMES[method]: PLAIN[method](scan) for method in PLAIN if method in wanted}
    for method in (*SEEDS, "together", *WEIGHTS_OF):
        weights = folder / (method if method == "together" else f"{method}-s0") / WEIGHTS
        if method in wanted and weights.exists():
            found[NAMES[method]] = Chained(Centred(), FlowRegistration.from_file(weights))(scan.fixed, scan.moving)
    return Shown(scan.name, scan.fixed, scan.fixed_gland, scan.moving_gland, found)


def _measured(method: str, seed: int, study: Glands, pairs: RealPairs, folder: Path) -> Record:
    """The rows of a method, and of its training."""
    if method in PLAIN:
        return {"rows": list(_rows(method, seed, PLAIN[method], study)), "trainings": []}
    trainings: list[Row] = []
    if method == "together":
        flow = FlowRegistration.from_file(together(SEEDS["marked"], pairs.spacing, folder))
    else:
        flow, seconds = learned(lesson(method, seed, pairs, folder), pairs.spacing, folder / f"{method}-s{seed}")
        trainings.append({"method": method, "seed": seed, "cpu_seconds": seconds})
    return {"rows": list(_rows(method, seed, partial(_alone, Chained(Centred(), flow)), study)), "trainings": trainings}


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


def _rows(method: str, seed: int, register: Callable[[Scan], Transform], study: Glands) -> Iterator[Row]:
    # once for what a first call has to load
    register(study.training[0])
    for scan in study.test:
        begin = time.process_time()
        phi = register(scan)
        spent = time.process_time() - begin
        known = {"method": method, "seed": seed, "scan": scan.name, "patient": scan.patient}
        yield {**known, **glands.measured(scan, phi), "cpu_ms": 1000 * spent}
