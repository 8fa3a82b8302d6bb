"""Slides of commands: what is written as a pyramid."""

from __future__ import annotations

import os
from typing import Literal

import numpy.typing as npt

import augreg as ar
from augreg.progress import bar


def is_pyramid(path: str | os.PathLike[str]) -> bool:
    """Whether a file of that name can be one."""
    return os.fspath(path).lower().endswith((".tif", ".tiff"))


def warped_slide(
    moving: ar.io.Slide | ar.Image | ar.Labels,
    transform: ar.Transform,
    fixed: ar.io.Slide | ar.Image,
    path: str | os.PathLike[str],
    *,
    fill: npt.ArrayLike,
    interpolation: Literal["nearest", "linear", "cubic"] | None = None,
    compression: Literal["jpeg", "deflate", "none"] | None = None,
) -> None:
    """`augreg.io.warp_slide` to the finest level of what is fixed, with a bar."""
    noted = fixed.noted if isinstance(fixed, ar.io.Slide) else fixed.grid.spacing != (1.0, 1.0)
    with bar("warp", 1.0) as update:
        ar.io.warp_slide(
            moving,
            transform,
            fixed.grid,
            path,
            noted=noted,
            fill=fill,
            interpolation=interpolation,
            compression=compression,
            progress=lambda done: update(done, ""),
        )
