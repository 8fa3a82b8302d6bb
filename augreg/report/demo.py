"""The page of the demo: the whole story, readable without explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample, warp
from augreg.geometry.transforms import Affine, DisplacementField, Transform
from augreg.report import figures
from augreg.report.model import mode_panels
from augreg.report.page import caption, figure, page, section, table
from augreg.report.scores import Scores, learned
from augreg.report.view import view
from augreg.sam import AppearanceModel

# of the fixed and of the moving structures, as in the overlay below them
_FIXED, _MOVED = "#ff3b30", "#00d5e8"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A pair of images that nothing was learned from.

    Parameters
    ----------
    fixed, moving : images of the pair
    labels : label maps of both images, if there are any, on any grid
    number : number of the pair in the scores
    alignments : transforms of the pair by method, "before" the first
    """

    fixed: Image
    moving: Image
    labels: tuple[Labels, ...] | None
    number: int
    alignments: Mapping[str, Transform]

    @property
    def near(self) -> Image:
        """The fixed image where all labelled structures are seen before they are brought together."""
        maps = () if self.labels is None else (self.labels[0], resample(self.labels[1], self.labels[0].grid))
        return resample(self.fixed, view(self.fixed.grid if self.labels is None else self.labels[0].grid, maps))


@dataclass(frozen=True, eq=False)
class DemoStory:
    """Everything the page shows.

    Parameters
    ----------
    source : origin of the images, one line
    training : images that the model was fitted to
    points : a sentence on how corresponding points were found
    model : appearance model
    synthetic : images of synthetic pairs
    pair : fixed, moving and displacement of one synthetic pair
    lesson : a sentence on what the network learned from
    curve : pairs of step and end-point error, voxels, on synthetic pairs that are not trained on
    without : that error without registration
    held_out : the pair of unseen images that is shown
    what : a phrase that names what is held out
    scores : scores of all such pairs, by method
    """

    source: str
    training: Sequence[Image]
    points: str
    model: AppearanceModel
    synthetic: Sequence[Image]
    pair: tuple[Image, Image, DisplacementField]
    lesson: str
    curve: Sequence[tuple[int, float]]
    without: float
    held_out: HeldOut
    what: str
    scores: Scores

    @property
    def learned(self) -> str:
        """What the network has learned, in a sentence."""
        return learned(self.curve[-1][1], self.without)


