"""`augreg transform`: compose, invert, convert, and the Jacobian."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from augreg import io, metrics
from augreg.cli.inputs import check_dimension, reference_of, transform_of
from augreg.cli.output import TRANSFORMS, check_output, say, say_warning
from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image
from augreg.geometry.inversion import domain_points, inverse_grid
from augreg.geometry.landmarks import beyond_domain
from augreg.geometry.transforms import DisplacementField, Transform


def compose(options: argparse.Namespace) -> None:
    """`augreg transform compose`."""
    check_output(options.output, TRANSFORMS)
    product = transform_of(options, options.first) @ transform_of(options, options.second)
    io.write_transform(product, options.output, reference_of(options))


def invert(options: argparse.Namespace) -> None:
    """`augreg transform invert`."""
    check_output(options.output, TRANSFORMS)
    transform, grid = transform_of(options, options.transform), io.read_image(options.reference).grid
    check_dimension(transform, grid)
    if options.moving is None:
        domain = inverse_grid(transform, grid)
    else:
        domain = io.read_image(options.moving).grid
        check_dimension(transform, domain)
    inverse = transform.inverse(domain)
    if Path(options.output).name.lower().endswith(io.FIELD_SUFFIXES):
        inverse = DisplacementField(inverse.displacement(domain), domain)
    _doubt_inverse(transform, inverse, domain_points(transform, grid), 0.1 * min(grid.spacing))
    io.write_transform(inverse, options.output, domain)


def _doubt_inverse(transform: Transform, inverse: Transform, points: FloatArray, tolerance: float) -> None:
    """Say which share of the fixed points does not come back."""
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


def convert(options: argparse.Namespace) -> None:
    """`augreg transform convert`."""
    check_output(options.output, TRANSFORMS)
    io.write_transform(transform_of(options, options.transform), options.output, reference_of(options))


def jacobian(options: argparse.Namespace) -> None:
    """`augreg transform jacobian`."""
    check_output(options.output, io.IMAGE_SUFFIXES)
    transform, grid = transform_of(options, options.transform), io.read_image(options.reference).grid
    check_dimension(transform, grid)
    determinant = metrics.jacobian_determinant(transform, grid).astype(np.float32)
    io.write_image(Image(determinant, grid), options.output)
    say(f"{options.output}: det from {determinant.min():.4g} to {determinant.max():.4g}")
