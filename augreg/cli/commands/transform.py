"""`augreg transform`: compose, invert, convert, lists of ANTs, and the Jacobian."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import augreg as ar
from augreg.cli.inputs import check_dimension, grid_of, reference_of, transform_of
from augreg.cli.options import TRANSFORM, TRANSFORMS, Commands, command_of, convention_option
from augreg.cli.output import check_image, check_transform, say, say_warning

if TYPE_CHECKING:
    from augreg.geometry.grid import FloatArray


def add(commands: Commands) -> None:
    """The parsers."""
    parser = commands.add_parser("transform", help="compose, invert, convert transforms; their Jacobian", epilog=TRANSFORMS)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    composing = command_of(actions, "compose", compose, "C(x) = A(B(x))", "augreg transform compose a.tfm b.tfm -o c.h5")
    composing.add_argument("first", metavar="A", help="applied last")
    composing.add_argument("second", metavar="B", help="applied first")
    inverting = command_of(
        actions,
        "invert",
        invert,
        "the inverse; where it is numerical, sampled on FIXED's grid, made larger to where FIXED is mapped",
        "augreg transform invert t.h5 -r fixed.nii.gz -o inverse.h5",
    )
    inverting.add_argument("transform", metavar="T", help=TRANSFORM)
    inverting.add_argument(
        "--moving", metavar="IMAGE", help="sample the inverse on the grid of this image of moving space instead"
    )
    listed = command_of(
        actions,
        "ants",
        ants,
        "files of ANTs in the order of antsApplyTransforms -t; [AFFINE,1] is the inverse of an affine map",
        "augreg transform ants out1Warp.nii.gz out0GenericAffine.mat -o phi.h5",
    )
    listed.add_argument("files", metavar="FILE", nargs="+", help="the first one is applied first to points of FIXED")
    converting = command_of(
        actions,
        "convert",
        convert,
        "another file format",
        "augreg transform convert t.h5 -r f.nii.gz -o u.nii.gz",
    )
    converting.add_argument("transform", metavar="T", help=TRANSFORM)
    converting.add_argument("--moving", metavar="IMAGE", help="with -r: of a matrix of FSL's flirt, whose axes are the images'")
    determinant = command_of(
        actions,
        "jacobian",
        jacobian,
        "an image of the Jacobian determinant on FIXED's grid (1: no change of volume)",
        "augreg transform jacobian t.h5 -r fixed.nii.gz -o det.nii.gz",
    )
    determinant.add_argument("transform", metavar="T", help=TRANSFORM)
    for action, needed in ((composing, False), (inverting, True), (listed, False), (converting, False), (determinant, True)):
        action.add_argument("-r", "--reference", metavar="FIXED", required=needed, help="image whose grid fields are sampled on")
        action.add_argument("-o", "--output", metavar="OUT", required=True, help="file to write")
        if action is not listed:
            convention_option(action)


def compose(options: argparse.Namespace) -> None:
    """`augreg transform compose`."""
    check_transform(options.output)
    product = transform_of(options, options.first) @ transform_of(options, options.second)
    ar.write_transform(product, options.output, reference_of(options))


def invert(options: argparse.Namespace) -> None:
    """`augreg transform invert`."""
    from augreg.geometry.inversion import domain_points, inverse_grid

    check_transform(options.output)
    transform, grid = transform_of(options, options.transform), grid_of(options.reference)
    check_dimension(transform, grid)
    if options.moving is None:
        domain = inverse_grid(transform, grid)
    else:
        domain = grid_of(options.moving)
        check_dimension(transform, domain)
    inverse = transform.inverse(domain)
    if Path(options.output).name.lower().endswith(ar.io.FIELD_SUFFIXES):
        inverse = ar.DisplacementField(inverse.displacement(domain), domain)
    _doubt_inverse(transform, inverse, domain_points(transform, grid), 0.1 * min(grid.spacing))
    ar.write_transform(inverse, options.output, domain)


def _doubt_inverse(transform: ar.Transform, inverse: ar.Transform, points: FloatArray, tolerance: float) -> None:
    """Say which share of the fixed points does not come back."""
    import numpy as np

    from augreg.geometry.landmarks import beyond_domain

    mapped = transform(points)
    away = np.linalg.norm(inverse(mapped) - points, axis=-1)
    beyond = beyond_domain(inverse, mapped)
    missed = (away > tolerance) & ~beyond
    if beyond.any():
        say_warning(
            f"{beyond.mean():.2%} of the fixed points are mapped outside the grid of the inverse, where it is the identity; "
            "give an image that holds them as --moving, or write .h5"
        )
    if missed.any():
        say_warning(
            f"{missed.mean():.2%} of the fixed points miss by more than a tenth of a voxel when they come back, by up to "
            f"{away[missed].max():.3g} mm: no inverse there, or one that changes within a voxel"
        )


def ants(options: argparse.Namespace) -> None:
    """`augreg transform ants`."""
    check_transform(options.output)
    ar.write_transform(ar.io.read_ants(options.files), options.output, reference_of(options))


def convert(options: argparse.Namespace) -> None:
    """`augreg transform convert`."""
    check_transform(options.output)
    if options.moving is None:
        transform = transform_of(options, options.transform)
    elif options.reference is None:
        raise ValueError("--moving: expected -r FIXED beside it, for a matrix of FSL's flirt, got it alone")
    else:
        transform = ar.io.read_fsl(options.transform, options.reference, options.moving)
    ar.write_transform(transform, options.output, reference_of(options))


def jacobian(options: argparse.Namespace) -> None:
    """`augreg transform jacobian`."""
    import numpy as np

    check_image(options.output)
    transform, grid = transform_of(options, options.transform), grid_of(options.reference)
    check_dimension(transform, grid)
    determinant = ar.metrics.jacobian_determinant(transform, grid).astype(np.float32)
    ar.write_image(ar.Image(determinant, grid), options.output)
    say(f"{options.output}: det from {determinant.min():.4g} to {determinant.max():.4g}")