def demo_page(story: DemoStory) -> str:
    """The page: first the picture and the sentence that tell the story, then how it came to them."""
    fixed, moving, displacement = story.pair
    real = [(f"real {i + 1}", figures.picture(image)) for i, image in enumerate(story.training[:6])]
    made = [(f"synthetic {i + 1}", figures.picture(image)) for i, image in enumerate(story.synthetic[:6])]
    pair = [
        ("fixed", figures.picture(fixed)),
        ("moving", figures.picture(moving)),
        ("displacement as a grid", figures.deformed_grid(fixed, displacement)),
        *figures.alignment(fixed, moving, displacement, "moving at x + u(x)")[:2],
    ]
    unseen, near = story.held_out, story.held_out.near
    panels = []
    for name, transform in unseen.alignments.items():
        panels += figures.alignment(near, unseen.moving, transform, name)
    inputs = [(f"image {i + 1}", figures.picture(image)) for i, image in enumerate(story.training[:12])]
    sections = [
        section(
            f"Never seen before: {story.what}",
            story.scores.verdict,
            figure(_opening(story), "a held-out pair before, by the network, and by the linear program"),
            caption(_legend(story)),
        ),
        section(
            "1. A few images",
            f"{story.source}. Shown: some of the {len(story.training)} images that all below is learned from.",
            figure(figures.panels(inputs, columns=6), "input images"),
        ),
        section(
            "2. An appearance model",
            f"Corresponding points in all images, found {story.points}, give a mean shape and ways in which shape and "
            "intensities vary. Variation is "
            "made local: distant places may vary independently, so a few images span many modes. Each three pictures show one "
            "mode at -2, 0 and +2 standard deviations; 0 is the mean.",
            figure(mode_panels(story.model), "modes of the model"),
        ),
        section(
            "3. Real and synthetic images",
            "Above real images, below images drawn from the model.",
            figure(figures.panels([*real, *made], columns=6), "real and synthetic images"),
        ),
        section(
            "4. A training pair with exact truth",
            "Two images drawn from the model and the displacement u between them, known exactly: the moving image read at "
            "x + u(x) is the fixed one, so the overlay of the two is grey and their difference white, except where x + u(x) lies "
            "outside the moving image. The grid shows where x + u(x) goes.",
            figure(figures.panels(pair, columns=5), "a synthetic pair"),
        ),
        section(
            "5. A network learns from such pairs",
            f"{story.lesson}. {story.learned} The curve: mean end-point error of the predicted displacement on such pairs. "
            "Dashed: the error of doing nothing.",
            figure(figures.plot(lambda ax: _curve(ax, story.curve, story.without)), "training curve"),
        ),
        section(
            f"6. Registration of what it has never seen: {story.what}",
            "That pair. Overlay: fixed in red, moving in cyan, grey where they agree. Difference: white where they agree, "
            "blue where moving is brighter, orange where fixed is. Checkerboard: contours go on where the images are aligned. "
            "Grid: where a regular grid of the fixed image goes.",
            figure(figures.panels(panels, columns=4), "a held-out pair before and after"),
        ),
        section(
            "7. In numbers",
            f"{story.scores.verdict} The command says, on the terminal and with --json, how many milliseconds each took: they "
            "differ from run to run, and this page does not.",
            table(*_numbers(story.scores)),
        ),
    ]
    lead = (
        "From a few images to two registrations: an appearance model makes training pairs with exact displacements, a network "
        "learns from them, and a linear program aligns two images without any training."
    )
    return page("augreg: the whole story", lead, sections)


def _opening(story: DemoStory) -> str:
    """Overlays of a held-out pair side by side: before, by the network, by the linear program."""
    pair, near = story.held_out, story.held_out.near
    draws = []
    for name in ("before", "network", "linear program"):
        transform = pair.alignments[name]
        draw = figures.overlay(near, warp(pair.moving, transform, near.grid))
        if pair.labels is not None:
            fixed, moving = pair.labels
            lines = _structures(fixed, Affine.identity(near.ndim), near.grid), _structures(moving, transform, near.grid)
            draw = figures.outlined(draw, (lines[0], _FIXED), (lines[1], _MOVED))
        draws.append((f"{name}: {story.scores.measure} {story.scores.values[name][pair.number]:.2f}", draw))
    return figures.panels(draws, columns=3, title_size=13)


def _structures(labels: Labels, transform: Transform, grid: Grid) -> list[Image]:
    """For every structure an image that is 1 inside it, seen through a transform."""
    return [warp(Image((labels.values == label).astype(np.float32), labels.grid), transform, grid) for label in labels.unique()]


def _legend(story: DemoStory) -> str:
    colours = "Fixed image in red, moving image in cyan, grey where they agree"
    if story.held_out.labels is not None:
        colours += "; lines: the labelled structures of both"
    return f"{colours}. Of {len(story.scores.values['before'])} pairs this is the one in the middle by the network's score."


def _numbers(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """The table of all pairs."""
    count = len(scores.values["before"])
    header = ["method", f"mean {scores.measure}", *(f"pair {number + 1}" for number in range(count))]
    return header, [
        [name, f"{scores.mean(name):.3f}", *(f"{value:.2f}" for value in values)] for name, values in scores.values.items()
    ]


def _curve(ax: Axes, curve: Sequence[tuple[int, float]], without: float) -> None:
    ax.axhline(without, linestyle="--", color="0.6", label="no registration")
    ax.plot([step for step, _ in curve], [error for _, error in curve], marker=".", label="network")
    ax.set_xlabel("training step")
    ax.set_ylabel("end-point error (voxels)")
    ax.set_ylim(0, 1.1 * max(without, *(error for _, error in curve)))
    ax.legend()
