"""Agents that move step by step, on prostates (US to MR) and on brains in any contrast, beside maps said at once and programs.

`--only prostates:agent-alone brains:agent` picks, `--choosing` keeps test people out. Networks lie in a folder, and go on.
`--marked WEIGHTS` are those of `prostate`'s networks that mark glands; they are trained first where they are not there.
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
from benchmarks.harness.record import Record, about, write_record

__all__ = ["options", "rendered", "run"]

_PACKAGES = ("numpy", "torch")


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", default=list(_ALL), metavar="METHOD", help=f"of {', '.join(_ALL)}")
    parser.add_argument("--choosing", action="store_true", help="test on some of the training people, learn from the others")
    parser.add_argument("--out", type=Path, default=Path("runs/agent"), metavar="FOLDER", help="of networks; is continued")
    parser.add_argument("--marked", type=Path, metavar="WEIGHTS", help="of the networks that mark glands")
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
            marked = options.marked or _marks(study, folder)
            make = partial(prostates.record, method, study, folder, marked)
        else:
            make = partial(brains.record, method, folder, choosing=options.choosing)
        found = once(folder / f"{subject}-{method}", make)
        record["rows"] += [{"subject": subject, **row} for row in found["rows"]]
        record["trainings"] += [{"subject": subject, **row} for row in found["trainings"]]
    write_record(options.output, record)
    if options.page is not None:
        write_path(options.page, folder, choosing=options.choosing)


def _marks(study: glands.Glands, folder: Path) -> Path:
    """The networks that mark glands, trained as `prostate` does."""
    weights = folder / "marked-s0" / WEIGHTS
    if not weights.exists():
        pairs = real_pairs(glands.lines(study.training), [prostate_lessons.SPACING], before=Centred())
        learned(prostate_lessons.lesson("marked", 0, pairs, folder), pairs.spacing, folder / "marked-s0")
    return weights
