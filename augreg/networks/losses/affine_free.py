"""What is left of a flow when its best affine part is taken off.

    r(x) = u(x) - A x - t,      A, t = argmin sum_x w(x) |u(x) - A x - t|^2

How a patient lies and where a probe is held is no matter of how organs deform. Hu et al. (MICCAI 2018) predict the two apart;
here one is taken off the other, in closed form.
"""

from __future__ import annotations

import torch

from augreg.networks.warping import positions


def affine_free(flow: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """r of flows (B, D, *shape), fitted where a mask (B, 1, *shape) is true or as it weighs; 0 where it is 0; float32."""
    with torch.autocast(flow.device.type, enabled=False):
        shape, D = flow.shape[2:], flow.shape[1]
        last = torch.tensor([max(n - 1, 1) for n in shape], dtype=torch.float32, device=flow.device)
        # from -1 to 1: well conditioned for any size
        places = (2 * positions(shape, flow.device) / last - 1).reshape(-1, D)
        X = torch.cat([places, torch.ones_like(places[:, :1])], dim=1)
        w = mask.float().flatten(1)
        u = torch.where(mask > 0, flow.float(), 0).flatten(2)
        normal = torch.einsum("bn,ni,nj->bij", w, X, X)
        # a mask of a few voxels leaves some directions open
        normal = normal + 1e-6 * w.sum(1).clamp(min=1)[:, None, None] * torch.eye(D + 1, device=flow.device)
        fitted = torch.linalg.solve(normal, torch.einsum("bn,bdn,ni->bid", w, u, X))
        return ((u - torch.einsum("ni,bid->bdn", X, fitted)) * (w[:, None] > 0)).reshape(flow.shape)
