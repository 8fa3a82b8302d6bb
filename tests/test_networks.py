import numpy as np
import pytest
import spaces
import torch

from augreg import Image
from augreg.io import write_arrays
from augreg.networks import (
    FlowNetS,
    end_point_error,
    flow_to_displacement,
    image_to_tensor,
    multiscale_loss,
    normalised,
    read_network,
    write_network,
)
from augreg.networks.flownet import FLOW_SCALE


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_as_many_parameters_as_the_published_network():
    with torch.device("meta"):
        assert round(parameters(FlowNetS(2, 3)) / 1e6, 3) == 38.676
        assert round(parameters(FlowNetS(2, 1)) / 1e6, 3) == 38.663
        assert round(parameters(FlowNetS(3, 1)) / 1e6, 1) == 132.7


@pytest.mark.parametrize(("ndim", "shape"), [(2, (70, 133)), (3, (33, 40, 65))])
def test_odd_sizes_give_full_size_predictions(ndim, shape):
    network = FlowNetS(ndim, 1, 0.05).eval()
    images = torch.rand(2, 2, 1, *shape)
    with torch.no_grad():
        assert network.predict(*images).shape == (2, ndim, *shape)
        assert len(network(*images)) == 5


def truth(shape=(64, 128)):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, len(shape), *shape)).astype(np.float32)) * 5


def scales(flow, mask):
    return [torch.nn.functional.avg_pool2d(flow, 2**k) / FLOW_SCALE for k in range(2, 7)]


def test_the_loss_vanishes_at_the_truth_and_weighs_the_scales():
    flow = truth()
    mask = torch.ones(2, 1, 64, 128)
    exact = scales(flow, mask)
    assert multiscale_loss(exact, flow, mask).item() < 1e-4
    for k, weight in enumerate((4, 2, 1, 1, 1)):
        off = [part + (torch.tensor([3.0, 4.0])[:, None, None] if i == k else 0) for i, part in enumerate(exact)]
        assert multiscale_loss(off, flow, mask).item() == pytest.approx(5 * weight, rel=1e-3)


def test_masked_pixels_do_not_count():
    flow, mask = truth(), torch.zeros(2, 1, 64, 128)
    mask[..., :64] = 1
    spoilt = flow.clone()
    spoilt[..., 64:] = 1e3
    exact = scales(flow, mask)
    assert multiscale_loss(exact, spoilt, mask).item() < 1e-3
    assert end_point_error(flow, spoilt, mask).item() < 1e-5
    assert end_point_error(flow, spoilt, torch.ones_like(mask)).item() > 100


def test_a_batch_is_the_mean_of_its_samples():
    flow, other = truth(), truth() * 0.3
    mask = torch.ones(2, 1, 64, 128)
    mask[1, :, 20:] = 0
    together = multiscale_loss(scales(other, mask), flow, mask)
    alone = [multiscale_loss([p[i : i + 1] for p in scales(other, mask)], flow[i : i + 1], mask[i : i + 1]) for i in range(2)]
    assert together.item() == pytest.approx(sum(a.item() for a in alone) / 2, rel=1e-5)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_flow_becomes_world_vectors(ndim, name):
    grid = spaces.grid(ndim, name)
    flow = torch.zeros(1, ndim, *grid.shape)
    flow[:, 0], flow[:, 1] = 2.0, -3.0
    steps = np.zeros(ndim)
    steps[:2] = 2.0, -3.0
    expected = grid.points_at(steps) - grid.points_at(np.zeros(ndim))
    np.testing.assert_allclose(flow_to_displacement(flow, grid), np.broadcast_to(expected, (*grid.shape, ndim)), atol=1e-6)


def test_images_keep_their_axis_order():
    grid = spaces.grid(2)
    values = np.arange(grid.size * 3).reshape(*grid.shape, 3)
    tensor = image_to_tensor(Image(values, grid))
    assert tensor.shape == (1, 3, *grid.shape)
    assert tensor[0, 1, 4, 2].item() == values[4, 2, 1]


def test_normalisation_ignores_brightness_and_contrast():
    images = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(normalised(images), normalised(images * 7 + 100), atol=1e-4, rtol=1e-4)
    assert torch.isfinite(normalised(torch.ones(1, 1, 4, 4))).all()


def test_files_round_trip_and_foreign_ones_are_refused(tmp_path):
    network = FlowNetS(2, 1, 0.03).eval()
    path = tmp_path / "w.safetensors"
    write_network(network, (1.5, 2.0), path)
    back = read_network(path)
    assert back.spacing == (1.5, 2.0)
    images = torch.rand(2, 1, 1, 64, 64)
    assert torch.equal(back.network.predict(*images), network.predict(*images))
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:500])
    (tmp_path / "text.safetensors").write_text("hello")
    write_arrays(tmp_path / "model.npz", {}, {"kind": "model"})
    for name in ("cut.safetensors", "text.safetensors", "model.npz"):
        with pytest.raises(ValueError, match=name) as caught:
            read_network(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_network(tmp_path / "absent.safetensors")
