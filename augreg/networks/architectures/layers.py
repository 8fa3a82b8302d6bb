"""Layers of one kind in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

# the slope of the published weights; the paper has ReLU
_SLOPE = 0.1


def checked_sizes(name: str, ndim: int, channels: int, width: float) -> None:
    """What every network is made from.

    Raises
    ------
    ValueError : for other dimensions than 2 and 3, no channel, and no width.
    """
    if ndim not in (2, 3) or channels < 1 or not width > 0:
        raise ValueError(f"{name}: expected 2 or 3 dimensions, channels and width above 0, got {ndim}, {channels}, {width}")


def checked_strides(name: str, ndim: int, strides: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Strides of the stages of a U-net, one per axis each.

    Raises
    ------
    ValueError : for no stage, and stages that have other strides than 1 to 3 or only 1.
    """
    stages = tuple(tuple(int(s) for s in stage) for stage in strides)
    if not stages or not all(len(stage) == ndim and min(stage) >= 1 and max(stage) in (2, 3) for stage in stages):
        raise ValueError(f"{name}: expected {ndim} strides of 1 to 3 for each stage, not all 1, got {stages}")
    return stages


def convolution(
    ndim: int, inputs: int, outputs: int, kernel: int, stride: int | tuple[int, ...] = 1, *, bias: bool = True
) -> nn.Module:
    """A convolution that keeps the size, divided by its stride and rounded up."""
    kind = nn.Conv2d if ndim == 2 else nn.Conv3d
    layer = kind(inputs, outputs, kernel, stride, kernel // 2, bias=bias)  # type: ignore[arg-type]  # as many strides as axes
    return _initialised(layer)


def transposed(ndim: int, inputs: int, outputs: int) -> nn.Module:
    """A transposed convolution that doubles the size."""
    kind = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
    return _initialised(kind(inputs, outputs, 4, 2, 1, bias=False))


def activated(layer: nn.Module) -> nn.Module:
    """A layer and its leaky ReLU."""
    return nn.Sequential(layer, activation())


def standardised(ndim: int, inputs: int, outputs: int, kernel: int) -> nn.Module:
    """A convolution whose outputs have mean 0 and variance 1 over a step's images, and its leaky ReLU."""
    norm = nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d
    return nn.Sequential(convolution(ndim, inputs, outputs, kernel, bias=False), norm(outputs), activation())


def activation() -> nn.Module:
    """Leaky ReLU, slope 0.1."""
    return nn.LeakyReLU(_SLOPE)


def features(count: float, width: float) -> int:
    """That many features, times the width multiplier."""
    return max(1, round(width * count))


def cropped(x: torch.Tensor, shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
    """The first voxels (B, C, *shape): a transposed convolution gives one more than an odd side had."""
    return x[(slice(None), slice(None), *(slice(0, n) for n in shape))]


def in_full(head: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a layer makes of features, in float32 whatever they are: bfloat16 would round a flow to 1/256 of its length."""
    with torch.autocast(x.device.type, enabled=False):
        return head(x.float())


def _initialised(layer: nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d) -> nn.Module:
    nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
