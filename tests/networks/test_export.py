"""Files for other programs say what the network says."""

import numpy as np
import pytest
import torch

from augreg.networks.export import export_network
from augreg.recipes.shapes import network_as

# TorchScript goes, in its own time
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def moving_network(kind, trunk, shape, descriptor="none"):
    """A network that predicts far more than nothing."""
    steered = descriptor == "steered"
    seen = "none" if steered else descriptor
    network = network_as(kind, trunk, (1,), len(shape), 0.125, shape=shape, descriptor=seen, steered=steered).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.mark.parametrize(
    ("kind", "trunk", "shape", "descriptor"),
    [
        ("cascade", "UNet", (20, 26), "none"),
        ("velocity", "RegNet", (12, 10, 8), "none"),
        ("displacement", "UNet", (20, 26), "edges"),
        ("displacement", "UNet", (20, 26), "mind"),
        ("displacement", "UNet", (20, 26), "steered"),
    ],
)
def test_a_script_says_the_same_of_images_that_it_was_not_made_with(kind, trunk, shape, descriptor, tmp_path):
    network = moving_network(kind, trunk, shape, descriptor)
    assert export_network(network, shape, tmp_path / "net.pt") <= 1e-4
    images = [100 + 30 * torch.rand(1, 1, *shape) for _ in range(2)]
    with torch.no_grad():
        found = torch.jit.load(tmp_path / "net.pt")(*images)
        flow = network.predict(*map(network.prepare, images)).flow()
    assert flow.abs().max() > 0.1
    torch.testing.assert_close(found, flow, atol=1e-4, rtol=0)


def test_a_file_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    network = moving_network("displacement", "RegNet", (12, 12))
    monkeypatch.setattr("augreg.networks.export.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="expected flows within -1 voxels of the network's"):
        export_network(network, (12, 12), tmp_path / "net.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(16, 18), (8, 10, 6)])
def test_onnx_says_the_same(shape, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = moving_network("velocity", "RegNet", shape)
    assert export_network(network, shape, tmp_path / "net.onnx") <= 1e-4
    images = [torch.rand(1, 1, *shape) for _ in range(2)]
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    given = {"fixed": images[0].numpy(), "moving": images[1].numpy()}
    with torch.no_grad():
        flow = network.predict(*map(network.prepare, images)).flow()
    np.testing.assert_allclose(session.run(None, given)[0], flow, atol=1e-4)


def test_volumes_of_affine_maps_are_for_scripts(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = moving_network("affine", "UNet", (16, 18, 20))
    with pytest.raises(ValueError, match="expected parts that ONNX has"):
        export_network(network, (16, 18, 20), tmp_path / "net.onnx")
