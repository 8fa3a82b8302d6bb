"""How well one structure covers another, seen at several smoothings.

    d_s(F, M) = 2 sum_x F_s M_s / sum_x (F_s^2 + M_s^2),   F_s = G_s * F;      loss = 1 - mean_s d_s

(after Hu et al., MedIA 2018, label-driven registration). The wide Gaussians G_s have a gradient also where structures do not
touch. With squares below (Milletari et al., 3DV 2016; without them in the paper) the loss is 0 where structures are equal, and
only there, at all widths. Widths are in mm: on a stack of thick slices they are fewer slices than voxels in plane.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

# widths, mm; 0 is the map itself
SCALES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
# of the kernel, in widths
_CUT = 3.0
# voxels below which a Gaussian is the voxel itself
_NARROW = 0.2
_TINY = 1e-6


def overlap_loss(
    fixed: torch.Tensor, moved: torch.Tensor, scales: Sequence[float] = SCALES, spacing: Sequence[float] | float = 1.0
) -> torch.Tensor:
    """1 - mean_s d_s of every map; (B, K).

    Parameters
    ----------
    fixed, moved : maps of K structures between 0 and 1, (B, K, *shape)
    scales : widths s of the Gaussians, mm
    spacing : size of a voxel, mm; one number, or one per axis
    """
    sides = [spacing] * (fixed.ndim - 2) if isinstance(spacing, int | float) else spacing
    with torch.autocast(fixed.device.type, enabled=False):
        parts = torch.cat([fixed.float(), moved.float()], dim=1)
        axes = tuple(range(2, fixed.ndim))
        total = torch.zeros(fixed.shape[:2], device=fixed.device)
        for scale in scales:
            f, m = smoothed(parts, [scale / side for side in sides]).chunk(2, dim=1)
            total = total + 2 * (f * m).sum(axes) / ((f * f + m * m).sum(axes) + _TINY)
        return 1 - total / len(scales)


def smoothed(images: torch.Tensor, widths: Sequence[float]) -> torch.Tensor:
    """G * I of images (B, C, *shape), Gaussians of so many voxels along each axis; beyond the border they are 0."""
    for axis, width in enumerate(widths, 2):
        if width < _NARROW:
            continue
        n = images.shape[axis]
        reach = min(int(_CUT * width + 0.5), n - 1)
        apart = torch.arange(-reach, reach + 1, dtype=torch.float32, device=images.device)
        total = torch.exp(-0.5 * (apart / width) ** 2).sum()
        places = torch.arange(n, dtype=torch.float32, device=images.device)
        apart = places - places[:, None]
        # a product with a matrix of all taps: a convolution of lines takes several times as long
        taps = torch.where(apart.abs() <= reach, torch.exp(-0.5 * (apart / width) ** 2), 0) / total
        images = (images.movedim(axis, -1) @ taps).movedim(-1, axis)
    return images
