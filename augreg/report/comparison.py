"""The page of several registrations of the same pairs: `augreg test --report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Affine, Transform
from augreg.registration import Pair
from augreg.report import figures
from augreg.report.page import caption, figure, page, section, table
from augreg.report.view import view


def comparison_page(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    verdicts: Sequence[str],
    shown: Sequence[tuple[Pair, Mapping[str, Transform]]],
) -> str:
    """A table of means, what follows from them, and pictures of some pairs.

    Parameters
    ----------
    header, rows : the table, a row per method
    verdicts : sentences below it
    shown : pairs, and the transform of each method by its name
    """
    text = (
        "Means over all pairs. Dice and similarity (correlation of the images) are better when larger, landmark errors (tre) "
        "when smaller; folding is the share of voxels where the map turns space inside out."
    )
    sections = [section("Which is better", text, table(header, rows), *(caption(verdict) for verdict in verdicts))]
    for number, (pair, transforms) in enumerate(shown, 1):
        sections.append(section(f"Pair {number}", _TEXT, figure(_pictures(pair, transforms), f"pair {number} by each method")))
    return page("Test of a network", "The network beside the linear program and nothing, on pairs of your own.", sections)


_TEXT = (
    "The fixed image, then fixed in red and the moved image in cyan, grey where they agree. Where there are label maps, outlines "
    "of the fixed structures are yellow and of the moved ones green."
)


def _pictures(pair: Pair, transforms: Mapping[str, Transform]) -> str:
    labels = pair.fixed_labels
    still = Affine.identity(pair.fixed.ndim)
    grid = view(pair.fixed.grid, [] if labels is None else [labels])
    fixed = warp(pair.fixed, still, grid)
    draws = [("fixed", figures.picture(fixed))]
    for name, transform in transforms.items():
        draw = figures.overlay(fixed, warp(pair.moving, transform, grid))
        if labels is not None and pair.moving_labels is not None:
            known = [number for number in labels.unique() if number in pair.moving_labels.unique()]
            there = _insides(labels, still, grid, known)
            moved = _insides(pair.moving_labels, transform, grid, known)
            draw = figures.outlined(draw, (there, "yellow"), (moved, "lime"))
        draws.append((name, draw))
    return figures.panels(draws, columns=len(draws))


def _insides(labels: Labels, transform: Transform, grid: Grid, numbers: Sequence[int]) -> list[Image]:
    """Structures as images, 1 inside."""
    return [warp(Image((labels.values == k).astype(np.float32), labels.grid), transform, grid) for k in numbers]
