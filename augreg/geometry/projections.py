"""Volumes as pictures: what lies along an axis, as channels of a 2-D image, so that any registration of images serves volumes.

    depth(x, y) = spacing * (first k with I(x, y, k) > threshold)         the far end of the volume where there is none
    mean(x, y)  = mean_k I(x, y, k),      max(x, y) = max_k I(x, y, k)

Depth is what a camera of depths sees of a body; the other two look inside (Ma et al., MICCAI 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image

Projection = Literal["depth", "mean", "max"]


def projected(
    volume: Image, axis: int, kinds: Sequence[Projection] = ("depth", "mean", "max"), threshold: float | None = None
) -> Image:
    """A volume seen along one of its axes.

    Parameters
    ----------
    volume : 3-D image, without channels
    axis : index axis along which it is seen, from 0 on; negative counts from the last
    kinds : channels of the result
    threshold : for depth, what is above it is the body; by default halfway between the least and the largest intensity

    Returns
    -------
    image : 2-D, (*shape, len(kinds)) float32, or without an axis of channels for one kind. Its grid has the two remaining axes
        in their order, with spacing of the volume; points are mm along these axes from the first voxel, not the volume's world

    Raises
    ------
    ValueError : for an image that is no volume, has channels, or an axis or kind that is not known.
    """
    if volume.ndim != 3 or volume.channels != 1:
        raise ValueError(f"volume: expected 3-D without channels, got {volume.ndim}-D with {volume.channels}")
    if not -3 <= axis <= 2:
        raise ValueError(f"axis: expected one of 0, 1, 2, got {axis}")
    known = get_args(Projection)
    if not kinds or not set(kinds) <= set(known):
        raise ValueError(f"kinds: expected some of {', '.join(known)}, got {', '.join(map(str, kinds)) or 'none'}")
    values = volume.values.reshape(volume.grid.shape).astype(np.float64)
    rest = [a for a in range(3) if a != axis % 3]
    channels = []
    for kind in kinds:
        if kind == "depth":
            body = values > (values.min() / 2 + values.max() / 2 if threshold is None else threshold)
            first = np.where(body.any(axis=axis), body.argmax(axis=axis), values.shape[axis])
            channels.append(first * volume.grid.spacing[axis])
        elif kind == "mean":
            channels.append(values.mean(axis=axis))
        else:
            channels.append(values.max(axis=axis))
    grid = Grid(tuple(volume.grid.shape[a] for a in rest), tuple(volume.grid.spacing[a] for a in rest))
    found = np.stack(channels, axis=-1).astype(np.float32)
    return Image(found if len(kinds) > 1 else found[..., 0], grid)
