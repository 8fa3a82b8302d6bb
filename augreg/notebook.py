"""What notebooks show of an object: its name, a few facts, small pictures; HTML without scripts, styles or files.

Colours of text and ground are the notebook's own, so cards are readable on light and on dark pages.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# pixels of a picture's longest side
SIDE = 140
# percentiles of intensities that are black and white
_BLACK, _WHITE = 0.5, 99.5
# turns of hue from one label to the next: neighbours differ
_TURN = 0.381966


def card(title: str, facts: Mapping[str, str], pictures: Sequence[str] = ()) -> str:
    """A title, rows of facts, and pictures (HTML) beside them."""
    rows = "".join(
        f'<tr><td style="text-align:left;opacity:.7;padding:0 .8em 0 0">{html.escape(name)}</td>'
        f'<td style="text-align:left;padding:0">{html.escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    shown = "".join(f'<div style="line-height:0">{one}</div>' for one in pictures)
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:center">'
        f'<div><b>{html.escape(title)}</b><table style="border:0;margin:.2em 0"><tbody>{rows}</tbody></table></div>{shown}</div>'
    )


def grey(values: npt.NDArray[Any], sides: Sequence[float]) -> str:
    """A picture of intensities (W, H) or colours (W, H, 3 or 4), first axis to the right, second down; NaN is black.

    Parameters
    ----------
    sides : width and height of what is shown, in one unit
    """
    seen = _thinned(values).astype(np.float64)
    if seen.ndim == 3 and seen.shape[-1] not in (3, 4):
        seen = seen.mean(axis=-1)
    if seen.ndim == 3:
        seen = seen[..., :3]
    finite = seen[np.isfinite(seen)]
    low, high = np.percentile(finite, (_BLACK, _WHITE)) if finite.size else (0.0, 1.0)
    shade = (seen - low) / max(high - low, 1e-12)
    return _image(np.clip(np.nan_to_num(shade, nan=0.0, posinf=1.0, neginf=0.0), 0, 1), sides)


def coloured(labels: npt.NDArray[Any], sides: Sequence[float]) -> str:
    """A picture of labels (W, H): one colour a label, 0 is black."""
    seen = _thinned(labels)
    hue = (seen.astype(np.float64) * _TURN) % 1.0
    # red, green and blue are a third of a turn apart
    colours = np.clip(np.abs((hue[..., None] + np.array([0.0, 2 / 3, 1 / 3])) % 1.0 * 6 - 3) - 1, 0, 1)
    return _image(np.where((seen != 0)[..., None], 0.25 + 0.75 * colours, 0.0), sides)


def lattice(points: npt.NDArray[np.floating]) -> str:
    """A drawing of a lattice (N, M, 2) of points, first coordinate to the right, second down."""
    flat = points.reshape(-1, 2)
    low, size = flat.min(axis=0), float(np.ptp(flat, axis=0).max())
    placed = (points - low) / max(size, 1e-12) * (SIDE - 2) + 1
    lines = [*placed, *placed.swapaxes(0, 1)]
    paths = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in one) for one in lines)
    width, height = np.ptp(flat, axis=0) / max(size, 1e-12) * (SIDE - 2) + 2
    return (
        f'<svg width="{width:.0f}" height="{height:.0f}" role="img" aria-label="lattice of points as they are moved">'
        f'<path d="{paths}" fill="none" stroke="currentColor" stroke-width="0.7"/></svg>'
    )


def _thinned(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every so manieth value: a slide of gigabytes is not copied for a stamp of it."""
    steps = [max(1, n // (2 * SIDE)) for n in values.shape[:2]]
    return values[:: steps[0], :: steps[1]]


def _image(shade: npt.NDArray[np.float64], sides: Sequence[float]) -> str:
    from PIL import Image  # slow to import

    pixels = np.ascontiguousarray((255 * shade).astype(np.uint8).swapaxes(0, 1))
    scale = SIDE / max(*sides, 1e-12)
    size = max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))
    larger = pixels.shape[1] < size[0] or pixels.shape[0] < size[1]
    small = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if larger else Image.Resampling.BOX)
    file = io.BytesIO()
    small.save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="" width="{size[0]}" height="{size[1]}" src="data:image/png;base64,{data}"/>'
