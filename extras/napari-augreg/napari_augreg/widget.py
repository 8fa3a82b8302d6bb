"""The widget: two layers in, the moved layer and the deformed grid out, every state of the registration shown on the way."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.layers import Points as PointsLayer
from napari.qt.threading import thread_worker
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QLabel, QProgressBar, QPushButton, QWidget

import augreg as ar
from augreg.registration import Pair, State
from napari_augreg.layers import distances, image_layer, image_of, lines_of, points_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

_NONE = "none"


class RegistrationWidget(QWidget):
    """Registers two image layers of a viewer.

    Parameters
    ----------
    napari_viewer : the viewer, which napari hands in
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.transform: ar.Transform | None = None
        self.worker: Any = None
        self.fixed, self.moving, self.fixed_points, self.moving_points = (QComboBox() for _ in range(4))
        self.kind = QComboBox()
        self.kind.addItems(["rigid", "similarity", "affine", "bspline"])
        self.kind.setCurrentText("bspline")
        self.button, self.stop_button, self.save_button = QPushButton("Register"), QPushButton("Stop"), QPushButton("Save ...")
        self.bar, self.told = QProgressBar(), QLabel("")
        self.told.setWordWrap(True)
        layout = QFormLayout(self)
        for label, part in (
            ("fixed", self.fixed),
            ("moving", self.moving),
            ("points, fixed", self.fixed_points),
            ("points, moving", self.moving_points),
            ("transform", self.kind),
        ):
            layout.addRow(label, part)
        for part in (self.button, self.stop_button, self.bar, self.told, self.save_button):
            layout.addRow(part)
        self.button.clicked.connect(self.register)
        self.stop_button.clicked.connect(self.stop)
        self.save_button.clicked.connect(self.ask_and_save)
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self.list_layers)
        self.list_layers()
        self._running(False)

    def list_layers(self, _event: Any = None) -> None:
        """Fill the lists of layers; what was chosen stays chosen."""
        images = [layer.name for layer in self.viewer.layers if isinstance(layer, ImageLayer)]
        points = [_NONE, *(layer.name for layer in self.viewer.layers if isinstance(layer, PointsLayer))]
        for box, names, place in (
            (self.fixed, images, 0),
            (self.moving, images, 1),
            (self.fixed_points, points, 0),
            (self.moving_points, points, 0),
        ):
            chosen = box.currentText()
            box.clear()
            box.addItems(names)
            box.setCurrentIndex(names.index(chosen) if chosen in names else min(place, len(names) - 1))

    def register(self) -> None:
        """Start, on a thread of its own; what cannot be used is told in one line."""
        try:
            pair, method = self._pair(), ar.LPRegistration(transform=self.kind.currentText())
            states = method.steps(pair.fixed, pair.moving, **pair.known())
        except (TypeError, ValueError) as error:
            self.told.setText(str(error))
            return
        self._running(True)
        self.told.setText("...")
        self.worker = thread_worker(_each)(states)
        self.worker.yielded.connect(self.show_state)
        self.worker.returned.connect(lambda state: self.show_result(pair, state))
        self.worker.errored.connect(lambda error: self.told.setText(str(error)))
        self.worker.aborted.connect(lambda: self.told.setText("stopped"))
        self.worker.finished.connect(lambda: self._running(False))
        self.worker.start()

    def stop(self) -> None:
        """End after the current state, without a result."""
        if self.worker is not None:
            self.worker.quit()

    def show_state(self, state: State) -> None:
        """One line of where the registration is."""
        self.told.setText(f"{state.stage or 'level ' + str(state.level)}: {state.objective:.4g}, {state.seconds:.1f} s")

    def show_result(self, pair: Pair, state: State) -> None:
        """The layers that a registration gives."""
        self.transform, name = state.transform, self.moving.currentText()
        lines = [f"{state.seconds:.1f} s", *state.warnings]
        moved = ar.warp(pair.moving, state.transform, pair.fixed.grid)
        data, options, _ = image_layer(moved, f"{name} moved")
        self._replace("add_image", data, options)
        paths = lines_of(state.transform, pair.fixed.grid)
        width = 0.3 * min(pair.fixed.grid.spacing)
        shapes = {"name": f"{name} grid", "shape_type": "path", "edge_width": width, "edge_color": "yellow", "ndim": moved.ndim}
        self._replace("add_shapes", paths, shapes)
        first, second = (self._points(box) for box in (self.fixed_points, self.moving_points))
        if first is not None:
            options = {"name": f"{self.fixed_points.currentText()} moved", "ndim": moved.ndim}
            self._replace("add_points", state.transform(first)[:, ::-1], options)
        if first is not None and second is not None:
            before, after = distances(state.transform, first, second)
            lines.append(f"points: {before:.3g} before, {after:.3g} after")
        self.told.setText("\n".join(lines))
        self._running(False)

    def ask_and_save(self) -> None:
        """Ask for a file and write the transform."""
        path, _ = QFileDialog.getSaveFileName(self, "Transform", "phi.h5", "Transforms (*.h5 *.tfm)")
        if path:
            self.save(path)

    def save(self, path: str) -> None:
        """Write the transform; x first, as ITK has it."""
        try:
            if self.transform is None:
                raise ValueError("expected a transform to save, got none; register first")
            ar.write_transform(self.transform, path)
            self.told.setText(f"{path}: written")
        except (OSError, ValueError) as error:
            self.told.setText(str(error))

    def _pair(self) -> Pair:
        names = self.fixed.currentText(), self.moving.currentText()
        if names[0] == names[1]:
            raise ValueError(
                f"expected two image layers, got {names[0]!r} twice" if names[0] else "expected two image layers, got none"
            )
        fixed, moving = (image_of(self.viewer.layers[name]) for name in names)
        first, second = (self._points(box) for box in (self.fixed_points, self.moving_points))
        known = {} if first is None or second is None else {"fixed_points": first, "moving_points": second}
        return Pair.of(fixed, moving, **known)

    def _points(self, box: QComboBox) -> Any:
        return None if box.currentText() in ("", _NONE) else points_of(self.viewer.layers[box.currentText()])

    def _replace(self, add: str, data: Any, options: dict[str, Any]) -> None:
        if options["name"] in self.viewer.layers:
            self.viewer.layers.remove(options["name"])
        getattr(self.viewer, add)(data, **options)

    def _running(self, running: bool) -> None:
        self.button.setEnabled(not running)
        self.stop_button.setEnabled(running)
        self.save_button.setEnabled(not running and self.transform is not None)
        # without an end the bar moves to and fro
        self.bar.setRange(0, 0 if running else 1)


def _each(states: Iterator[State]) -> Generator[State, None, State]:
    """The states one by one, the last one again as the result; there is at least one."""
    for state in states:
        yield state
    return state
