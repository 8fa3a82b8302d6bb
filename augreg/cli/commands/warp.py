"""`augreg warp`: an image or label map seen through a transform."""

from __future__ import annotations

import argparse

import augreg as ar
from augreg.cli.inputs import check_dimension, fill_of, transform_of
from augreg.cli.options import MOVING, TRANSFORM, Commands, command_of, convention_option
from augreg.cli.output import check_image, say, say_warning


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "warp",
        run,
        "resample MOVING through a transform onto FIXED's grid",
        "augreg warp labels.nii.gz -t transform.h5 -r fixed.nii.gz -o moved.nii.gz --labels",
    )
    parser.add_argument("moving", metavar="MOVING", help=MOVING)
    parser.add_argument("-t", "--transform", metavar="TRANSFORM", required=True, help=TRANSFORM)
    convention_option(parser)
    parser.add_argument("-r", "--reference", metavar="FIXED", required=True, help="image whose grid the result has")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="image file")
    parser.add_argument("--labels", action="store_true", help="MOVING is a label map: nearest neighbour")
    parser.add_argument("--interpolation", choices=("nearest", "linear", "cubic"), help="default linear; nearest with --labels")
    parser.add_argument("--fill", type=float, default=0.0, metavar="V", help="value outside the moving image (default 0)")


def run(options: argparse.Namespace) -> None:
    """`augreg warp`."""
    from augreg.geometry.inversion import domain_points

    check_image(options.output)
    transform, grid = transform_of(options, options.transform), ar.read_image(options.reference).grid
    check_dimension(transform, grid)
    moving: ar.Image | ar.Labels
    moved: ar.Image | ar.Labels
    if options.labels:
        moving = labels = ar.read_labels(options.moving)
        moved = ar.warp(labels, transform, grid, interpolation=options.interpolation, fill=fill_of(options.fill, labels))
    else:
        moving = image = ar.read_image(options.moving)
        moved = ar.warp(image, transform, grid, interpolation=options.interpolation, fill=fill_of(options.fill, image))
    if not moving.grid.contains(transform(domain_points(transform, grid))).any():
        say_warning(
            f"{options.output}: nothing of {options.moving} is seen through the transform; does it map {options.reference} to "
            "it, and not the other way round?"
        )
    ar.write_image(moved, options.output)
    say(f"{options.output}: {' x '.join(map(str, grid.shape))} {moved.values.dtype}")
