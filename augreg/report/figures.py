"""Pictures of images, pairs and transforms, as data URIs: x to the right, y downwards; of volumes the middle slice."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform

Draw = Callable[[Axes], None]


def panels(
    draws: Sequence[tuple[str, Draw]], columns: int, width: float = 11.0, aspect: float = 1.0, title_size: float = 9.0
) -> str:
    """A grid of pictures, titled or not, `aspect` times as high as wide, as a data URI."""
    rows = -(-len(draws) // columns)
    side, title_height = width / columns, title_size / 30 if any(title for title, _ in draws) else 0.0
    figure = Figure(figsize=(width, rows * (side * aspect + title_height)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (title, draw) in zip(axes, draws, strict=False):
        draw(ax)
        ax.set_title(title, fontsize=title_size)
    return _uri(figure)


def plot(draw: Draw, size: tuple[float, float] = (8.0, 3.0)) -> str:
    """One diagram with axes, as a data URI."""
    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    return _uri(figure)


def plane(image: Image) -> FloatArray:
    """The values that are shown, (x, y): the luminance, of a volume its middle slice."""
    values = np.asarray(image.luminance().values, dtype=np.float64)
    return values[:, :, values.shape[2] // 2] if values.ndim == 3 else values


def picture(image: Image, limits: tuple[float, float] | None = None) -> Draw:
    """The image in grey; `limits` default to its 1st and 99th percentiles."""
    values = plane(image)
    low, high = limits or _limits(values)
    return lambda ax: _show(ax, image.grid, values, vmin=low, vmax=high, cmap="gray")


def overlay(fixed: Image, moved: Image) -> Draw:
    """Fixed in red, moved in cyan; grey where they agree."""
    f, m = (_unit(plane(image)) for image in (fixed, moved))
    return lambda ax: _show(ax, fixed.grid, np.stack([f, m, m], axis=-1))


def outlined(draw: Draw, *groups: tuple[Sequence[Image], str]) -> Draw:
    """What `draw` draws, and outlines: of images that are 1 inside a structure and 0 outside, each group in its colour."""
    lines = [(plane(inside), color) for images, color in groups for inside in images]

    def both(ax: Axes) -> None:
        draw(ax)
        for values, color in lines:
            if values.min() < 0.5 < values.max():
                # a dark rim keeps lines apart from images of their own colour
                for rim, width in (("black", 3.2), (color, 1.6)):
                    ax.contour(np.swapaxes(values, 0, 1), levels=[0.5], colors=[rim], linewidths=width)

    return both


def difference(fixed: Image, moved: Image) -> Draw:
    """moved - fixed after scaling both to [0, 1]; white where they agree."""
    d = _unit(plane(moved)) - _unit(plane(fixed))
    return lambda ax: _show(ax, fixed.grid, d, vmin=-1, vmax=1, cmap="RdBu")


def checkerboard(fixed: Image, moved: Image, fields: int = 8) -> Draw:
    """Fields of both images in turn: contours continue across them where the images are aligned."""
    f, m = (_unit(plane(image)) for image in (fixed, moved))
    x, y = np.indices(f.shape)
    side = max(f.shape) / fields
    mixed = np.where((x // side + y // side) % 2 == 0, f, m)
    return lambda ax: _show(ax, fixed.grid, mixed, vmin=0, vmax=1, cmap="gray")


def deformed_grid(image: Image, transform: Transform, lines: int = 22) -> Draw:
    """Where a regular grid of the fixed space goes, in voxels of the fixed grid, over the image."""
    grid = image.grid
    values = plane(image)
    index = [np.linspace(0, n - 1, 4 * lines) for n in grid.shape[:2]]
    at = np.stack(np.meshgrid(*index, indexing="ij"), axis=-1)
    if grid.ndim == 3:
        at = np.concatenate([at, np.full((*at.shape[:2], 1), grid.shape[2] // 2)], axis=-1)
    mapped = grid.indices_at(transform(grid.points_at(at)))

    def draw(ax: Axes) -> None:
        low, high = _limits(values)
        _show(ax, image.grid, values, vmin=low, vmax=high, cmap="gray", alpha=0.6)
        for curves in (mapped[::4], mapped[:, ::4].swapaxes(0, 1)):
            for curve in curves:
                ax.plot(curve[:, 0], curve[:, 1], color="tab:orange", linewidth=0.6)
        ax.set_xlim(-0.5, values.shape[0] - 0.5)
        ax.set_ylim(values.shape[1] - 0.5, -0.5)

    return draw


def alignment(fixed: Image, moving: Image, transform: Transform, name: str) -> list[tuple[str, Draw]]:
    """Overlay, difference, checkerboard and grid of one alignment."""
    moved = warp(moving, transform, fixed.grid)
    return [
        (f"{name}: overlay", overlay(fixed, moved)),
        ("difference", difference(fixed, moved)),
        ("checkerboard", checkerboard(fixed, moved)),
        ("deformed grid", deformed_grid(fixed, transform)),
    ]


def _show(ax: Axes, grid: Grid, values: FloatArray, **how: Any) -> None:
    # axes count voxels, and a millimetre is as long across as down
    ax.imshow(np.swapaxes(values, 0, 1), interpolation="nearest", aspect=grid.spacing[1] / grid.spacing[0], **how)


def _limits(values: FloatArray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, (1, 99))
    return float(low), float(max(high, low + 1e-9))


def _unit(values: FloatArray) -> FloatArray:
    low, high = _limits(values)
    return np.clip(np.nan_to_num((values - low) / (high - low)), 0, 1)


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    # a fifth of the bytes of a PNG, and lines stay sharp
    figure.savefig(buffer, format="webp", dpi=110, bbox_inches="tight", pad_inches=0.04, pil_kwargs={"quality": 90})
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
