"""Where one image looks like the other, found by matching before a network looks at what is left (after Cao et al., MICCAI 2017).

    c(x, d) = 1 - cov(F, M_d)(x) / sqrt(var F var M_d),   over a window of cells around x,   M_d(x) = M(x + d),  |d_a| <= reach

    u <- 0;   for every theta:   u <- G (argmin_d c(x, d) + theta |d - u(x)|^2),      theta = stiffness (0.003, ... 0.3)

    phi = phi_1 @ phi_2 @ n(F, M o (phi_1 @ phi_2)),      phi_k = id + u_k of cells of 2 voxels, then of 1

G is the mean over 5 cells, taken twice. The coupling of what looks alike to what is smooth is that of Heinrich et al. (MICCAI
2014; ConvexAdam, 2021), whose last part, gradient steps, the network n takes over: it learns what matching leaves. The paper
gives maps of c to the network, beside the images; it then has to learn to follow them, and in 600 steps it does not (what was
tried: `benchmarks/experiments/fields.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, final

import torch

from augreg.networks.cells import averages
from augreg.networks.maps import Displacement, Map
from augreg.networks.network import Network
from augreg.networks.windows import window_mean

# how much displacements are held to smooth ones, from the first round to the last
_THETAS = (0.003, 0.01, 0.03, 0.1, 0.3)
# cells of the mean that smooths, and how often it is taken
_SMOOTHED, _TIMES = 5, 2
# of images with variance 1
_LEAST_VARIANCE = 1e-3

# cell (voxels), window and reach (cells)
Look = tuple[int, int, int]


@torch.no_grad()
def coupled_matching(fixed: torch.Tensor, moving: torch.Tensor, look: Look, *, stiffness: float = 1.0) -> torch.Tensor:
    """Displacements of cells to what looks alike, coupled to smooth ones: (B, D, *counts) float32, in cells.

    Takes several times (2 reach + 1)^D numbers for every cell in memory: with the looks of `Steered` 18 GB, and minutes of a CPU,
    for a head of 160 x 192 x 224 voxels; it is meant for volumes at a few millimetres.

    Parameters
    ----------
    fixed, moving : images (B, C, *shape), normalised; correlations are means over channels
    look : voxels along the side of a cell; side of the windows, an odd number of cells; largest displacement along an axis, cells
    stiffness : factor on how much displacements are held to smooth ones
    """
    cell, window, reach = look
    D = fixed.ndim - 2
    with torch.autocast(fixed.device.type, enabled=False):
        cells = (cell,) * D
        share = averages(torch.ones_like(fixed[:1, :1], dtype=torch.float32), cells)
        f, m = (averages(images.float(), cells) / share for images in (fixed, moving))
        ways = list(product(range(-reach, reach + 1), repeat=D))
        cost = _unlike(f, m, window, ways)
        steps = torch.tensor(ways, dtype=f.dtype, device=f.device)
        lengths = steps.square().sum(dim=1).reshape(1, -1, *[1] * D)
        u = torch.zeros_like(f[:, :1]).repeat(1, D, *[1] * D)
        for theta in _THETAS:
            # |d - u|^2 but for |u|^2, which is the same for all d
            far = lengths - 2 * torch.einsum("kd,bd...->bk...", steps, u)
            u = steps[(cost + stiffness * theta * far).argmin(dim=1)].movedim(-1, 1)
            for _ in range(_TIMES):
                u = window_mean(u, _SMOOTHED)
    return u


def _unlike(f: torch.Tensor, m: torch.Tensor, window: int, ways: Sequence[Sequence[int]]) -> torch.Tensor:
    """c of every displacement, (B, len(ways), *counts)."""
    mean_f, mean_m = window_mean(f, window), window_mean(m, window)
    var_f, var_m = ((window_mean(v * v, window) - mean**2).clamp(min=_LEAST_VARIANCE) for v, mean in ((f, mean_f), (m, mean_m)))
    found = []
    for d in ways:
        covariance = window_mean(f * _shifted(m, d), window) - mean_f * _shifted(mean_m, d)
        alike = (covariance / torch.sqrt(var_f * _shifted(var_m, d))).clamp(-1, 1)
        found.append(1 - alike.mean(dim=1, keepdim=True))
    return torch.cat(found, dim=1)


@final
class Steered(Network):
    """A network that looks at what matching leaves.

    Parameters
    ----------
    network : network of the images
    looks : cell, window and reach of every matching, from coarse to fine, see `coupled_matching`
    stiffness : see `coupled_matching`; 10 where much looks alike, as in lungs

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(self, network: Network, looks: Sequence[Look] = ((2, 3, 4), (1, 5, 2)), stiffness: float = 1.0) -> None:
        super().__init__()
        looks = tuple((cell, window, reach) for cell, window, reach in looks)
        if not looks or any(cell < 1 or reach < 1 or window < 3 or window % 2 == 0 for cell, window, reach in looks):
            raise ValueError(
                f"Steered: expected looks (cell, window, reach) of 1 voxel or more, 3, 5, ... cells and 1 or more, got {looks}"
            )
        if not 0 < stiffness < float("inf"):
            raise ValueError(f"Steered: expected a stiffness above 0, got {stiffness}")
        self.network, self.looks, self.stiffness = network, looks, stiffness
        self.ndim, self.channels, self.unit = network.ndim, network.channels, network.unit

    @property
    def description(self) -> dict[str, Any]:
        """Its part and its numbers."""
        numbers = {"looks": [list(look) for look in self.looks], "stiffness": self.stiffness}
        return {"architecture": "Steered", "parts": [self.network.description], **numbers}

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """As the network wants them."""
        return self.network.prepare(images)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Map]:
        """Maps of the network, after those of matching."""
        phi = self.match(fixed, moving)
        return [phi @ rest for rest in self.network(fixed, phi.warp(moving))]

    def match(self, fixed: torch.Tensor, moving: torch.Tensor) -> Map:
        """What is found without the network; images as of `forward`."""
        phi: Map | None = None
        for look in self.looks:
            seen = moving if phi is None else phi.warp(moving)
            cells = (look[0],) * self.ndim
            u = coupled_matching(fixed, seen, look, stiffness=self.stiffness) * (look[0] / self.unit)
            one = Displacement(u, tuple(fixed.shape[2:]), cells, self.unit)
            phi = one if phi is None else phi @ one
        assert phi is not None
        return phi


def _shifted(images: torch.Tensor, d: Sequence[int]) -> torch.Tensor:
    """M(x + d); border values go on."""
    for axis, step in enumerate(d, 2):
        if step:
            n = images.shape[axis]
            images = images.index_select(axis, (torch.arange(n, device=images.device) + step).clamp(0, n - 1))
    return images
