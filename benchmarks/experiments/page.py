"""The experiment in pictures, a page.

Numbers come from the committed results, pictures from the networks and models in the folder of the runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.axes import Axes

from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from augreg.io import atomic
from augreg.report import figures
from augreg.report.page import figure, page, section, table
from augreg.synthesis import make_pairs, training_pairs
from augreg.training import WEIGHTS, FlowRegistration
from benchmarks.experiments.people import STUDIES, Pair, Study, read_study
from benchmarks.experiments.run import Run, ways
from benchmarks.experiments.settings import SETTINGS
from benchmarks.experiments.software import nothing
from benchmarks.experiments.sources import LEARNED, generator
from benchmarks.experiments.table import (
    FOLLOWED,
    MEASURES,
    NAMES,
    TITLES,
    alone,
    comparisons,
    fewer_people,
    of_method,
    person_means,
    read_results,
    used_otherwise,
)
from benchmarks.harness.record import Record

# labels whose contours are drawn have so many pixels; more would hide the image
_DRAWN = 200
_FIXED, _MOVED = "#ffd23f", "#27c4ff"
_COLOURS = {"alone": "tab:blue", "then program": "tab:orange", "then gradient": "tab:green"}
_SOURCES = ("sam", "pca", "random", "warped", "estimated")


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--page", type=Path, default=Path("runs/experiments/page.html"), metavar="PAGE.html")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), metavar="FOLDER", help="of the runs")


def run(options: argparse.Namespace) -> None:
    """Draw it."""
    found = {name: read_results(name) for name in STUDIES}
    learned = {name: records for name, records in found.items() if any(record["people"] for record in records)}
    sections = [part for name, records in learned.items() for part in _study(name, records, options.out / name)]
    lead = (
        "A network learns to register from a few images, each time from other training pairs: drawn from a statistical model of "
        "shape and appearance with locality, from the same model without, from random deformations, from fields that a "
        "registration found, or from the images alone. Then it registers people that it has never seen. Brains: OASIS, CC BY-NC, "
        "labels by Neuromorphometrics, Inc. (neuromorphometrics.com) under academic subscription. Hearts: Sunnybrook Cardiac "
        "Data, CC0."
    )
    options.page.parent.mkdir(parents=True, exist_ok=True)
    with atomic(options.page) as temporary:
        temporary.write_text(page("What are synthetic pairs worth?", lead, sections), encoding="utf-8")


def _study(name: str, records: Sequence[Record], out: Path) -> list[str]:
    everyone = max(record["people"] for record in records)
    study = read_study(name)
    parts: list[str] = []
    for (which, group), measures in MEASURES.items():
        if which == name:
            key, heading, better = measures[0]
            text = (
                "Means over all pairs of test people: of the network alone, used again on what it has left, and followed by a "
                "linear program or by gradient steps on the pair at hand. One point per fixed person, "
                f"{'higher' if better else 'lower'} is better."
            )
            parts.append(
                section(
                    TITLES[name, group],
                    text,
                    table(*alone(records, group, measures, everyone)),
                    figure(figures.plot(_boxes(records, group, key, heading, everyone), (9.0, 6.5)), "box plots"),
                    table(*used_otherwise(records, group, measures[0], everyone)),
                    *[table(*comparisons(records, group, how, measures[0], everyone)) for how in ("alone", "then gradient")],
                )
            )
            parts.append(_alignments(study, group, out, everyone))
    if fewer := fewer_people(records, name, everyone):
        parts.append(section("Fewer people to learn from", "Alone.", table(*fewer)))
    parts.append(_pairs(study, out, everyone))
    parts.append(_curves(records, everyone))
    return parts


def _boxes(records: Sequence[Record], group: str, measure: str, heading: str, everyone: int) -> figures.Draw:
    found = {
        (NAMES[method], how): list(values.values())
        for method in NAMES
        for how in ("alone", "then program", "then gradient")
        if (values := person_means(of_method(records, method, everyone), group, how, measure))
    }

    def draw(ax: Axes) -> None:
        names = [f"{name}, {how}" if how != "alone" else name for name, how in found]
        colours = [_COLOURS[how] for _, how in found]
        boxes = ax.boxplot(list(found.values()), orientation="horizontal", tick_labels=names, patch_artist=True, widths=0.6)
        for box, colour in zip(boxes["boxes"], colours, strict=True):
            box.set(facecolor=colour, alpha=0.35)
        for place, values in enumerate(found.values()):
            ax.plot(values, np.full(len(values), place + 1), "k.", markersize=3)
        ax.invert_yaxis()
        ax.tick_params(labelsize=7)
        ax.set_xlabel(heading)

    return draw


def _alignments(study: Study, group: str, out: Path, everyone: int) -> str:
    pair = next(pair for pair in study.pairs if pair.group == group)
    settings = SETTINGS[study.name]
    methods: dict[str, Callable[[Image, Image], Transform]] = {NAMES["none"]: nothing}
    for method in LEARNED:
        weights = out / "runs" / Run(method, everyone).key / WEIGHTS
        if weights.exists():
            used = ways(FlowRegistration.from_file(weights), settings)
            methods[NAMES[method]] = used["alone"]
            if method == "sam":
                methods |= {f"the same, {how}": used[how] for how in FOLLOWED}
    methods[NAMES["program"]] = settings.program
    found = {name: method(pair.fixed.image, pair.moving.image) for name, method in methods.items()}
    contours = [(name, _contours(pair, phi)) for name, phi in found.items()]
    grids = [(name, figures.deformed_grid(pair.fixed.image, phi)) for name, phi in found.items()]
    high = pair.fixed.image.grid.extent[1] / pair.fixed.image.grid.extent[0]
    return section(
        f"{pair.fixed.name} and {pair.moving.name}, seen for the first time",
        "Contours of some labels on the fixed image: its own in yellow, those of the moving image through the transform in blue. "
        "Below where a regular grid goes.",
        figure(figures.panels(contours, columns=5, aspect=high), "contours of labels"),
        figure(figures.panels(grids, columns=5, aspect=high), "deformed grids"),
    )


def _contours(pair: Pair, phi: Transform) -> figures.Draw:
    moved = warp(pair.moving.labels, phi, pair.fixed.image.grid)
    back = figures.picture(pair.fixed.image)

    def draw(ax: Axes) -> None:
        back(ax)
        for labels, colour in ((pair.fixed.labels, _FIXED), (moved, _MOVED)):
            _outline(ax, labels, colour)

    return draw


def _outline(ax: Axes, labels: Labels, colour: str) -> None:
    found, counts = np.unique(labels.values, return_counts=True)
    for label in found[(found != 0) & (counts >= _DRAWN)]:
        ax.contour((labels.values == label).T.astype(float), levels=[0.5], colors=[colour], linewidths=0.6)


def _pairs(study: Study, out: Path, everyone: int) -> str:
    settings = SETTINGS[study.name]
    draws: list[tuple[str, figures.Draw]] = []
    for method in _SOURCES:
        if not (out / "runs" / Run(method, everyone).key / WEIGHTS).exists():
            continue
        made = generator(method, len(settings.groups) - 1, study, settings, out / f"kept-n{everyone}")
        pair = next(training_pairs(make_pairs(made, 0, [2]), made.grid))
        draws += [
            (f"{NAMES[method]}: fixed", figures.picture(pair.fixed)),
            ("moving", figures.picture(pair.moving)),
            ("displacement", figures.deformed_grid(pair.fixed, pair.displacement)),
            *figures.alignment(pair.fixed, pair.moving, pair.displacement, "moving at x + u(x)")[:2],
        ]
    return section(
        f"What the networks learned from: {study.name}",
        "One pair of each source. Overlay: fixed red, moved moving image cyan. Difference: white where they agree.",
        figure(figures.panels(draws, columns=5, aspect=1.2), "training pairs"),
    )


def _curves(records: Sequence[Record], everyone: int) -> str:
    def draw(ax: Axes) -> None:
        for method in LEARNED:
            runs = [run for run in of_method(records, method, everyone) if np.isfinite(run["curve"][-1]["epe"])]
            if runs:
                steps = [point["step"] for point in runs[0]["curve"]]
                shares = [
                    mean(run["curve"][i]["epe"] / run["curve"][i]["epe_without"] for run in runs) for i in range(len(steps))
                ]
                ax.plot(steps, shares, label=NAMES[method])
        ax.set_xlabel("step")
        ax.set_ylabel("end-point error / that of no registration")
        ax.legend(fontsize=7)

    return section(
        "How they learned",
        "Error on the training pairs of a step, as a share of what doing nothing leaves: how hard each source is, not how good.",
        figure(figures.plot(draw), "training curves"),
    )
