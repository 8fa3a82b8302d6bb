"""Commands that use a transform: warp, points, evaluate."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from augreg import io, metrics
from augreg.cli.inputs import check_both_or_none, check_dimension, fill_of, labels_of, reference_of, transform_of
from augreg.cli.output import check_output, report, say, say_warning
from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels
from augreg.geometry.inversion import domain_points
from augreg.geometry.landmarks import beyond_domain, domain_of, misplaced
from augreg.geometry.resampling import warp as pull_back
from augreg.geometry.transforms import Transform


def warp(options: argparse.Namespace) -> None:
    """`augreg warp`."""
    check_output(options.output, io.IMAGE_SUFFIXES)
    transform, grid = transform_of(options, options.transform), io.read_image(options.reference).grid
    check_dimension(transform, grid)
    moving: Image | Labels
    moved: Image | Labels
    if options.labels:
        moving = labels = io.read_labels(options.moving)
        moved = pull_back(labels, transform, grid, interpolation=options.interpolation, fill=fill_of(options.fill, labels))
    else:
        moving = image = io.read_image(options.moving)
        moved = pull_back(image, transform, grid, interpolation=options.interpolation, fill=fill_of(options.fill, image))
    if not moving.grid.contains(transform(domain_points(transform, grid))).any():
        say_warning(
            f"{options.output}: nothing of {options.moving} is seen through the transform; does it map {options.reference} to "
            "it, and not the other way round?"
        )
    io.write_image(moved, options.output)
    say(f"{options.output}: {' x '.join(map(str, grid.shape))} {moved.values.dtype}")


def points(options: argparse.Namespace) -> None:
    """`augreg points`."""
    check_output(options.output, (".csv",))
    transform, given = transform_of(options, options.transform), io.read_points(options.points)
    mapped = transform(given)
    grid = reference_of(options)
    text = None
    if grid is not None:
        check_dimension(transform, grid)
        text = misplaced(options.points, given, grid)
    if text := text or _beyond(options.points, given, transform):
        say_warning(text)
    io.write_points(mapped, options.output)
    say(f"{options.output}: {len(given)} points")


def evaluate(options: argparse.Namespace) -> None:
    """`augreg evaluate`."""
    check_both_or_none(options, "labels")
    check_both_or_none(options, "points")
    grid, transform = io.read_image(options.fixed).grid, transform_of(options, options.transform)
    check_dimension(transform, grid)
    fixed, moving = (path and io.read_points(path) for path in (options.fixed_points, options.moving_points))
    fixed_labels, moving_labels = labels_of(options.fixed_labels), labels_of(options.moving_labels)
    result = metrics.evaluate(
        transform,
        grid,
        fixed_points=fixed,
        moving_points=moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
    )
    told = []
    if fixed is not None:
        other = None if moving_labels is None else moving_labels.grid
        told.append(misplaced("--fixed-points", fixed, grid, (moving, other)))
        if other is not None:
            told.append(misplaced("--moving-points", moving, other, (fixed, grid)))
    if result.get("lost"):
        lost = ", ".join(map(str, result["lost"]))
        told.append(f"labels moved out of the image: {lost}; their overlap is 0, their surfaces are in no mean")
    for text in filter(None, told):
        say_warning(text)
    report(result | {"warnings": []}, "\n".join(_lines(result)), as_json=options.json)


def _beyond(name: str, points: FloatArray, transform: Transform) -> str | None:
    """A line about points where the transform is not defined."""
    beyond = beyond_domain(transform, points)
    if not beyond.any():
        return None
    domain = domain_of(transform)
    return (domain and misplaced(name, points, domain)) or (
        f"{name}: expected points where the transform is defined, got {beyond.sum()} of {len(points)} outside its B-spline or "
        "field, where it is the identity"
    )


def _lines(result: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in result.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{key} ")
        elif isinstance(value, list):
            if value:
                yield f"{prefix}{key}: {', '.join(map(str, value))}"
        else:
            yield f"{prefix}{key}: " + ("-" if value is None else f"{value:.4g}")
