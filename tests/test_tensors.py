import numpy as np
import pytest
import torch
from support import spaces

from augreg.tensors import displacement_to_flow, displacements_to_flows, flow_to_displacement, flows_to_displacements


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_a_flow_is_the_displacement_in_voxels_along_the_index_axes(ndim, name):
    grid = spaces.grid(ndim, name)
    flow = np.random.default_rng(0).normal(size=(3, ndim, *grid.shape)).astype(np.float32)
    u = flows_to_displacements(torch.from_numpy(flow), grid)
    assert u.shape == (3, *grid.shape, ndim)
    assert u.dtype == np.float64
    # u = direction @ (spacing * flow), place by place
    for pair, index in ((0, (0,) * ndim), (2, tuple(n - 1 for n in grid.shape))):
        voxels = np.array([flow[(pair, axis, *index)] for axis in range(ndim)], dtype=float)
        np.testing.assert_allclose(u[(pair, *index)], np.array(grid.direction) @ (np.array(grid.spacing) * voxels), atol=1e-12)
    # the ends of the displacements, as indices
    ends = grid.indices_at(grid.points() + u[1])
    steps = ends - grid.indices_at(grid.points())
    np.testing.assert_allclose(np.moveaxis(steps, -1, 0), flow[1], atol=1e-6)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_there_and_back_is_the_same_flow(ndim, name, kind):
    grid = spaces.grid(ndim, name)
    flow = torch.from_numpy(np.random.default_rng(1).normal(size=(2, ndim, *grid.shape)).astype(np.float32))
    again = displacements_to_flows(flows_to_displacements(flow, grid).astype(kind), grid)
    assert again.dtype == torch.float32
    assert again.is_contiguous()
    assert (again - flow).abs().max() < 1e-5
    one = flow_to_displacement(flow[1:], grid)
    assert np.array_equal(one, flows_to_displacements(flow, grid)[1])
    assert torch.equal(displacement_to_flow(one.astype(kind), grid), again[1:])
