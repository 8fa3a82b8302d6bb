"""How far a map is from what a shape model knows: a regulariser that can be read, sampled and plotted.

A model of shapes (`augreg.sam.AppearanceModel`) says that two people differ by sums of its modes: with v_j the field of one
standard deviation of mode j, the map between two of its instances is, to first order, u = sqrt(2) sum_j b_j v_j, b ~ N(0, I).
What a map u costs is

    E(u) = min over A, b of   |b|^2 / K  +  (rho / s) diffusion(u - A x - sqrt(2) sum_j b_j v_j),

the mean squared Mahalanobis distance of the part that the model explains, and the roughness of the rest, shared out between the
two in the cheapest way: s is the mean diffusion of the model's own fields, so a rest as rough as they are costs rho. Affine maps
cost nothing. E is a quadratic form in the derivatives of u, found once for a model: for every u one small linear system is left,
and its gradient is exact. The modes are those of the model, with its locality: what is far apart varies independently.

A linear-Gaussian model knows no direction of time: u and -u cost the same. This is augreg's own answer to the critic of Hu et al.
(MICCAI 2018); that a statistical deformation model may regularise is old (Rueckert et al., TMI 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from augreg.geometry.transforms import BSpline
from augreg.networks import Map
from augreg.networks.cells import averages
from augreg.networks.warping import positions
from augreg.sam import AppearanceModel
from augreg.synthesis import PairBatch
from augreg.tensors import displacement_to_flow
from augreg.training.objectives import Objective

# of a residual as rough as the model's own fields
RHO = 10.0


@dataclass(frozen=True, eq=False)
class Plausible:
    """Another objective, and how far the finest map is from what a shape model knows.

    Parameters
    ----------
    objective : the other one
    model : model of the shapes of the images, which lie on its template's grid
    weight : weight of E
    rho : what a rest as rough as the model's fields costs
    cell : side of the cells on whose means fields are compared, voxels

    Raises
    ------
    ValueError : for numbers that are not positive.
    """

    objective: Objective
    model: AppearanceModel = field(repr=False)
    weight: float
    rho: float = RHO
    cell: int = 4

    def __post_init__(self) -> None:
        if not (self.weight >= 0 and self.rho > 0 and self.cell >= 1):
            raise ValueError(
                f"weight, rho, cell: expected 0 or more, above 0, and 1 or more, got {self.weight}, {self.rho} and {self.cell}"
            )

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar."""
        return self.objective(maps, batch) + self.weight * self.implausibility(maps[0]).mean()

    def implausibility(self, phi: Map) -> torch.Tensor:
        """E of every map, (B,): about 1 for maps between two instances of the model.

        Raises
        ------
        ValueError : for maps of images that are not on the model's grid.
        """
        if phi.shape != self.model.template.shape:
            raise ValueError(
                f"Plausible: expected images on the model's grid, of shape {self.model.template.shape}, got {phi.shape}; resample"
            )
        u = phi.flow()
        with torch.autocast(u.device.type, enabled=False):
            affine, modes, kappa = (part.to(u.device) for part in self._known)
            g = self._slopes(u.float())
            g = g - (g @ affine) @ affine.T
            # (I / K + kappa H H^T) b = kappa H g
            system = torch.eye(len(modes), device=u.device) / len(modes) + kappa * modes @ modes.T
            b = torch.linalg.solve(system, kappa * (g @ modes.T).T).T
            return b.square().sum(dim=1) / len(modes) + kappa * (g - b @ modes).square().sum(dim=1)

    @cached_property
    def _known(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Q (M, D^2), an orthonormal basis of the derivatives of affine maps; H (K, M) of the modes, less these; rho / s."""
        template, D = self.model.template, self.model.ndim
        places = positions(template.shape, torch.device("cpu"))
        affine = torch.zeros(D, D, D, *template.shape)
        for component in range(D):
            affine[component, :, component] = places.movedim(-1, 0)
        Q, _ = torch.linalg.qr(self._slopes(affine.flatten(0, 1)).double().T)
        modes = []
        for spline in self.model.mode_splines:
            flow = displacement_to_flow(BSpline(spline, self.model.control).displacement(template), template)
            modes.append(2**0.5 * self._slopes(flow)[0].double())
        H = torch.stack(modes)
        H = H - (H @ Q) @ Q.T
        return Q.float(), H.float(), (self.rho / H.square().sum()).float()

    def _slopes(self, flow: torch.Tensor) -> torch.Tensor:
        """All differences of flows (B, D, *shape) between cells, (B, M), scaled so that their squares add up to `diffusion`."""
        cells = (self.cell,) * (flow.ndim - 2)
        u = averages(flow, cells) / averages(torch.ones_like(flow[:1, :1]), cells)
        parts = []
        for axis in range(2, u.ndim):
            if u.shape[axis] > 1:
                d = u.diff(dim=axis) / self.cell
                parts.append(d.flatten(1) * (u.shape[1] / d[0].numel()) ** 0.5)
        return torch.cat(parts, dim=1)
