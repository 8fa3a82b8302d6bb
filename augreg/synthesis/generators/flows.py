"""Flows drawn from families of fields, without images: what bodies do, for those who judge maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.geometry.splines import control_grid
from augreg.geometry.transforms import BSpline
from augreg.synthesis.generators.fields import Field
from augreg.synthesis.render.renderer import renderer_on
from augreg.tensors import displacements_to_flows


def draw_flows(families: Sequence[Field], grid: Grid, rngs: Sequence[np.random.Generator]) -> torch.Tensor:
    """One flow per random generator, (B, D, *shape) voxels, shrunk where it would fold as generators of pairs do.

    Parameters
    ----------
    families : families of fields; one is taken at random for every flow
    grid : grid of the flows
    rngs : random generators, see `augreg.synthesis.pair_rngs`
    """
    control = control_grid(grid)
    drawn = [families[int(rng.integers(len(families)))].draw(rng, control, grid) for rng in rngs]
    voxels = torch.from_numpy(np.stack(drawn) @ grid.world_to_index.T)
    _, scale, _ = renderer_on(grid, torch.device("cpu")).folding.unfolded(voxels)
    u = [BSpline(s * c, control).displacement(grid) for s, c in zip(scale.tolist(), drawn, strict=True)]
    return displacements_to_flows(np.stack(u), grid)
