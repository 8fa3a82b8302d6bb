"""The napari plugin: its layers are augreg's images (with stand-ins for layers), its widget without a screen where napari is."""

import importlib.metadata
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from support import spaces
from support.phantoms import bent, blobs

from augreg import Affine, Grid, Image, read_transform, warp

PLUGIN = Path(__file__).resolve().parents[2] / "extras" / "napari-augreg"
sys.path.insert(0, str(PLUGIN))
from napari_augreg import layers, samples  # noqa: E402

sys.path.remove(str(PLUGIN))


@dataclass
class Layer:
    """What napari's layers offer: data in the array's order, an affine map from data to world in that order."""

    data: np.ndarray
    affine: np.ndarray
    name: str = "one"
    rgb: bool = False
    multiscale: bool = False
    ndim: int = field(init=False)

    def __post_init__(self):
        self.ndim = len(self.affine) - 1

    def data_to_world(self, place):
        return tuple(self.affine[:-1, :-1] @ np.asarray(place) + self.affine[:-1, -1])


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_a_layer_of_an_image_is_the_image(ndim, name):
    grid = spaces.grid(ndim, name)
    for channels in ((), (3,)):
        image = Image(np.random.default_rng(0).random((*grid.shape, *channels)), grid)
        data, options, kind = layers.image_layer(image, "a")
        assert kind == "image"
        assert data.shape == (*grid.shape[::-1], *channels)
        assert options["rgb"] == bool(channels)
        back = layers.image_of(Layer(data, options["affine"], rgb=options["rgb"]))
        assert back.grid.matches(grid, 1e-9)
        assert np.array_equal(back.values, image.values)
        # the world is the same, its axes turned round
        index = np.arange(ndim) + 2
        there = Layer(data, options["affine"]).data_to_world(index[::-1])
        np.testing.assert_allclose(there[::-1], grid.points_at(index))


def test_a_layer_that_cannot_be_used_is_one_line():
    eye = np.eye(3)
    sheared = np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    for layer, told in (
        (Layer(np.zeros((4, 5)), eye, multiscale=True), "layer 'one': expected one resolution, got a pyramid"),
        (Layer(np.zeros((2, 3, 4, 5)), np.eye(5)), "layer 'one': expected two or three axes, got 4"),
        (Layer(np.zeros((4, 5)), sheared), "layer 'one': direction: expected an orthonormal matrix"),
        (Layer(np.zeros((4, 5), complex), eye), "layer 'one': expected real numbers"),
    ):
        with pytest.raises(ValueError, match=told):
            layers.image_of(layer)


def test_lines_of_a_deformation_are_lines_of_the_fixed_grid_mapped():
    grid = spaces.grid(3, "oblique")
    phi = Affine(1.1 * np.eye(3), [3.0, 4.0, 5.0]) @ bent(grid, 8.0, seed=1)
    paths = layers.lines_of(phi, grid)
    assert len(paths) == 3 * 8 * 8
    back = [grid.indices_at(phi.solve(path[:, ::-1])) for path in paths[::37]]
    for index in back:
        moving = np.ptp(index, axis=0) > 1e-3
        assert moving.sum() == 1  # along one axis
        assert np.isclose(np.ptp(index[:, moving]), grid.last[moving][0], atol=1e-3)  # from end to end


def test_points_have_x_first_and_their_distances_are_told():
    layer = Layer(np.array([[1.0, 2.0], [3.0, 5.0]]), np.diag([2.0, 3.0, 1.0]))
    points = layers.points_of(layer)
    np.testing.assert_array_equal(points, [[6, 2], [15, 6]])
    shift = Affine(np.eye(2), [1.0, 0.0])
    assert layers.distances(shift, points, points + np.array([1.0, 0.0])) == (1.0, 0.0)
    with pytest.raises(ValueError, match="expected as many in both layers"):
        layers.distances(shift, points, points[:1])


def test_the_sample_layers_are_two_hearts():
    (first, options, kind), (second, *_) = samples.hearts()
    assert kind == "image"
    assert options["name"] == "fixed heart"
    assert first.ndim == 2
    assert not np.array_equal(first, second)


# ---- with napari, without a screen ----


