"""`augreg warp`: an image or label map seen through a transform."""

from __future__ import annotations

import argparse

import augreg as ar
from augreg.cli.inputs import check_dimension, fill_of, grid_of, image_of, of_channel, transform_of
from augreg.cli.options import MOVING, TRANSFORM, Commands, command_of, convention_option
from augreg.cli.output import check_image, say, say_warning
from augreg.cli.slides import is_pyramid, warped_slide


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
    parser.add_argument("--channel", metavar="N", help="number from 0, or name, of the only channel of MOVING that is wanted")
    parser.add_argument(
        "--compression",
        choices=("jpeg", "deflate", "none"),
        help="of a pyramid (default jpeg where MOVING is a lossy slide in colour, else deflate)",
    )
    parser.add_argument(
        "--fill",
        type=float,
        metavar="V",
        help="value outside the moving image (default the colour of its border, if half of that has one light colour, as slides "
        "have it; else its minimum if that is negative, as air in CT; else 0, as always with --labels)",
    )


def run(options: argparse.Namespace) -> None:
    """`augreg warp`."""
    from augreg.geometry.inversion import domain_points

    check_image(options.output)
    path = of_channel(options.moving, options.channel)
    slides = ar.io.slide_at(path), ar.io.slide_at(options.reference)
    if any(slides) and is_pyramid(options.output):
        _by_tiles(options, path, *slides)
        return
    if options.compression is not None:
        raise ValueError("--compression: expected a slide and a TIFF to write, got others; leave it out")
    transform, grid = transform_of(options, options.transform), grid_of(options.reference)
    check_dimension(transform, grid)
    moving: ar.Image | ar.Labels
    moved: ar.Image | ar.Labels
    if options.labels:
        moving = labels = ar.read_labels(path)
        moved = ar.warp(labels, transform, grid, interpolation=options.interpolation, fill=fill_of(options.fill, labels))
    else:
        moving = image = image_of(path)[0]
        moved = ar.warp(image, transform, grid, interpolation=options.interpolation, fill=fill_of(options.fill, image))
    if not moving.grid.contains(transform(domain_points(transform, grid))).any():
        say_warning(
            f"{options.output}: nothing of {options.moving} is seen through the transform; does it map {options.reference} to "
            "it, and not the other way round?"
        )
    ar.write_image(moved, options.output)
    say(f"{options.output}: {' x '.join(map(str, grid.shape))} {moved.values.dtype}")


def _by_tiles(options: argparse.Namespace, path: str, moving: ar.io.Slide | None, fixed: ar.io.Slide | None) -> None:
    """To a pyramid, at the finest level of the reference."""
    transform = transform_of(options, options.transform)
    reference = fixed or ar.read_image(options.reference)
    check_dimension(transform, reference.grid)
    source: ar.io.Slide | ar.Image | ar.Labels = moving or ar.read_image(path)
    if options.labels:
        source = moving or ar.read_labels(path)
    warped_slide(
        source,
        transform,
        reference,
        options.output,
        fill=0.0 if options.labels and options.fill is None else fill_of(options.fill, source),
        interpolation="nearest" if options.labels else options.interpolation,
        compression=options.compression,
    )
    if not source.grid.contains(transform(reference.grid.lattice([16, 16]))).any():
        say_warning(
            f"{options.output}: hardly anything of {options.moving} is seen through the transform; is it the right way round?"
        )
    say(f"{options.output}: {' x '.join(map(str, reference.grid.shape))}")
