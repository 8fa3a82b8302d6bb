"""`augreg evaluate`: a transform measured by landmarks, label maps and folding."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import augreg as ar
from augreg.cli.inputs import (
    check_both_or_none,
    check_dimension,
    grid_of,
    labels_of,
    measured_slide,
    outlined,
    points_of,
    transform_of,
)
from augreg.cli.options import FIXED, TRANSFORM, Commands, command_of, convention_option, json_option
from augreg.cli.output import report, say_warning

if TYPE_CHECKING:
    from augreg.geometry.grid import FloatArray


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "evaluate",
        run,
        "measure a transform by landmarks, label maps and folding",
        "augreg evaluate fixed.nii.gz -t transform.h5 --fixed-labels f.nii.gz --moving-labels m.nii.gz --json",
    )
    parser.add_argument("fixed", metavar="FIXED", help=FIXED)
    parser.add_argument("-t", "--transform", metavar="TRANSFORM", help=f"{TRANSFORM}; default none, as it is")
    convention_option(parser)
    parser.add_argument(
        "--fixed-points", metavar="F", help="landmarks in fixed space: .csv, .fcsv, .mrk.json, mm; .geojson, pixels of FIXED"
    )
    parser.add_argument("--moving-points", metavar="M", help="the same of MOVING")
    parser.add_argument("--moving", metavar="MOVING", help="the moving image: of a slide in mm .geojson counts its pixels")
    parser.add_argument("--fixed-labels", metavar="F", help="label map of FIXED")
    parser.add_argument("--moving-labels", metavar="M", help="the same of MOVING")
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg evaluate`."""
    from augreg.geometry.landmarks import misplaced

    check_both_or_none(options, "labels")
    check_both_or_none(options, "points")
    grid = grid_of(options.fixed)
    transform = transform_of(options, options.transform) if options.transform else ar.Affine.identity(grid.ndim)
    check_dimension(transform, grid)
    fixed, moving = _points(options)
    fixed_labels, moving_labels = labels_of(options.fixed_labels), labels_of(options.moving_labels)
    result = ar.metrics.evaluate(
        transform,
        grid,
        fixed_points=fixed,
        moving_points=moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
    )
    told = []
    if fixed is not None and moving is not None:
        other = None if moving_labels is None else moving_labels.grid
        if options.moving is not None:
            other = grid_of(options.moving)
        told.append(misplaced("--fixed-points", fixed, grid, (moving, other)))
        if other is not None:
            told.append(misplaced("--moving-points", moving, other, (fixed, grid)))
    if result.get("lost"):
        lost = ", ".join(map(str, result["lost"]))
        told.append(f"labels moved out of the image: {lost}; their overlap is 0, their surfaces are in no mean")
    for text in filter(None, told):
        say_warning(text)
    report(result | {"warnings": []}, "\n".join(_lines(result)), as_json=options.json)


def _points(options: argparse.Namespace) -> tuple[FloatArray | None, FloatArray | None]:
    """Landmarks of both images, mm; those of QuPath count pixels of slides."""
    slides = measured_slide(options.fixed), measured_slide(options.moving)
    if outlined(options.moving_points) and slides[0] is not None and slides[1] is None:
        raise ValueError(
            f"{options.moving_points}: expected --moving, the slide in mm whose pixels it counts, got "
            f"{options.moving or 'none'}; name it as it was registered"
        )
    return points_of(options.fixed_points, slides[0]), points_of(options.moving_points, slides[1])


def _lines(result: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in result.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{key} ")
        elif isinstance(value, list):
            if value:
                yield f"{prefix}{key}: {', '.join(map(str, value))}"
        else:
            yield f"{prefix}{key}: " + ("-" if value is None else f"{value:.4g}")
