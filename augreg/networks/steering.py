"""Where one image looks like the other, given to a network along with the images (after Cao et al., MICCAI 2017).

    s_k(x, d) = cov(F, M_d)(x) / sqrt(var F var M_d),   over a window of k voxels around x,   M_d(x) = M(x + d),  |d_a| <= reach

    of every window:  max_d s_k(x, d),  and  sum_d w_d d / sum_d w_d / reach,   w_d = exp(beta s_k(x, d))

So a window of the paper slid over its neighbourhood is D + 1 channels here, whatever the reach. On cells of several voxels the
same reach goes farther.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, final

import torch

from augreg.networks.cells import at_voxels, averages
from augreg.networks.maps import Map
from augreg.networks.network import Network
from augreg.networks.windows import window_mean

# how sharply the mean displacement follows the best one
_BETA = 20.0
# of images with variance 1
_LEAST_VARIANCE = 1e-4


@torch.no_grad()
def similarity_maps(fixed: torch.Tensor, moving: torch.Tensor, kernels: Sequence[int], reach: int, cell: int = 1) -> torch.Tensor:
    """Of every window the mean displacement and the largest similarity, (B, len(kernels) (D + 1), *shape) float32.

    Parameters
    ----------
    fixed, moving : images (B, C, *shape), normalised; similarities are means over channels
    kernels : sides of the windows, odd numbers of cells
    reach : largest displacement along each axis, cells
    cell : voxels along the side of a cell
    """
    D, shape = fixed.ndim - 2, tuple(fixed.shape[2:])
    with torch.autocast(fixed.device.type, enabled=False):
        cells = (cell,) * D
        share = averages(torch.ones_like(fixed[:1, :1], dtype=torch.float32), cells)
        f, m = (averages(images.float(), cells) / share for images in (fixed, moving))
        steps = list(product(range(-reach, reach + 1), repeat=D))
        found = []
        for kernel in kernels:
            mean_f, mean_m = window_mean(f, kernel), window_mean(m, kernel)
            var_f, var_m = (
                (window_mean(v * v, kernel) - mean**2).clamp(min=_LEAST_VARIANCE) for v, mean in ((f, mean_f), (m, mean_m))
            )
            total, best = torch.zeros_like(f[:, :1]), torch.full_like(f[:, :1], -1.0)
            where = total.expand(-1, D, *f.shape[2:]).clone()
            for d in steps:
                covariance = window_mean(f * _shifted(m, d), kernel) - mean_f * _shifted(mean_m, d)
                similarity = (covariance / torch.sqrt(var_f * _shifted(var_m, d))).clamp(-1, 1).mean(dim=1, keepdim=True)
                weight = torch.exp(_BETA * (similarity - 1))
                total += weight
                best = torch.maximum(best, similarity)
                where += weight * torch.tensor(d, dtype=f.dtype, device=f.device).reshape(1, D, *[1] * D)
            found += [where / total / max(reach, 1), best]
        return at_voxels(torch.cat(found, dim=1), cells, shape)


@final
class Steered(Network):
    """A network that also sees where each image looks like the other.

    Parameters
    ----------
    network : network of images with len(kernels) (D + 1) channels more than these have
    kernels, reach, cell : as of `similarity_maps`

    Raises
    ------
    ValueError : for a network with too few channels, or other numbers.
    """

    def __init__(self, network: Network, kernels: Sequence[int] = (3, 5, 7, 9), reach: int = 4, cell: int = 2) -> None:
        super().__init__()
        more = len(kernels) * (network.ndim + 1)
        if network.channels <= more:
            raise ValueError(
                f"Steered: expected a network of more than {more} channels, which {len(kernels)} windows have, "
                f"got {network.channels}"
            )
        if reach < 1 or cell < 1 or not kernels or any(kernel < 3 or kernel % 2 == 0 for kernel in kernels):
            raise ValueError(
                f"Steered: expected windows of 3, 5, ... cells, reach and cell above 0, got {tuple(kernels)}, {reach}, {cell}"
            )
        self.network, self.kernels, self.reach, self.cell = network, tuple(kernels), reach, cell
        self.ndim, self.channels, self.unit = network.ndim, network.channels - more, network.unit

    @property
    def description(self) -> dict[str, Any]:
        """Its part and its numbers."""
        numbers = {"kernels": list(self.kernels), "reach": self.reach, "cell": self.cell}
        return {"architecture": "Steered", "parts": [self.network.description], **numbers}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> Sequence[Map]:
        """Maps of the network."""
        numbers = self.kernels, self.reach, self.cell
        return self.network(
            torch.cat([fixed, similarity_maps(fixed, moving, *numbers)], dim=1),
            torch.cat([moving, similarity_maps(moving, fixed, *numbers)], dim=1),
        )


def _shifted(images: torch.Tensor, d: Sequence[int]) -> torch.Tensor:
    """M(x + d); border values go on."""
    for axis, step in enumerate(d, 2):
        if step:
            n = images.shape[axis]
            images = images.index_select(axis, (torch.arange(n, device=images.device) + step).clamp(0, n - 1))
    return images
