"""What mutual information says of images that show nothing in common, and of those of other contrasts that do.

Unrelated pairs are to be doubted whatever comes out, related ones if they come out wrong. Every pair is registered with
`criterion="mi"`; a run that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from statistics import median
from unittest.mock import patch

import numpy as np

import augreg as ar
from augreg.geometry.transforms import Transform
from augreg.lp.doubts import doubts
from augreg.lp.level import Level
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.harness.timing import timed
from benchmarks.silent.pairs import Related, known, people, prostates, stains, unrelated, unrelated_volumes
from benchmarks.silent.run import doubted

# after so many pairs the record is written
_EVERY = 20
_NAMES = {
    "unrelated2d": "unrelated, 2-D",
    "unrelated3d": "unrelated, 3-D",
    "known2d": "known maps, 2-D",
    "known3d": "known maps, 3-D",
    "people2d": "brain slices of two people",
    "stains2d": "sections in two stains",
    "prostate3d": "ultrasound and MR of the prostate",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--count", type=int, default=300, help="unrelated pairs in 2-D; of others a fixed share of it")
    parser.add_argument("--learnt", action="store_true", help="the images on which thresholds were chosen, not the test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="cases whose names hold one of them")


def run(options: argparse.Namespace) -> None:
    """Register all pairs."""
    set_threads(1)
    settings = {"learnt": options.learnt, "seed": options.seed}
    record = continued(options.output, about(1, ["augreg", "simpleitk", "numpy"]) | settings | {"rows": []})
    done = {row["case"] for row in record["rows"]}
    for pair in _pairs(options.count, not options.learnt, options.seed):
        if pair.key in done or not any(text in pair.key for text in options.only):
            continue
        record["rows"].append(judged(pair))
        if record["rows"][-1]["wrong"] != doubted(record["rows"][-1]):
            print(json.dumps(record["rows"][-1]), file=sys.stderr, flush=True)
        if len(record["rows"]) % _EVERY == 0:
            write_record(options.output, record)
    write_record(options.output, record)


def _pairs(count: int, test: bool, seed: int) -> Iterator[Related]:
    return chain(
        unrelated(count, test, seed),
        people(count // 2, test, seed),
        known(count // 2, test, seed),
        stains(max(1, count // 25), test, seed),
        unrelated_volumes(count // 6, test, seed),
        prostates(test),
    )


def judged(pair: Related) -> Row:
    """Register and judge one pair; `asking` is the share of the time that doubts took."""
    spent: list[float] = []

    def asked(level: Level, transform: Transform) -> list[str]:
        begin = time.process_time()
        found = doubts(level, transform)
        spent.append(time.process_time() - begin)
        return found

    register = ar.LPRegistration(transform=pair.transform, criterion="mi")
    with patch("augreg.lp.register.doubts", asked):
        (*_, state), took = timed(lambda: list(register.steps(pair.fixed, pair.moving)))
    errors = np.linalg.norm(state.transform(pair.points) - pair.targets, axis=1)
    error = float(np.median(errors)) if len(errors) else float("inf")
    return {
        "case": pair.key,
        "wrong": error > pair.limit,
        "warnings": [text.split(":")[0] + ": check the result" for text in state.warnings if "check the result" in text],
        "seconds": round(took["cpu_seconds"], 3),
        "asking": round(sum(spent) / took["cpu_seconds"], 3),
    }


def rendered(record: Record) -> str:
    """Counts per family of pairs."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in record["rows"]:
        groups[row["case"].split("/")[0]].append(row)
    lines = []
    for family, name in _NAMES.items():
        rows = groups.get(family, [])
        if not rows:
            continue
        wrong, right = ([row for row in rows if row["wrong"] == what] for what in (True, False))
        silent, alarms = sum(not doubted(row) for row in wrong), sum(doubted(row) for row in right)
        asking = f"{median(row['asking'] for row in rows):.1%}"
        lines.append([name, *map(str, (len(rows), len(wrong), silent, len(right), alarms)), asking])
    head = ["pairs of", "pairs", "wrong", "wrong, nothing said", "right", "right, but doubted", "CPU time of doubts"]
    return f"{heading(record)}\n\n{table(head, lines)}"
