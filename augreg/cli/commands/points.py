"""`augreg points`: landmarks mapped by a transform."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import augreg as ar
from augreg.cli.inputs import check_dimension, measured_slide, outlined, points_of, reference_of, transform_of
from augreg.cli.options import TRANSFORM, Commands, command_of, convention_option
from augreg.cli.output import check_output, say, say_warning

if TYPE_CHECKING:
    from augreg.geometry.grid import FloatArray


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "points",
        run,
        "map landmarks from fixed to moving space",
        "augreg points fixed.csv -t transform.h5 -o mapped.csv",
    )
    parser.add_argument(
        "points",
        metavar="POINTS",
        help=".csv with header x,y or x,y,z, world mm (pixels for PNG, JPEG, TIFF); Slicer's .fcsv, .mrk.json; .geojson",
    )
    parser.add_argument("-t", "--transform", metavar="TRANSFORM", required=True, help=TRANSFORM)
    convention_option(parser)
    parser.add_argument(
        "-r",
        "--reference",
        metavar="FIXED",
        help="image the points belong to: says how many lie outside; of a slide in mm it says where pixels of .geojson are",
    )
    parser.add_argument("--moving", metavar="MOVING", help="slide whose pixels a .geojson of the result counts")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="the points in moving space: .csv; of a .geojson also .geojson, outlines too",
    )


def run(options: argparse.Namespace) -> None:
    """`augreg points`."""
    from augreg.geometry.landmarks import misplaced

    counts_pixels = outlined(options.points)
    check_output(options.output, (".csv", ".geojson") if counts_pixels else (".csv",))
    slides = [measured_slide(path) if counts_pixels else None for path in (options.reference, options.moving)]
    _check_slides(options, *slides)
    transform, given = transform_of(options, options.transform), points_of(options.points, slides[0])
    assert given is not None
    mapped = transform(given)
    grid = reference_of(options)
    text = None
    if grid is not None:
        check_dimension(transform, grid)
        text = misplaced(options.points, given, grid)
    if text := text or _beyond(options.points, given, transform):
        hint = "; are they pixels of a slide in mm? name it by -r" if counts_pixels and grid is None else ""
        say_warning(text + hint)
    elif slides[1] is not None and (beyond := misplaced(options.output, mapped, slides[1].grid)):
        say_warning(f"{beyond}; is {options.moving} what was registered, with the same ?pixel=?")
    if options.output.lower().endswith(".geojson"):
        pixels = mapped if slides[1] is None else slides[1].grid.indices_at(mapped)
        ar.io.write_outlines(ar.io.read_outlines(options.points).mapped(lambda _: pixels), options.output)
    else:
        ar.write_points(mapped, options.output)
    say(f"{options.output}: {len(given)} points")


def _check_slides(options: argparse.Namespace, fixed: ar.io.Slide | None, moving: ar.io.Slide | None) -> None:
    """Refuse pixels on one side of a transform in mm only."""
    if options.moving is not None and moving is None:
        raise ValueError(
            f"--moving: expected a slide that notes the size of a pixel, and points in .geojson, got {options.moving}"
        )
    to_pixels = options.output.lower().endswith(".geojson")
    if fixed is not None and to_pixels and moving is None:
        raise ValueError(f"{options.output}: expected --moving, the slide whose pixels it is to count, got none; name it")
    if moving is not None and fixed is None:
        raise ValueError("--moving: expected -r, the slide whose pixels the points count, got none; name it")


def _beyond(name: str, points: FloatArray, transform: ar.Transform) -> str | None:
    """A line about points where the transform is not defined."""
    from augreg.geometry.landmarks import beyond_domain, domain_of, misplaced

    beyond = beyond_domain(transform, points)
    if not beyond.any():
        return None
    domain = domain_of(transform)
    return (domain and misplaced(name, points, domain)) or (
        f"{name}: expected points where the transform is defined, got {beyond.sum()} of {len(points)} outside its B-spline or "
        "field, where it is the identity"
    )
