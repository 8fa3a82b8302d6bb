"""The experiments of scales, steering, contrast and chests in pictures, a page.

Tables are those of the kept results, pictures of the networks in the folder of the runs.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from augreg import io
from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from augreg.lp import LPRegistration
from augreg.matching import SplinedRegistration
from augreg.report import figures
from augreg.report.page import figure, page, section, table
from augreg.training import WEIGHTS, FlowRegistration
from benchmarks.experiments import chest, regnet
from benchmarks.experiments.contrasts import own_contrasts
from benchmarks.experiments.people import read_study
from benchmarks.experiments.software import nothing
from benchmarks.experiments.trials import Registration
from benchmarks.harness.places import DATA, kept
from benchmarks.harness.record import read_record

TITLES = {
    "regnet": "Known fields: three scales against one",
    "chest": "Known fields in 3-D",
    "contrast": "Any contrast",
    "steering": "Similarity as input",
}
_LEAD = (
    "Networks that learn from known fields, from pairs of an appearance model or from real pairs, and what they are worth beside "
    "the linear program. Brains: OASIS, CC BY-NC, labels by Neuromorphometrics, Inc. (neuromorphometrics.com) under academic "
    "subscription. Chest: elastix, Apache-2.0. Lungs: DIR-Lab COPDgene (Castillo et al. 2013)."
)
# errors that are drawn, mm
_WORST = 8.0


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--page", type=Path, default=Path("runs/experiments/fields.html"), metavar="PAGE.html")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), metavar="FOLDER", help="of the runs")


def run(options: argparse.Namespace) -> None:
    """Draw it."""
    drawn: dict[str, Callable[[Path], str]] = {"regnet": known, "chest": chests, "contrast": contrasts, "steering": steered}
    sections = []
    for name, title in TITLES.items():
        if kept(name).exists():
            text = importlib.import_module(f"benchmarks.experiments.{name}").rendered(read_record(kept(name)))
            sections.append(section(title, text.splitlines()[0], *map(_table, _tables(text)), drawn[name](options.out)))
    options.page.parent.mkdir(parents=True, exist_ok=True)
    with io.atomic(options.page) as temporary:
        temporary.write_text(page("Scales, similarity, contrast", _LEAD, sections), encoding="utf-8")


def known(out: Path) -> str:
    """A pair with a known field, and where its registrations err."""
    ways = {"no registration": nothing} | _networks(out / "regnet", {"one scale": "one-s0", "three scales": "three-s0"})
    ways["linear program"] = LPRegistration()
    pairs = regnet.held_out(read_study("brain"))
    pair = max(pairs, key=lambda one: float(np.linalg.norm(one.displacement.values, axis=-1).max()))
    return _errors(pair.fixed, pair.moving, pair.displacement, ways)


def chests(out: Path) -> str:
    """The same of a chest, its middle slice."""
    ways = {"no registration": nothing} | _networks(out / "chest", {"one scale": "one-s0", "three scales": "three-s0"})
    image = io.read_image(DATA / "chest3d" / "ct.mha")
    _, fixed, moving, truth = next(chest.held_out(image.with_values(image.values.astype(np.float32))))
    return _errors(fixed, moving, truth, ways)


def contrasts(out: Path) -> str:
    """Two test people, each through the map of its own."""
    study = read_study("brain")
    pair, seen = study.pairs[0], own_contrasts(study).pairs[0]
    names = {
        "local correlation": "likeness-any-s0",
        "MIND": "mind-any-s0",
        "adversarial": "adversarial-any-s0",
        "maps of intensities": "maps-any-s0",
        "random contrasts": "drawn-any-s0",
    }
    draws = [("fixed", figures.picture(seen.fixed.image)), ("moving", figures.picture(seen.moving.image))]
    for name, method in ({"no registration": nothing} | _networks(out / "contrast", names)).items():
        phi = method(seen.fixed.image, seen.moving.image)
        # judged by the images as they were
        moved = warp(pair.moving.image, phi, pair.fixed.image.grid)
        draws += [(name, figures.difference(pair.fixed.image, moved)), ("", figures.deformed_grid(pair.fixed.image, phi))]
    return figure(figures.panels(draws, columns=4, aspect=1.2), "images, differences of the images as they were, deformed grids")


def steered(out: Path) -> str:
    """Two test people by networks with and without maps of similarity, and by a spline of one of them."""
    pair = read_study("brain").pairs[0]
    ways = _networks(out / "steering", {"plain": "plain-s0", "steered": "steered-s0", "three scales": "scales-s0"})
    if "plain" in ways:
        ways["plain, splined"] = SplinedRegistration(ways["plain"])
    draws = []
    for name, method in ({"no registration": nothing} | ways).items():
        phi = method(pair.fixed.image, pair.moving.image)
        moved = warp(pair.moving.image, phi, pair.fixed.image.grid)
        draws += [(name, figures.overlay(pair.fixed.image, moved)), ("", figures.deformed_grid(pair.fixed.image, phi))]
    return figure(figures.panels(draws, columns=4, aspect=1.2), "overlays and deformed grids")


def _networks(folder: Path, names: dict[str, str]) -> dict[str, Registration]:
    """Those that are there."""
    there = {name: folder / key / WEIGHTS for name, key in names.items()}
    return {name: FlowRegistration.from_file(path) for name, path in there.items() if path.exists()}


def _errors(fixed: Image, moving: Image, truth: Transform, ways: dict[str, Registration]) -> str:
    goal = truth(fixed.grid.points())
    draws = [("fixed", figures.picture(fixed)), ("moving", figures.picture(moving)), ("", figures.deformed_grid(fixed, truth))]
    for name, method in ways.items():
        phi = method(fixed, moving)
        missed = np.linalg.norm(phi(fixed.grid.points()) - goal, axis=-1)
        error = Image(missed.astype(np.float32), fixed.grid)
        draws += [
            (name, figures.overlay(fixed, warp(moving, phi, fixed.grid))),
            ("", figures.deformed_grid(fixed, phi)),
            (f"error, 0 to {_WORST:g} mm", figures.picture(error, (0.0, _WORST))),
        ]
    high = fixed.grid.extent[1] / fixed.grid.extent[0]
    return figure(figures.panels(draws, columns=6, aspect=float(high)), "images, overlays, deformed grids and errors")


def _tables(text: str) -> list[list[list[str]]]:
    """Lines of cells of every Markdown table."""
    found = re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE)
    return [[[cell.strip() for cell in line.strip().strip("|").split("|")] for line in one.strip().splitlines()] for one in found]


def _table(lines: list[list[str]]) -> str:
    header, _, *rows = lines
    return table(header, rows)
