"""Agents that move step by step, on prostates (US to MR) and on brains in any contrast, beside maps said at once and programs.

`--only prostates:agent-alone brains:agent` picks, `--choosing` keeps test people out. Networks lie in a folder, and go on.
`--before runs/prostate` has the networks of `prostate`; without, those that are needed are trained first.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

from augreg.registration import Centred
from augreg.threads import set_threads
from augreg.training import WEIGHTS, real_pairs
from benchmarks.agent import brains, prostates
from benchmarks.agent.path import write_path
from benchmarks.agent.table import rendered
from benchmarks.experiments import glands, prostate_lessons
from benchmarks.experiments.lessons import learned, once
from benchmarks.harness.record import Record, Row, about, write_record

__all__ = ["options", "rendered", "run"]

_PACKAGES = ("numpy", "torch")
# of rows, in what is kept
_LEFT_OUT = ("patient", "before")


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", default=list(_ALL), metavar="METHOD", help=f"of {', '.join(_ALL)}")
    parser.add_argument("--choosing", action="store_true", help="test on some of the training people, learn from the others")
    parser.add_argument("--out", type=Path, default=Path("runs/agent"), metavar="FOLDER", help="of networks; is continued")
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="of the networks of `prostate`, which are trained where they are not there"
    )
    parser.add_argument("--page", type=Path, metavar="PICTURE.png", help="also draw the path of an agent through poses")


_ALL = (*(f"prostates:{name}" for name in prostates.METHODS), *(f"brains:{name}" for name in brains.METHODS))


def run(options: argparse.Namespace) -> None:
    """Measure."""
    set_threads(1)
    torch.set_num_threads(1)
    folder = options.out / "choosing" if options.choosing else options.out
    study = glands.read_glands()
    study = study.choosing() if options.choosing else study
    steps = {"prostates": prostates.STEPS, "brains": brains.STEPS}
    record: Record = {**about(1, _PACKAGES), "settings": {"steps": steps}, "trainings": [], "rows": []}
    for name in _ALL:
        if name not in options.only:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        subject, method = name.split(":")
        if subject == "prostates":
            before = options.before or folder
            if method not in ("none", "program"):
                _prepared(study, before, "affine" if method == "affine" else "marked")
            make = partial(prostates.record, method, study, folder, before)
        else:
            make = partial(brains.record, method, folder, choosing=options.choosing)
        found = once(folder / f"{subject}-{method}", make)
        record["rows"] += [{"subject": subject, **_short(row)} for row in found["rows"]]
        record["trainings"] += [{"subject": subject, **row} for row in found["trainings"]]
    write_record(options.output, record)
    if options.page is not None:
        write_path(options.page, folder, choosing=options.choosing)


def _short(row: Row) -> Row:
    """What the tables need, three digits."""
    return {name: float(f"{v:.3g}") if isinstance(v, float) else v for name, v in row.items() if name not in _LEFT_OUT}


def _prepared(study: glands.Glands, folder: Path, method: str) -> None:
    """A network that learns as in `prostate`."""
    place = folder / f"{method}-s0"
    if not (place / WEIGHTS).exists():
        pairs = real_pairs(glands.lines(study.training), [prostate_lessons.SPACING], before=Centred())
        learned(prostate_lessons.lesson(method, 0, pairs, folder), pairs.spacing, place)
