"""How much one image says of the other, whatever their contrasts are.

    NMI(f, m) = 1 - 2 I(f; m) / (H(f) + H(m)),      from the joint histogram P_ab = mean_x h_a(f(x)) h_b(m(x))

Every value is shared between the two bins next to it, so the histogram is a continuous, piecewise linear function of the values
(linear Parzen windows; Mattes et al., IEEE TMI 2003, have cubic ones on one side). What is shared says a little less: of an image
and itself NMI is 0 where values are those of bins, and up to 0.3 elsewhere.
"""

from __future__ import annotations

import torch

# voxels that are looked at, about, along a lattice: bins times voxels are held in memory
_MOST = 1 << 17
_TINY = 1e-12


def mutual_information_loss(fixed: torch.Tensor, moved: torch.Tensor, bins: int = 32) -> torch.Tensor:
    """NMI of images (B, C, *shape), between about 0 (each says all of the other) and 1 (nothing); a scalar.

    Parameters
    ----------
    fixed, moved : images of any contrasts; every channel is compared with its partner, over its own range
    bins : number of bins
    """
    with torch.autocast(fixed.device.type, enabled=False):
        f, m = (_shares(_lattice(image.float()), bins) for image in (fixed, moved))
        joint = f @ m.mT / f.shape[-1]
        f_alone, m_alone = joint.sum(dim=-1), joint.sum(dim=-2)
        separate = _entropy(f_alone, -1) + _entropy(m_alone, -1)
        common = separate - _entropy(joint, (-2, -1))
        return (1 - 2 * common / separate.clamp(min=_TINY)).mean()


def _lattice(images: torch.Tensor) -> torch.Tensor:
    """Values (B C, N) at the voxels that are looked at."""
    ndim = images.ndim - 2
    step = max(1, round((images[0, 0].numel() / _MOST) ** (1 / ndim)))
    for axis in range(2, 2 + ndim):
        images = images[(slice(None),) * axis + (slice(None, None, step),)]
    return images.flatten(2).flatten(0, 1)


def _shares(values: torch.Tensor, bins: int) -> torch.Tensor:
    """h (B, bins, N): how much of every value is in every bin."""
    # where the range ends is no matter of the gradient
    low, high = (end.detach() for end in values.aminmax(dim=-1, keepdim=True))
    place = (values - low) / (high - low).clamp(min=_TINY) * (bins - 1)
    centers = torch.arange(bins, dtype=values.dtype, device=values.device)[:, None]
    return (1 - (place[:, None] - centers).abs()).clamp(min=0)


def _entropy(p: torch.Tensor, axes: int | tuple[int, int]) -> torch.Tensor:
    return -(p * (p + _TINY).log()).sum(dim=axes)
