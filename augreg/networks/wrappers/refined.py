"""Instance refinement: a few gradient steps on the pair at hand, from what the network predicts.

    min_v  similarity(fixed, moving o (id + u + v)) + smoothness * diffusion(u + v)

over v on the cells of the network's finest flow, linear between them; u is the prediction. The best flow seen is kept, so that
the objective never ends above where it began.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from augreg.networks.architectures.flownet import FINEST, FLOW_SCALE, full_resolution
from augreg.networks.losses.flows import diffusion
from augreg.networks.losses.likeness import Similarity, local_correlation
from augreg.networks.predictor import Predictor
from augreg.networks.warping import warped


@dataclass(frozen=True, eq=False)
class RefinedFlow:
    """A network whose predictions are refined on each pair.

    Parameters
    ----------
    network : where to start
    steps : of Adam
    similarity : of images, smaller for more alike ones
    smoothness : weight of the mean squared gradient of the flow
    rate : of Adam, voxels per step
    """

    network: Predictor
    steps: int = 20
    similarity: Similarity = local_correlation
    smoothness: float = 0.5
    rate: float = 0.2

    @property
    def ndim(self) -> int:
        """D."""
        return self.network.ndim

    @property
    def channels(self) -> int:
        """Of one image."""
        return self.network.channels

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """The flow (B, D, *shape) voxels."""
        with torch.no_grad():
            best = start = self.network.predict(fixed, moving).float()
        fixed, moving = fixed.to(start.device), moving.to(start.device)
        shape = start.shape[2:]
        v = torch.zeros(*start.shape[:2], *(-(-n // FINEST) for n in shape), device=start.device, requires_grad=True)
        adam = torch.optim.Adam([v], lr=self.rate / FLOW_SCALE)
        least = torch.inf
        # the last round looks at what the last step has made
        for _ in range(self.steps + 1):
            with torch.enable_grad():
                flow = start + full_resolution(v, shape)
                objective = self.objective(fixed, moving, flow)
            if objective.item() < least:
                least, best = objective.item(), flow.detach()
            (v.grad,) = torch.autograd.grad(objective, v)
            adam.step()
        return best

    def objective(self, fixed: torch.Tensor, moving: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """What is minimised, of images (B, C, *shape) and a flow (B, D, *shape) voxels; a scalar."""
        return self.similarity(fixed, warped(moving, flow)) + self.smoothness * diffusion(flow)
