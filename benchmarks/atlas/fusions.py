"""Joint fusion of the same propagated maps, ours and ANTs': 10 maps of a brain slice, 5 maps of a brain volume of 1 mm.

Maps of people are carried to a test person by direct registrations, which are not timed. Ours stands with its defaults, and with
the numbers that ANTs has (radius 2, search 3, beta 4, small alpha). ANTs' runs in a process of its own with its defaults, one
thread, and within a mask of the voxels that some map labels (`--ants-python`); of volumes it gets a box around the middle, which
ours gets, too. CPU seconds, the least of some runs of ours; ANTs' one run.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import augreg as ar
from augreg.atlas import Atlas, Fusion, JointFusion, Majority, fuse
from augreg.threads import set_threads
from benchmarks.atlas.ants_fusion import joint_fusion
from benchmarks.atlas.cases import Case, boxed, cases
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.harness.timing import timed

__all__ = ["options", "rendered", "run"]

_WAYS: dict[str, Fusion] = {
    "augreg, joint": JointFusion(),
    "augreg, joint, overlap": JointFusion(overlap=0.5),
    "augreg, joint with ANTs' numbers": JointFusion(radius=2, search=3, beta=4.0, alpha=0.01),
    "augreg, majority": Majority(),
}
_ANTS = "ANTs, joint"
# CPU seconds to stay below
_GOALS = {"10 maps of 160 x 192": 0.1, "5 volumes of 1 mm": 20.0}
_BOX = 48


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--ants-python", type=Path, metavar="PATH", help="an interpreter that has antspyx; left out without")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="cases, by their names")


def run(options: argparse.Namespace) -> None:
    """Measure what the output lacks."""
    set_threads(1)
    record = continued(options.output, about(1, ("augreg", "numba", "numpy", "scipy")) | {"rows": []})
    done = {(row["case"], row["way"]) for row in record["rows"]}
    known = cases("test")
    for name, case, target, count, box, repeats in (
        ("10 maps of 160 x 192", known["brain2d"], known["brain2d"].targets[0], 10, None, 5),
        ("5 volumes of 1 mm", known["brain3d"], known["brain3d"].targets[0], 5, None, 2),
        (f"5 boxes of {_BOX} x {_BOX} x {_BOX}", known["brain3d"], known["brain3d"].targets[0], 5, _BOX, 2),
    ):
        wanted = [*_WAYS, *([_ANTS] if options.ants_python and (box or case.name == "brain2d") else [])]
        left = [way for way in wanted if (name, way) not in done]
        if not left or (options.only and name not in options.only):
            continue
        here, maps = _propagated(case, target, count)
        if box:
            here, maps = boxed(here, maps, box)
        for way in left:
            row = {"case": name, "way": way, **_row(case, here, maps, way, repeats, options.ants_python)}
            record["rows"].append(row)
            write_record(options.output, record)
            print(row, file=sys.stderr, flush=True)


def rendered(record: Record) -> str:
    """The table."""
    head = ["maps", "fusion", "CPU s", "goal", "Dice", "voxels that disagree", "memory GB"]
    return heading(record) + "\n\n" + table(head, list(_lines(record["rows"])))


def _lines(rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in rows:
        goal = _GOALS.get(row["case"]) if row["way"] == "augreg, joint" else None
        memory = f"{row['memory_gb']:.1f}" if "memory_gb" in row else ""
        yield [
            row["case"],
            row["way"],
            f"{row['cpu_seconds']:.3g}",
            f"{goal:g}" if goal else "",
            f"{row['dice']:.3f}",
            str(row["disputed"]),
            memory,
        ]


def _row(case: Case, here: Atlas, maps: Sequence[Atlas], way: str, repeats: int, python: Path | None) -> Row:
    disputed = int((np.ptp([one.labels.values for one in maps], axis=0) > 0).sum())
    if way == _ANTS:
        assert python is not None
        labels, spent = joint_fusion(here.image, maps, python)
    else:
        spent, fused = math.inf, partial(fuse, here.image, maps, _WAYS[way])
        # kernels are compiled, or loaded, before anything is measured
        _compiled(here, maps, _WAYS[way])
        for _ in range(repeats):
            found, took = timed(fused)
            labels, spent = found.labels, min(spent, took["cpu_seconds"])
    overlaps = case.dice(labels, here.labels)
    memory = {} if way == _ANTS else {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    return {"cpu_seconds": spent, "dice": float(np.mean(list(overlaps.values()))), "disputed": disputed, **memory}


def _compiled(here: Atlas, maps: Sequence[Atlas], fusion: Fusion) -> None:
    box, few = boxed(here, maps, 16)
    fuse(box.image, few, fusion)


def _propagated(case: Case, target: str, count: int) -> tuple[Atlas, list[Atlas]]:
    """A test person, and so many others on their grid."""
    here, registration = case.read(target), ar.LPRegistration.for_people()
    others = map(case.read, case.of(target)[:count])
    return here, [one.through(registration(here.image, one.image), here.image.grid) for one in others]
