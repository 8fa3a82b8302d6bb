"""How far a registration may start: the share of pairs found and its price, for turns, mirrors, headers, negatives, labels.

Affine maps (rigid ones where headers lie) with default settings but for the option that a part is about. A pair is found if the
median error is at most 5 pixels, 3 voxels in 3-D, of sections in two stains 2 % of the diagonal; label maps if their Dice is at
least 0.6. Where an option is asked for, the same pairs are registered without it, too. A row counts the pairs of one image under
one setting and names the lost ones; a run that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from contextlib import nullcontext
from itertools import groupby
from statistics import mean, median
from typing import Any

import numpy as np

import augreg as ar
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.harness.timing import timed
from benchmarks.silent.run import doubted
from benchmarks.start.cases import PARTS, Far
from benchmarks.start.signs import KINDS, profiles_of_either_sign

_LEAST_DICE = 0.6
_WIDE = {"rotation": 180.0}
# what the pairs of a part are registered with, beside what the part is about
_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "angle": {
        "rotation 15": {},
        "rotation 180": _WIDE,
        "mi, rotation 15": {"criterion": "mi"},
        "mi": _WIDE | {"criterion": "mi"},
    },
    "mirror": {"rotation 180": _WIDE, "mi, rotation 180": _WIDE | {"criterion": "mi"}},
    "cubes": {"rotation 15": {}, "rotation 180": _WIDE},
    "flips": {"rotation 180": _WIDE},
    "negative": {
        "contrast any": {},
        "1 - |ncc|": {"contrast": "same"},
        "1 - ncc^2": {"contrast": "same"},
        "mi": {"contrast": "same", "criterion": "mi"},
        "contrast same": {"contrast": "same"},
    },
    "labels": {"rigid": {}, "affine": {"transform": "affine"}},
}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="images whose names, such as angle/camera, hold one"
    )
    parser.add_argument("--settings", nargs="+", default=[], metavar="NAME", help="rows of the tables; all by default")


def run(options: argparse.Namespace) -> None:
    """Register all pairs that the output lacks."""
    set_threads(1)
    record = continued(options.output, about(1, ["augreg", "simpleitk", "numpy"]) | {"rows": []})
    done = {(row["images"], row["setting"]) for row in record["rows"]}
    warm: set[tuple[str, str]] = set()
    for part in options.parts:
        settings = {name: given for name, given in _SETTINGS[part].items() if name in (options.settings or _SETTINGS[part])}
        cases = (case for case in PARTS[part]() if any(text in _images(case) for text in options.only))
        # groups are made while they are looked at: an image whose rows are all there costs its pairs alone
        for images, group in groupby(cases, key=_images):
            lacking = {name: given for name, given in settings.items() if (images, name) not in done}
            pairs = list(group) if lacking else []
            for name, given in lacking.items():
                if (part, name) not in warm:
                    # kernels are compiled here
                    judged(pairs[0], name, given)
                    warm.add((part, name))
                record["rows"].append(counted(images, name, [judged(case, name, given) for case in pairs]))
                write_record(options.output, record)
                print(json.dumps(record["rows"][-1]), file=sys.stderr, flush=True)


def _images(case: Far) -> str:
    return case.key.rsplit("/", 1)[0]


def counted(images: str, setting: str, judgements: list[Row]) -> Row:
    """A row: how many pairs, which ones are lost with and without a word, median time."""
    lost = {
        what: [row["case"].rsplit("/", 1)[1] for row in judgements if not row["found"] and row["doubted"] == what]
        for what in (True, False)
    }
    row = {"images": images, "setting": setting, "pairs": len(judgements), "silent": lost[False], "doubted": lost[True]}
    dice = {"dice": round(mean(row["dice"] for row in judgements), 4)} if "dice" in judgements[0] else {}
    return row | dice | {"cpu_ms": round(1000 * median(row["cpu_seconds"] for row in judgements), 1)}


def judged(case: Far, name: str, setting: dict[str, Any]) -> Row:
    """Register and judge one pair."""
    solid = case.fixed.ndim == 3
    asked = {"transform": "rigid" if solid else "affine"} | case.options | setting
    register = ar.LPRegistration(**asked)
    with profiles_of_either_sign(name) if name in KINDS else nullcontext():
        (*_, state), took = timed(lambda: list(register.steps(case.fixed, case.moving, **case.given)))
    error = float(np.median(np.linalg.norm(state.transform(case.points) - case.targets, axis=1)))
    row = {"case": case.key, "setting": name, "error": error / case.limit if np.isfinite(case.limit) else error}
    if case.given:
        moved = ar.warp(case.given["moving_labels"], state.transform, case.fixed.grid)
        overlap = ar.metrics.mean_overlap(ar.dice(case.given["fixed_labels"], moved, known=[1]))
        row |= {"dice": overlap, "found": overlap >= _LEAST_DICE}
    else:
        row |= {"found": error <= case.limit}
    return row | {"doubted": doubted({"warnings": state.warnings}), "cpu_seconds": took["cpu_seconds"]}


def rendered(record: Record) -> str:
    """A line for each kind of images and setting; of the times of its images the median."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in record["rows"]:
        part, images = row["images"].split("/")
        groups[part, _kind(images), row["setting"]].append(row)
    lines = []
    for (part, kind, setting), rows in groups.items():
        pairs, silent = sum(row["pairs"] for row in rows), sum(len(row["silent"]) for row in rows)
        found = pairs - silent - sum(len(row["doubted"]) for row in rows)
        dice = f"{sum(row['dice'] * row['pairs'] for row in rows) / pairs:.3f}" if "dice" in rows[0] else ""
        # a bar would end the cell
        lines.append([part, kind, setting.replace("|", "\\|"), str(pairs), f"{found / pairs:.1%}", str(silent), dice])
        lines[-1].append(f"{median(row['cpu_ms'] for row in rows):.0f}")
    head = ["part", "images", "setting", "pairs", "found", "lost, nothing said", "Dice", "CPU ms"]
    return f"{heading(record)}\n\n{table(head, lines)}"


def _kind(images: str) -> str:
    if images in ("kidney", "lesion"):
        return "sections in two stains"
    if (images[0] == "r" and images[1:3].isdigit()) or images.endswith(("_z08", "_z20")):
        return "brain slices"
    if images[:1].isdigit():
        return "hearts" if images.endswith("_ed") else "brains"
    return "glands" if images == "glands" else "photographs"
