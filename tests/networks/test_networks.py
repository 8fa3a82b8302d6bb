from dataclasses import replace

import numpy as np
import pytest
import torch
from support import naive, spaces

from augreg import Image
from augreg.io import write_arrays
from augreg.networks import (
    Displacement,
    FlowNetC,
    FlowNetS,
    end_point_error,
    flow_to_displacement,
    image_to_tensor,
    multiscale_loss,
    normalised,
    read_network,
    write_network,
)
from augreg.networks.architectures.correlation import correlation
from augreg.networks.cells import at_voxels, averages
from augreg.networks.files import write_tensors
from augreg.networks.warping import positions
from augreg.networks.windows import local_contrast
from augreg.training import seeded_network


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_as_many_parameters_as_the_published_networks():
    with torch.device("meta"):
        for network, millions in ((FlowNetS(2, 3), 38.676), (FlowNetS(2, 1), 38.663), (FlowNetC(2, 3), 39.174)):
            assert round(parameters(network) / 1e6, 3) == millions
        assert round(parameters(FlowNetS(3, 1)) / 1e6, 1) == 132.7


@pytest.mark.parametrize("kind", [FlowNetS, FlowNetC])
@pytest.mark.parametrize("shape", [(70, 133), (5, 2), (33, 40, 65), (3, 20, 9)])
def test_images_of_any_size_give_flows_of_their_size(kind, shape):
    network = kind(len(shape), 2, 0.05).eval()
    images = torch.rand(2, 2, 2, *shape)
    with torch.no_grad():
        maps = network(*images)
        assert network.predict(*images).flow().shape == (2, len(shape), *shape)
    assert [phi.values.shape[2:] for phi in maps] == [tuple(-(-n // cell) for n in shape) for cell in (4, 8, 16, 32, 64)]


def test_both_images_matter_and_their_order_does():
    first, second = torch.rand(2, 1, 1, 64, 48)
    for kind in (FlowNetS, FlowNetC):
        network = kind(2, 1, 0.1)
        with torch.no_grad():
            one, turned, same = (network.predict(*pair).flow() for pair in ((first, second), (second, first), (first, first)))
        assert min((one - turned).abs().max(), (one - same).abs().max()) > 1e-3 * one.abs().max()


@pytest.mark.parametrize(("shape", "reach", "step"), [((7, 5), 2, 1), ((4, 9), 6, 2), ((3, 4, 5), 3, 1), ((1, 6), 2, 2)])
def test_correlation_is_that_of_its_slow_twin(shape, reach, step):
    f, g = torch.randn(2, 2, 3, *shape)
    found = correlation(f, g, reach, step)
    for sample in range(2):
        expected = naive.correlation(f[sample].numpy(), g[sample].numpy(), reach, step)
        np.testing.assert_allclose(found[sample], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "cells"), [((64, 96), (4, 4)), ((50, 37), (4, 2)), ((22, 35, 41), (4, 4, 4)), ((40, 36, 7), (2, 2, 1))]
)
def test_cells_lie_where_their_averages_are_taken(shape, cells):
    """A flow that is linear in space survives averaging and interpolation, away from the border."""
    ndim = len(shape)
    A = torch.randn(ndim, ndim)
    flow = (positions(shape, A.device) @ A).movedim(-1, 0)[None]
    full = at_voxels(averages(flow, cells), cells, shape)
    assert averages(flow, cells).shape[2:] == tuple(-(-n // c) for n, c in zip(shape, cells, strict=True))
    inner = (..., *[slice(c // 2, n - c - c // 2) for n, c in zip(shape, cells, strict=True)])
    torch.testing.assert_close(full[inner], flow[inner], atol=1e-3, rtol=1e-4)


def truth(shape=(64, 128)):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, len(shape), *shape)).astype(np.float32)) * 5


def maps_of(values, shape):
    """Displacements on cells of 4, 8, ... voxels, of 20 voxels each."""
    return [Displacement(u, shape, (2**k, 2**k), 20.0) for k, u in enumerate(values, 2)]


def scales(flow):
    return maps_of([torch.nn.functional.avg_pool2d(flow, 2**k) / 20 for k in range(2, 7)], tuple(flow.shape[2:]))


def test_the_loss_vanishes_at_the_truth_and_weighs_the_scales():
    flow = truth()
    mask = torch.ones(2, 1, 64, 128)
    exact = scales(flow)
    assert multiscale_loss(exact, flow, mask).item() < 1e-4
    for k, weight in enumerate((4, 2, 1, 1, 1)):
        wrong = torch.tensor([3.0, 4.0])[:, None, None]
        off = [replace(phi, values=phi.values + wrong) if i == k else phi for i, phi in enumerate(exact)]
        assert multiscale_loss(off, flow, mask).item() == pytest.approx(5 * weight, rel=1e-3)


def test_masked_pixels_do_not_count():
    flow, mask = truth(), torch.zeros(2, 1, 64, 128)
    mask[..., :64] = 1
    spoilt = flow.clone()
    spoilt[..., 64:] = 1e3
    exact = scales(flow)
    assert multiscale_loss(exact, spoilt, mask).item() < 1e-3
    assert end_point_error(flow, spoilt, mask).item() < 1e-5
    assert end_point_error(flow, spoilt, torch.ones_like(mask)).item() > 100
    spoilt[..., 64:] = float("nan")
    assert multiscale_loss(exact, spoilt, mask).item() < 1e-3
    assert end_point_error(flow, spoilt, mask).item() < 1e-5


def test_cells_beyond_the_border_count_with_what_they_have():
    flow, mask = truth((50, 37)), torch.ones(2, 1, 50, 37)
    wide = torch.zeros(2, 3, 64, 64)
    wide[:, :2, :50, :37], wide[:, 2, :50, :37] = flow, 1
    exact = []
    for k in range(2, 7):
        sums = torch.nn.functional.avg_pool2d(wide, 2**k)
        size = (-(-50 // 2**k), -(-37 // 2**k))
        exact.append((sums[:, :2] / sums[:, 2:].clamp(min=1e-9) / 20)[..., : size[0], : size[1]])
    assert multiscale_loss(maps_of(exact, (50, 37)), flow, mask).item() < 1e-4


def test_a_batch_is_the_mean_of_its_samples():
    flow, other = truth(), truth() * 0.3
    mask = torch.ones(2, 1, 64, 128)
    mask[1, :, 20:] = 0
    together = multiscale_loss(scales(other), flow, mask)
    alone = [multiscale_loss([phi[i : i + 1] for phi in scales(other)], flow[i : i + 1], mask[i : i + 1]) for i in range(2)]
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


def test_local_contrast_is_that_of_its_slow_twin():
    image = torch.rand(1, 1, 11, 9)
    v = image[0, 0].double().numpy()
    expected = np.empty_like(v)

    def windows(values):
        return [[values[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3] for j in range(9)] for i in range(11)]

    difference = v - np.array([[w.mean() for w in row] for row in windows(v)])
    deviation = np.sqrt([[np.mean(w**2) for w in row] for row in windows(difference)])
    expected = difference / (deviation + 0.1 * v.std())
    np.testing.assert_allclose(local_contrast(image, 5)[0, 0], expected, atol=1e-5)
    assert torch.equal(local_contrast(torch.ones(1, 1, 7, 7), 5), torch.zeros(1, 1, 7, 7))


def test_a_network_with_a_window_hardly_sees_smooth_gains(tmp_path):
    plain, local = (seeded_network(0, 2, 0.05, window=window) for window in (None, 9))
    torch.manual_seed(0)
    fixed, moving = (torch.nn.functional.avg_pool2d(torch.rand(1, 1, 128, 128), 5, 1, 2) - 0.5 for _ in range(2))
    gain = torch.linspace(0.5, 2, 128).reshape(1, 1, 128, 1)
    changes = []
    for network in (plain, local):
        flows = [network.predict(fixed, seen).flow() for seen in (moving, gain * moving)]
        changes.append(((flows[1] - flows[0]).abs().mean() / flows[0].abs().mean()).item())
    assert changes[1] < 0.3 * changes[0]
    write_network(local, (1.0, 1.0), tmp_path / "w.safetensors")
    back = read_network(tmp_path / "w.safetensors").network
    assert back.window == 9
    assert torch.equal(back.eval().predict(fixed, moving).flow(), local.eval().predict(fixed, moving).flow())
    with pytest.raises(ValueError, match="window"):
        FlowNetS(2, 1, 0.05, 8)


@pytest.mark.parametrize("kind", [FlowNetS, FlowNetC])
def test_files_round_trip_and_foreign_ones_are_refused(tmp_path, kind):
    network = kind(2, 1, 0.03).eval()
    path = tmp_path / "w.safetensors"
    write_network(network, (1.5, 2.0), path)
    back = read_network(path)
    assert type(back.network) is kind
    assert back.spacing == (1.5, 2.0)
    images = torch.rand(2, 1, 1, 64, 64)
    assert torch.equal(back.network.predict(*images).flow(), network.predict(*images).flow())
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:500])
    (tmp_path / "text.safetensors").write_text("hello", encoding="utf-8")
    write_arrays(tmp_path / "model.npz", {}, {"kind": "model"})
    for name in ("cut.safetensors", "text.safetensors", "model.npz"):
        with pytest.raises(ValueError, match=name) as caught:
            read_network(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_network(tmp_path / "absent.safetensors")


def test_networks_that_come_with_augreg_are_read_by_name_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_network("sunnybrook-sax").network.ndim == 2
    write_network(FlowNetS(3, 1, 0.03), (1.0, 1.0, 1.0), tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / "sunnybrook-sax")
    assert read_network("sunnybrook-sax").network.ndim == 3
    with pytest.raises(FileNotFoundError, match="sunnybrook-sax") as caught:
        read_network("sunnybrook-sxa")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lie", [{"architecture": "FlowNetX"}, {"architecture": "FlowNetC"}, {"ndim": 3}, {"width": 0.06}])
def test_weights_that_are_not_what_they_say_are_refused(tmp_path, lie):
    network = FlowNetS(2, 1, 0.03)
    about = {**network.description, "spacing": [1.0, 1.0], **lie}
    write_tensors(network.state_dict(), about, tmp_path / "w.safetensors", "augreg network")
    with pytest.raises(ValueError, match=r"w\.safetensors") as caught:
        read_network(tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)
