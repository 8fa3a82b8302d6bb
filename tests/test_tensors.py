import numpy as np
import pytest
import torch
from support import spaces
from support.phantoms import bent

from augreg import Affine, Image, grid_sample_grid, warp
from augreg.tensors import (
    displacement_to_flow,
    displacements_to_flows,
    flow_to_displacement,
    flows_to_displacements,
    image_to_tensor,
)


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


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("ndim", [2, 3])
def test_torch_s_sampling_with_a_transform_s_grid_is_augreg_s_warp(ndim, corners):
    fixed, moving = spaces.grid(ndim, "oblique"), spaces.grid(ndim, "swap", shape=(19, 25, 14)[:ndim])
    A = np.eye(ndim) + 0.1 * np.random.default_rng(0).normal(size=(ndim, ndim))
    phi = Affine.about(A, moving.center, moving.center - fixed.center) @ bent(fixed, 8.0, seed=1)
    image = Image(np.random.default_rng(1).normal(size=(*moving.shape, 3)), moving)
    grid = grid_sample_grid(phi, fixed, image, align_corners=corners)
    assert grid.shape == (1, *fixed.shape, ndim)
    assert grid.dtype == torch.float32
    found = torch.nn.functional.grid_sample(image_to_tensor(image), grid, "bilinear", "border", align_corners=corners)
    expected = np.moveaxis(warp(image, phi, fixed).values, -1, 0)
    inside = moving.contains(phi(fixed.points()), margin=0.49)
    assert 0.3 < inside.mean() < 1
    assert np.abs(found[0].numpy() - expected)[:, inside].max() < 1e-4
    other = torch.nn.functional.grid_sample(image_to_tensor(image), grid, "bilinear", "border", align_corners=not corners)
    assert np.abs(other[0].numpy() - expected)[:, inside].max() > 0.05


def test_a_sampling_grid_wants_grids_of_one_dimension():
    plane, volume = spaces.grid(2), spaces.grid(3)
    with pytest.raises(TypeError, match="moving: expected an image, labels or a Grid, got ndarray"):
        grid_sample_grid(Affine.identity(2), plane, np.zeros((4, 5)))
    with pytest.raises(ValueError, match="expected one dimension, got a 2-D transform, a 2-D fixed and a 3-D moving image"):
        grid_sample_grid(Affine.identity(2), plane, volume)
