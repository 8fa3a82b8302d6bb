"""The page of the demo: the whole story, readable without explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from augreg.image import Image
from augreg.report import figures
from augreg.report.model import mode_panels
from augreg.report.page import figure, page, section, table
from augreg.sam import AppearanceModel
from augreg.transforms import Affine, DisplacementField, Transform


@dataclass(frozen=True, eq=False)
class DemoStory:
    """Everything the page shows.

    Parameters
    ----------
    source : where the images come from
    training : the images the model was fitted to
    points : how their corresponding points were found
    model : the appearance model
    synthetic : images of synthetic pairs
    pair : fixed, moving and displacement of one synthetic pair
    curve : (step, end-point error in voxels on synthetic pairs that are not trained on)
    without : that error without registration
    held_out : fixed and moving image of a held-out pair
    what : is held out
    alignments : transforms of that pair by method
    header, rows : the table of results
    machine : one line
    """

    source: str
    training: Sequence[Image]
    points: str
    model: AppearanceModel
    synthetic: Sequence[Image]
    pair: tuple[Image, Image, DisplacementField]
    curve: Sequence[tuple[int, float]]
    without: float
    held_out: tuple[Image, Image]
    what: str
    alignments: dict[str, Transform]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    machine: str


def demo_page(story: DemoStory) -> str:
    """The page."""
    fixed, moving, displacement = story.pair
    real = [(f"real {i + 1}", figures.picture(image)) for i, image in enumerate(story.training[:6])]
    made = [(f"synthetic {i + 1}", figures.picture(image)) for i, image in enumerate(story.synthetic[:6])]
    pair = [
        ("fixed", figures.picture(fixed)),
        ("moving", figures.picture(moving)),
        ("displacement as a grid", figures.deformed_grid(fixed, displacement)),
        *figures.alignment(fixed, moving, displacement, "moving at x + u(x)")[:2],
    ]
    target, source = story.held_out
    panels = figures.alignment(target, source, Affine.identity(target.ndim), "before")
    for name, transform in story.alignments.items():
        panels += figures.alignment(target, source, transform, name)
    inputs = [(f"image {i + 1}", figures.picture(image)) for i, image in enumerate(story.training[:12])]
    sections = [
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
            "End-point error of the predicted displacement, in voxels, on synthetic pairs it is not trained on. Dashed: the "
            "error of doing nothing.",
            figure(figures.plot(lambda ax: _curve(ax, story.curve, story.without)), "training curve"),
        ),
        section(
            f"6. Registration of what it has never seen: {story.what}",
            "Overlay: fixed in red, moving in cyan, grey where they agree. Difference: white where they agree, blue where "
            "moving is brighter, orange where fixed is. Checkerboard: contours continue where the images are aligned. Grid: "
            "where a regular grid of the fixed image goes.",
            figure(figures.panels(panels, columns=4), "a held-out pair before and after"),
        ),
        section(
            "7. In numbers",
            f"Means over all held-out pairs, median milliseconds per pair. {story.machine}",
            table(story.header, story.rows),
        ),
    ]
    lead = (
        "From a few images to two registrations: an appearance model makes training pairs with exact displacements, a network "
        "learns from them, and a linear program aligns two images without any training."
    )
    return page("augreg: the whole story on sample data", lead, sections)


def _curve(ax: Axes, curve: Sequence[tuple[int, float]], without: float) -> None:
    ax.axhline(without, linestyle="--", color="0.6", label="no registration")
    ax.plot([step for step, _ in curve], [error for _, error in curve], marker=".", label="network")
    ax.set_xlabel("training step")
    ax.set_ylabel("end-point error (voxels)")
    ax.set_ylim(0, 1.1 * max(without, *(error for _, error in curve)))
    ax.legend()
