"""The page of one registration: `augreg register --report`."""

from __future__ import annotations

from collections.abc import Sequence

from augreg.geometry.image import Image
from augreg.geometry.transforms import Affine, Transform
from augreg.report import figures
from augreg.report.page import figure, page, section
from augreg.report.way import SCRIPT, STYLE, way_section


def registration_page(
    fixed: Image,
    moving: Image,
    transform: Transform,
    states: Sequence[tuple[str, Transform]] = (),
    names: tuple[str, str] = ("the fixed image", "the moving image"),
) -> str:
    """Both images, and overlay, difference, checkerboard and grid before and after.

    Parameters
    ----------
    fixed, moving : the images
    transform : phi, fixed space to moving space
    states : of a registration that moves step by step: what each is called, and its transform, from the start to the result; they
        are shown behind a slider
    names : what fixed and moving are called
    """
    inputs = figures.panels([("fixed", figures.picture(fixed)), ("moving", figures.picture(moving))], columns=2, width=8)
    before = figures.alignment(fixed, moving, Affine.identity(fixed.ndim), "before")
    after = figures.alignment(fixed, moving, transform, "after")
    sections = [
        section("Images", "As they were given, each on its own grid.", figure(inputs, "the two images")),
        section(
            "Before and after",
            "Overlay: fixed in red, moving in cyan, grey where they agree. Difference: white where they agree, blue where "
            "moving is brighter, orange where fixed is. Checkerboard: contours continue across the fields where the images are "
            "aligned. Grid: where a regular grid goes.",
            figure(figures.panels([*before, *after], columns=4), "overlay, difference, checkerboard, grid; before and after"),
        ),
    ]
    lead = f"{names[1]} seen through the transform, on the grid of {names[0]}."
    if not states:
        return page("Registration", lead, sections)
    return page("Registration", lead, [*sections, way_section(fixed, moving, states)], STYLE, SCRIPT)
