"""Instance refinement: a few gradient steps on the pair at hand, from what the network predicts.

    min_w  similarity(fixed, moving o phi_w) + smoothness * diffusion(phi_w - id)

over w on cells, linear between them. Of a velocity v, phi_w = exp(v + w), on v's own cells, and the result is a velocity again;
of every other map phi_w = id + u + w, u its displacement: what is sought is a displacement, and w is where it is sought, no
second step. The best map seen is kept, so that the objective never ends above where it began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from augreg.networks.cells import Sides, counts
from augreg.networks.losses.flows import diffusion
from augreg.networks.losses.likeness import Similarity, local_correlation
from augreg.networks.maps import Displacement, Map, Velocity
from augreg.networks.predictor import Wrapper
from augreg.networks.warping import warped

# voxels that a number of w stands for: Adam's smallest divisor is in these units
_UNIT = 20.0


@dataclass(frozen=True, eq=False)
class RefinedFlow(Wrapper):
    """A network whose predictions are refined on each pair.

    Parameters
    ----------
    network : network whose prediction is refined
    steps : number of steps of Adam
    similarity : dissimilarity of two images, smaller for more alike ones
    smoothness : weight of the mean squared gradient of the displacement
    rate : learning rate of Adam, voxels per step
    cells : side lengths of the cells on which w lies, voxels; one number, or one per axis
    """

    steps: int = 20
    similarity: Similarity = local_correlation
    smoothness: float = 0.5
    rate: float = 0.2
    cells: int | Sides = 4

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> Map:
        """A displacement; a velocity where the network predicts one."""
        with torch.no_grad():
            start = self.network.predict(fixed, moving)
            w, unit, refined = self._unknown(start)
            best = refined(w)
        fixed, moving = fixed.to(w.device), moving.to(w.device)
        w.requires_grad_()
        adam = torch.optim.Adam([w], lr=self.rate / unit)
        least = torch.inf
        # the last round looks at what the last step has made
        for _ in range(self.steps + 1):
            with torch.enable_grad():
                phi = refined(w)
                objective = self.objective(fixed, moving, phi)
            if objective.item() < least:
                with torch.no_grad():
                    least, best = objective.item(), refined(w)
            (w.grad,) = torch.autograd.grad(objective, w)
            adam.step()
        return best

    def objective(self, fixed: torch.Tensor, moving: torch.Tensor, phi: Map) -> torch.Tensor:
        """What is minimised, of images (B, C, *shape) and their map; a scalar."""
        flow = phi.flow()
        return self.similarity(fixed, warped(moving, flow)) + self.smoothness * diffusion(flow)

    def _unknown(self, start: Map) -> tuple[torch.Tensor, float, Callable[[torch.Tensor], Map]]:
        """w = 0, the voxels that its numbers stand for, and phi_w."""
        if isinstance(start, Velocity):
            v = start.values.float()
            return torch.zeros_like(v), start.unit, lambda w: replace(start, values=v + w)
        u, shape = start.flow(), start.shape
        cells = (self.cells,) * start.ndim if isinstance(self.cells, int) else self.cells
        w = torch.zeros(*u.shape[:2], *counts(shape, cells), device=u.device)
        return w, _UNIT, lambda w: Displacement.of(u + Displacement(w, shape, cells, _UNIT).flow())
