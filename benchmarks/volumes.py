"""Brains of different people in 3-D: `python -m benchmarks.volumes --output ROWS.json [--ants-python PATH]`.

All ordered pairs of `brain3d`, native space; Dice is the mean over the labels that both people have, the moving labels warped by
nearest neighbour. ANTs takes minutes a pair, so it gets the first `--ants-pairs` of them, each beside augreg's runs of that pair.
Rows that are there already are not run again; `--into PAGE.md` replaces what stands between the marks there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import DATA
from benchmarks.machine import machine

# name -> options of LPRegistration
_SETTINGS: dict[str, dict[str, Any]] = {
    "augreg, affine": {"transform": "affine"},
    "augreg, 20 mm": {"grid_spacing": 20.0},
    "augreg": {},
    "augreg, 10 mm": {"grid_spacing": 10.0},
    "augreg, 7 mm": {"grid_spacing": 7.0, "smoothness": 1e-5},
}
_RIVAL = "ANTs SyNQuick[s]"
_MARKS = "<!-- volumes -->\n", "<!-- end of volumes -->\n"
# in the rival's own environment: the time of the registration, and the labels it moves
_ANTS = """
import sys, time, ants
fixed, moving = (ants.image_read(path) for path in sys.argv[1:3])
begin = time.perf_counter()
found = ants.registration(fixed, moving, type_of_transform="antsRegistrationSyNQuick[s]", random_seed=1)
print(time.perf_counter() - begin)
labels = ants.image_read(sys.argv[3])
ants.image_write(ants.apply_transforms(fixed, labels, found["fwdtransforms"], interpolator="nearestNeighbor"), sys.argv[4])
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.volumes", description="Register brains in 3-D.")
    parser.add_argument("--output", type=Path, required=True, metavar="ROWS.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=1000, help="the first so many pairs; all by default")
    parser.add_argument("--ants-pairs", type=int, default=2)
    parser.add_argument("--ants-python", type=Path, metavar="PATH")
    parser.add_argument("--into", type=Path, metavar="PAGE.md")
    options = parser.parse_args()
    record = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {"rows": []}
    record |= {"machine": machine(), "threads": options.threads, "date": time.strftime("%Y-%m-%d")}
    people = sorted(path.name[:4] for path in (DATA / "brain3d").glob("????.nii.gz"))
    pairs = list(itertools.permutations(people, 2))[: options.pairs]
    done = {(row["pair"], row["method"]) for row in record["rows"]}
    for number, pair in enumerate(pairs):
        rows = _own(pair, options.threads, done, warm_up=number == 0)
        if options.ants_python and number < options.ants_pairs and (" ".join(pair), _RIVAL) not in done:
            rows = itertools.chain(rows, [_ants(pair, options.ants_python, options.threads)])
        for row in rows:
            record["rows"].append(row)
            options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(row, file=sys.stderr, flush=True)
    text = rendered(record)
    print(text)
    if options.into:
        begin, end = map(re.escape, _MARKS)
        options.into.write_text(
            re.sub(f"(?s)(?<={begin}).*(?={end})", lambda _: text, options.into.read_text(encoding="utf-8")), encoding="utf-8"
        )


def _own(pair: tuple[str, str], threads: int, done: set[tuple[str, str]], *, warm_up: bool) -> Any:
    import augreg as ar  # not in the rival's environment
    from augreg.threads import set_threads

    set_threads(threads)
    (fixed, fixed_labels), (moving, moving_labels) = (
        (ar.read_image(DATA / f"brain3d/{i}.nii.gz"), ar.read_labels(DATA / f"brain3d/{i}_labels.nii.gz")) for i in pair
    )
    for name, options in {"none": None, **_SETTINGS}.items():
        if (" ".join(pair), name) in done:
            continue
        phi, took = ar.Affine.identity(3), 0.0
        if options is not None:
            register = ar.LPRegistration(**options)
            if warm_up:
                register(fixed, moving)
            begin = time.perf_counter()
            phi = register(fixed, moving)
            took = time.perf_counter() - begin
        moved = ar.warp(moving_labels, phi, fixed.grid).values
        yield {
            "pair": " ".join(pair),
            "method": name,
            "seconds": took,
            "dice": _dice(fixed_labels.values, moved, moving_labels.values),
            "folding": ar.folding(phi, fixed.grid),
        }


def _ants(pair: tuple[str, str], python: Path, threads: int) -> dict[str, Any]:
    import augreg as ar

    paths = [str(DATA / f"brain3d/{i}.nii.gz") for i in pair]
    labels = [DATA / f"brain3d/{i}_labels.nii.gz" for i in pair]
    with tempfile.TemporaryDirectory() as scratch:
        out = f"{scratch}/moved.nii.gz"
        environment = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads)}
        command = [str(python), "-c", _ANTS, *paths, str(labels[1]), out]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
        moved = ar.read_labels(out)
    fixed, moving = (ar.read_labels(path) for path in labels)
    dice = _dice(fixed.values, moved.values, moving.values)
    return {"pair": " ".join(pair), "method": _RIVAL, "seconds": float(done.stdout.split()[-1]), "dice": dice}


def _dice(fixed: Any, moved: Any, moving: Any) -> float:
    count = int(max(fixed.max(), moved.max(), moving.max())) + 1
    here, there, before = (np.bincount(labels.ravel(), minlength=count) for labels in (fixed, moved, moving))
    both = np.bincount(fixed[fixed == moved].ravel(), minlength=count)
    known = (here > 0) & (before > 0)
    known[0] = False
    return float(np.mean(2 * both[known] / (here + there)[known]))


def rendered(record: dict[str, Any]) -> str:
    """The table: all pairs, and those that the rival has too."""
    rows = record["rows"]
    shared = {row["pair"] for row in rows if row["method"] == _RIVAL}
    own = {row["pair"] for row in rows if row["method"] != _RIVAL}
    head = (
        "method",
        "median s",
        f"mean Dice, {len(own)} pairs",
        f"median s, {len(shared)} pairs",
        f"mean Dice, {len(shared)} pairs",
        "folding",
    )
    about = record["machine"]
    lines = [
        f"{about['processor']}, {about['cores']} cores, Python {about['python']}; {record['threads']} threads; {record['date']}.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for name in ("none", *_SETTINGS, _RIVAL):
        mine = [row for row in rows if row["method"] == name]
        if not mine:
            continue
        beside = [row for row in mine if row["pair"] in shared]
        cells = [name]
        for part in ([] if name == _RIVAL else mine, beside):
            cells += (
                [f"{np.median([r['seconds'] for r in part]):.2f}", f"{np.mean([r['dice'] for r in part]):.3f}"]
                if part
                else ["", ""]
            )
        folds = [row["folding"] for row in mine if "folding" in row]
        lines.append(f"| {' | '.join([*cells, f'{max(folds):.2%}' if folds else ''])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
