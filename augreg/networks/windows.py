"""Means over windows, along one axis after the other, from running sums: their cost does not depend on the window.

    local contrast(x) = (v - m) / (s + 0.1 S),      m, s mean and deviation of the window around x, S the deviation of the image

(after Jarrett et al., ICCV 2009): what lies near a coil and what lies far from it then look alike.
"""

from __future__ import annotations

import torch

# of the image's own deviation: flat places stay flat
_SHARE = 0.1


def local_contrast(images: torch.Tensor, window: int) -> torch.Tensor:
    """Images (B, C, *shape) float32 normalised within windows of so many voxels (an odd number)."""
    with torch.autocast(images.device.type, enabled=False):
        images = images.float()
        whole = images.std(tuple(range(2, images.ndim)), keepdim=True, correction=0)
        difference = images - window_mean(images, window)
        deviation = window_mean(difference.square(), window).clamp(min=0).sqrt()
        return difference / (deviation + _SHARE * whole).clamp(min=1e-6)


def window_mean(image: torch.Tensor, window: int) -> torch.Tensor:
    """Means over windows of so many voxels (an odd number) of images (B, C, *shape), of the image's own voxels at its border."""
    for axis in range(2, image.ndim):
        image = _window_sum(image, axis, window) / _window_sum(torch.ones_like(image[:1, :1]), axis, window)
    return image


def _window_sum(image: torch.Tensor, axis: int, window: int) -> torch.Tensor:
    half = window // 2
    running = image.cumsum(dim=axis)
    before = torch.zeros_like(running.narrow(axis, 0, 1)).expand(*_sides(running, axis, half + 1))
    after = running.narrow(axis, -1, 1).expand(*_sides(running, axis, half))
    running = torch.cat([before, running, after], dim=axis)
    return running.narrow(axis, window, image.shape[axis]) - running.narrow(axis, 0, image.shape[axis])


def _sides(image: torch.Tensor, axis: int, length: int) -> list[int]:
    """The shape with another length along an axis."""
    return [length if a == axis else n for a, n in enumerate(image.shape)]
