"""What a model is fitted to, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels, as_image, as_labels


def checked_images(given: Sequence[Image | npt.NDArray[Any]]) -> list[Image]:
    """At least three finite images of one shape and spacing, as luminance in float32."""
    if len(given) < 3:
        raise ValueError(f"images: expected at least 3, got {len(given)}: variation cannot be learned from fewer")
    images = [as_image(f"images[{i}]", image) for i, image in enumerate(given)]
    first = images[0].grid
    for i, image in enumerate(images):
        if image.grid.shape != first.shape or not np.allclose(image.grid.spacing, first.spacing, rtol=1e-3):
            raise ValueError(
                f"images[{i}]: expected shape {first.shape} and spacing {first.spacing} mm, those of images[0], got "
                f"{image.grid.shape} and {image.grid.spacing}; bring them to one grid: augreg.resample(image, grid)"
            )
        if not np.isfinite(image.values).all():
            raise ValueError(f"images[{i}]: expected finite intensities, got NaN or infinity; replace them first")
    return [image.luminance().with_values(image.luminance().values.astype(np.float32)) for image in images]


def checked_template(given: Image | npt.NDArray[Any], ndim: int) -> Image:
    """A finite image of the others' dimension."""
    template = as_image("template", given)
    if template.ndim != ndim:
        raise ValueError(f"template: expected a {ndim}-D image, as the others, got {template.ndim}-D")
    if not np.isfinite(template.values).all():
        raise ValueError("template: expected finite intensities, got NaN or infinity; replace them first")
    return template


def checked_labels(given: Sequence[Labels | npt.NDArray[Any]], images: Sequence[Image]) -> list[Labels]:
    """A label map per image, on its grid, whose ids int64 holds."""
    if len(given) != len(images):
        raise ValueError(f"labels: expected {len(images)}, one per image, got {len(given)}")
    labels = [as_labels(f"labels[{i}]", one, image.grid) for i, (one, image) in enumerate(zip(given, images, strict=True))]
    for i, (one, image) in enumerate(zip(labels, images, strict=True)):
        if not one.grid.matches(image.grid, tolerance=0.1):
            raise ValueError(f"labels[{i}]: expected the grid of images[{i}], {image.grid}, got {one.grid}")
        if int(one.values.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"labels[{i}]: expected ids below 2^63, got {one.values.max()}; give the structures other numbers")
    return labels


def checked_landmarks(landmarks: Sequence[npt.ArrayLike], count: int, ndim: int) -> FloatArray:
    """As many finite points per image, (n, m, D) mm."""
    if len(landmarks) != count:
        raise ValueError(f"landmarks: expected {count} sets, one per image, got {len(landmarks)}")
    # in one order: sums over other ones differ in their last bits
    sets = [np.ascontiguousarray(points, dtype=np.float64) for points in landmarks]
    for i, points in enumerate(sets):
        if points.shape != sets[0].shape or points.ndim != 2 or points.shape[1] != ndim:
            raise ValueError(
                f"landmarks[{i}]: expected shape {(len(sets[0]), ndim)}, as many points as landmarks[0], got {points.shape}"
            )
        if not np.isfinite(points).all():
            raise ValueError(f"landmarks[{i}]: expected finite coordinates, got NaN or infinity")
    if len(sets[0]) < ndim + 1:
        raise ValueError(f"landmarks: expected at least {ndim + 1} points per image, got {len(sets[0])}")
    return np.stack(sets)
