"""Images of other contrasts made comparable: self-similarities and directions of edges, which survive a change of intensities.

    MIND-SSC    d_k(x) = exp(-D_k(x) / V(x)),   D_k(x) = mean_y (I(x + p_k + y) - I(x + q_k + y))^2 over a patch, less its least
                over k,   V the mean of D_k over k;   p_k, q_k the pairs of neighbours of x that are sqrt(2) steps apart, 4 in
                2-D and 12 in 3-D (Heinrich et al., MICCAI 2013).   MIND(f, m) = mean_xk (d_k(f) - d_k(m))^2
    NGF         1 - ((|<grad f, grad m>| + s t) / (sqrt(|grad f|^2 + s^2) sqrt(|grad m|^2 + t^2)))^2, the mean over x and axes of
                channels;   s, t a share of the images' mean |grad|, below which edges are noise (Haber and Modersitzki, Methods
                Inf. Med. 2007; in the form of Ruehaak et al., ISBI 2013, with the absolute value)

Both are 0 for equal images and for inverted ones.
"""

from __future__ import annotations

from itertools import combinations

import torch

from augreg.networks.windows import window_mean

# V(x) stays within these factors of its mean over the image: flat places have no self-similarity to speak of
_LEAST, _MOST = 1e-3, 1e3
_TINY = 1e-12


def self_similarity(images: torch.Tensor, radius: int = 1, step: int = 1) -> torch.Tensor:
    """MIND-SSC of images (B, C, *shape): (B, 4 C or 12 C, *shape) float32, between 0 and 1.

    Parameters
    ----------
    images : images of any contrast
    radius : half width of the patches, voxels
    step : distance of the neighbours from x, voxels
    """
    with torch.autocast(images.device.type, enabled=False):
        images = images.float()
        ndim = images.ndim - 2
        seen = [_moved(images, axis, sign * step) for axis in range(ndim) for sign in (1, -1)]
        # those of one axis are two steps apart, not sqrt(2)
        pairs = [(a, b) for a, b in combinations(range(2 * ndim), 2) if a // 2 != b // 2]
        distances = torch.stack([window_mean((seen[a] - seen[b]).square(), 2 * radius + 1) for a, b in pairs], dim=2)
        distances = distances - distances.amin(dim=2, keepdim=True)
        variance = distances.mean(dim=2, keepdim=True)
        middle = variance.mean(dim=tuple(range(2, variance.ndim)), keepdim=True).clamp(min=_TINY)
        variance = torch.minimum(torch.maximum(variance, _LEAST * middle), _MOST * middle)
        return torch.exp(-distances / variance).flatten(1, 2)


def self_similarity_difference(fixed: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """MIND of images (B, C, *shape) of any contrasts; a scalar."""
    return (self_similarity(fixed) - self_similarity(moved)).square().mean()


def edge_difference(fixed: torch.Tensor, moved: torch.Tensor, share: float = 0.5) -> torch.Tensor:
    """NGF of images (B, C, *shape) of any contrasts; a scalar.

    Parameters
    ----------
    fixed, moved : images
    share : of an image's mean gradient, below which edges count as noise
    """
    with torch.autocast(fixed.device.type, enabled=False):
        (f, s), (m, t) = (_gradients(image.float(), share) for image in (fixed, moved))
        both = (f * m).sum(dim=2, keepdim=True).abs() + s * t
        lengths = (f.square().sum(dim=2, keepdim=True) + s * s) * (m.square().sum(dim=2, keepdim=True) + t * t)
        return (1 - both.square() / lengths.clamp(min=_TINY**2)).mean()


def slopes(images: torch.Tensor) -> torch.Tensor:
    """Central differences of images (B, C, *shape), 1 / voxel: (B, C, D, *shape)."""
    return torch.stack([(_moved(images, a, 1) - _moved(images, a, -1)) / 2 for a in range(images.ndim - 2)], dim=2)


def _gradients(images: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Slopes, and the length below which they are noise, (B, C, 1, ...)."""
    found = slopes(images)
    lengths = torch.sqrt(found.square().sum(dim=2, keepdim=True) + _TINY)
    return found, share * lengths.mean(tuple(range(2, lengths.ndim)), keepdim=True)


def _moved(images: torch.Tensor, axis: int, step: int) -> torch.Tensor:
    """I(x + step e_axis); border values go on."""
    n, dim = images.shape[2 + axis], 2 + axis
    return images.index_select(dim, (torch.arange(n, device=images.device) + step).clamp(0, n - 1))
