"""Correlation of two feature maps (FlowNetC; Dosovitskiy, Fischer et al., ICCV 2015, equation 1, with patches of one pixel).

    c(x, d) = 1/C sum_c f_c(x) g_c(x + d),      d in {-r, -r + s, ..., r}^D,      0 where x + d lies outside

Along the last axis all products of two lines are one small matrix product, whose diagonals are the displacements; a loop runs
over the displacements of the other axes.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import nn


def correlation(first: torch.Tensor, second: torch.Tensor, reach: int, step: int = 1) -> torch.Tensor:
    """All products of features within a reach.

    Parameters
    ----------
    first, second : f and g, (B, C, *shape)
    reach : r, the largest displacement, pixels of the maps; a multiple of `step`
    step : s

    Returns
    -------
    c, (B, K^D, *shape), K = 2 r / s + 1; the displacement along the last axis runs fastest
    """
    shape = first.shape[2:]
    f = first.movedim(1, -1)
    # zeros around all axes but the last, which `pad` counts first
    g = nn.functional.pad(second, (0, 0, *[reach] * (2 * len(shape) - 2))).movedim(1, -2)
    planes = []
    for offset in product(range(0, 2 * reach + 1, step), repeat=len(shape) - 1):
        lines = g[(slice(None), *(slice(o, o + n) for o, n in zip(offset, shape, strict=False)))]
        planes.append(_diagonals(f @ lines, reach, step))
    return torch.cat(planes, dim=-1).movedim(-1, 1) / first.shape[1]


def displacements(ndim: int, reach: int, step: int = 1) -> int:
    """How many displacements d there are."""
    return int((2 * reach // step + 1) ** ndim)


def _diagonals(products: torch.Tensor, reach: int, step: int) -> torch.Tensor:
    """Entries (..., n, x, x + d) of products (..., n, n) as (..., n, K)."""
    n = products.shape[-1]
    # with a row one longer than the padded matrix is wide, diagonals become columns
    wide = nn.functional.pad(products, (reach, reach)).flatten(-2)
    skewed = nn.functional.pad(wide, (0, n)).unflatten(-1, (n, n + 2 * reach + 1))
    return skewed[..., : 2 * reach + 1 : step]
