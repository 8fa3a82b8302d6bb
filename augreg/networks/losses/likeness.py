"""How alike two images are: what a network learns from where no truth is known.

    MSE(f, m)  = mean (f - m)^2
    LNCC(f, m) = mean_x (1 - cov(f, m)^2 / (var f var m)),      over a window around x (Avants et al., MedIA 2008; Balakrishnan et
                 al., CVPR 2018)

Both are 0 for equal images, and LNCC also where brightness and contrast differ from place to place. Sums over windows are in
float32, means are taken off first and variances are bounded below: in flat places rounding would leave them negative.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from augreg.networks.windows import window_mean

Similarity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# of images with variance 1
_LEAST_VARIANCE = 1e-4


def mean_squared_difference(fixed: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """MSE of images (B, C, *shape); a scalar."""
    return (fixed.float() - moved.float()).square().mean()


def local_correlation(fixed: torch.Tensor, moved: torch.Tensor, window: int = 9) -> torch.Tensor:
    """LNCC of images (B, C, *shape), normalised, over windows of so many voxels (an odd number) along each axis; a scalar."""
    with torch.autocast(fixed.device.type, enabled=False):
        f, m = (image.float() - image.float().mean(dim=tuple(range(2, image.ndim)), keepdim=True) for image in (fixed, moved))
        mean_f, mean_m = window_mean(f, window), window_mean(m, window)
        covariance = window_mean(f * m, window) - mean_f * mean_m
        var_f = (window_mean(f * f, window) - mean_f**2).clamp(min=_LEAST_VARIANCE)
        var_m = (window_mean(m * m, window) - mean_m**2).clamp(min=_LEAST_VARIANCE)
        return (1 - (covariance**2 / (var_f * var_m)).clamp(max=1)).mean()
