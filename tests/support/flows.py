"""Small pairs with exact flows, and a network that knows the answer."""

import numpy as np
import scipy.ndimage
import torch
from torch import nn

from augreg.networks import Displacement, normalised
from augreg.synthesis import Later, PairBatch

SHAPE = (64, 64)


def pairs(step, batch=4, size=4.0):
    """Smooth random images, the moving ones shifted smoothly; fixed(x) = moving(x + u)."""
    rng = np.random.default_rng([7, step])
    fixed, moving, flows = [], [], []
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    for _ in range(batch):
        image = scipy.ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.5, mode="wrap")
        flow = np.stack([scipy.ndimage.gaussian_filter(rng.normal(size=SHAPE), 20, mode="wrap") for _ in SHAPE])
        flow *= size / np.abs(flow).max()
        moving.append(image)
        fixed.append(scipy.ndimage.map_coordinates(image, grid + flow, order=1, mode="wrap"))
        flows.append(flow)
    images = [torch.from_numpy(np.stack(part)[:, None].astype(np.float32)) for part in (fixed, moving)]
    flow = torch.from_numpy(np.stack(flows).astype(np.float32))
    everywhere, zero = torch.ones(batch, 1, *SHAPE, dtype=torch.bool), torch.zeros(batch)
    # the reverse is not exact: who learns from it inverts the flow first
    return PairBatch(*images, flow, everywhere, Later.known(-flow, everywhere), zero + 1, zero, torch.ones(batch, 2), zero.long())


class Oracle(nn.Module):
    """Predicts one voxel flow everywhere, whatever it sees; remembers what it saw."""

    def __init__(self, flow):
        super().__init__()
        self.ndim, self.channels, self.flow = len(flow), 1, flow

    def prepare(self, images):
        return normalised(images)

    def predict(self, fixed, moving):
        self.seen = fixed, moving
        shape = fixed.shape[2:]
        return Displacement.of(torch.tensor(self.flow).reshape(1, -1, *[1] * len(shape)).expand(1, -1, *shape))