@pytest.fixture
def viewer(monkeypatch):
    pytest.importorskip("napari", reason="napari is not installed")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.syspath_prepend(str(PLUGIN))
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication

    app = QApplication.instance() or QApplication([])
    model = ViewerModel()
    grid = Grid((64, 52), (1.0, 1.4), (10.0, -3.0))
    moving = blobs(grid, seed=5)
    fixed = warp(moving, TRUTH, grid)
    for image, name in ((fixed, "fixed"), (moving, "moving")):
        data, options, _ = layers.image_layer(image, name)
        model.add_image(data, **options)
    yield model
    app.processEvents()


TRUTH = Affine(np.eye(2), [5.0, -4.0])


def wait(widget, seconds=120):
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not widget.button.isEnabled() and time.monotonic() < end:
        QApplication.instance().processEvents()
        time.sleep(0.01)
    QApplication.instance().processEvents()
    assert widget.button.isEnabled()


@pytest.mark.filterwarnings("ignore")
def test_the_widget_registers_two_layers_and_shows_what_it_did(viewer, tmp_path):
    from napari_augreg.widget import RegistrationWidget

    widget, told = RegistrationWidget(viewer), []
    assert (widget.fixed.currentText(), widget.moving.currentText()) == ("fixed", "moving")
    points = np.array([[20.0, 15.0], [40.0, 30.0], [30.0, 50.0]])
    viewer.add_points(points[:, ::-1], name="p")
    viewer.add_points(TRUTH(points)[:, ::-1], name="q")
    widget.fixed_points.setCurrentText("p")
    widget.kind.setCurrentText("rigid")
    show = widget.show_state
    widget.show_state = lambda state: (told.append(state.stage), show(state))
    widget.register()
    assert not widget.button.isEnabled()
    wait(widget)
    assert told
    assert {"moving moved", "moving grid", "p moved"} <= {layer.name for layer in viewer.layers}
    np.testing.assert_allclose(viewer.layers["p moved"].data[:, ::-1], TRUTH(points), atol=0.5)
    moved, fixed = viewer.layers["moving moved"], viewer.layers["fixed"]
    assert np.corrcoef(moved.data.ravel(), fixed.data.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(moved.data_to_world([3, 4]), fixed.data_to_world([3, 4]))
    assert "points" not in widget.told.text()
    widget.save(str(tmp_path / "phi.tfm"))
    np.testing.assert_allclose(read_transform(tmp_path / "phi.tfm")(points), TRUTH(points), atol=0.5)
    # once more, with points of both: they are told, and the layers replaced
    count = len(viewer.layers)
    widget.moving_points.setCurrentText("q")
    widget.register()
    wait(widget)
    assert re.search(r"points: 6.4 before, \d", widget.told.text())
    assert len(viewer.layers) == count


@pytest.mark.filterwarnings("ignore")
def test_the_widget_tells_in_one_line_what_it_cannot_use(viewer):
    from napari_augreg.widget import RegistrationWidget

    widget = RegistrationWidget(viewer)
    widget.moving.setCurrentText("fixed")
    widget.register()
    assert widget.told.text() == "expected two image layers, got 'fixed' twice"
    widget.save("phi.tfm")
    assert "register first" in widget.told.text()
    viewer.add_image(np.zeros((3, 4, 5)), name="volume")
    widget.moving.setCurrentText("volume")
    widget.register()
    assert "\n" not in widget.told.text()
    assert widget.told.text()
    assert widget.button.isEnabled()
    widget.moving.setCurrentText("moving")
    widget.register()
    widget.stop()
    wait(widget)
    assert widget.told.text() == "stopped" or widget.transform is not None


@pytest.mark.filterwarnings("ignore")
def test_the_manifest_is_valid():
    npe2 = pytest.importorskip("npe2", reason="npe2 is not installed")
    manifest = npe2.PluginManifest.from_file(PLUGIN / "napari_augreg" / "napari.yaml")
    names = {command.python_name for command in manifest.contributions.commands}
    assert names == {"napari_augreg.widget:RegistrationWidget", "napari_augreg.samples:hearts"}
    assert importlib.metadata.version("npe2")
