"""Registration of two volumes by augreg, in 3D Slicer: the module, its widget and its logic."""

import tempfile
from pathlib import Path

import ctk
import qt
import slicer
from AugregLib import command as augreg
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleLogic, ScriptedLoadableModuleWidget

_SETTING = "Augreg/command"


class Augreg(ScriptedLoadableModule):
    """The module's entry."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "Augreg"
        parent.categories = ["Registration"]
        parent.contributors = ["The augreg developers"]
        parent.helpText = "Registers two volumes with the augreg that is installed beside Slicer."
        parent.acknowledgementText = "Methods: see augreg's documentation."


class AugregWidget(ScriptedLoadableModuleWidget):
    """Choices, a button, messages."""

    def setup(self):
        """Make the panel; Slicer calls it once."""
        super().setup()
        self.logic = AugregLogic()
        box = ctk.ctkCollapsibleButton()
        box.text = "Registration"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)
        self.command = ctk.ctkPathLineEdit()
        self.command.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Executable
        self.command.currentPath = qt.QSettings().value(_SETTING) or "augreg"
        form.addRow("Command", self.command)
        self.fixed = self._selector(["vtkMRMLScalarVolumeNode"])
        self.moving = self._selector(["vtkMRMLScalarVolumeNode"])
        self.fixed_points = self._selector(["vtkMRMLMarkupsFiducialNode"], optional=True)
        self.moving_points = self._selector(["vtkMRMLMarkupsFiducialNode"], optional=True)
        for label, part in (
            ("Fixed volume", self.fixed),
            ("Moving volume", self.moving),
            ("Fixed points", self.fixed_points),
            ("Moving points", self.moving_points),
        ):
            form.addRow(label, part)
        self.kind = qt.QComboBox()
        self.kind.addItems(list(augreg.KINDS))
        self.kind.currentText = "bspline"
        form.addRow("Transform", self.kind)
        self.button = qt.QPushButton("Register")
        self.button.connect("clicked(bool)", self.register)
        self.told = qt.QLabel("")
        self.told.wordWrap = True
        form.addRow(self.button)
        form.addRow(self.told)
        self.layout.addStretch(1)

    def _selector(self, types, optional=False):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = types
        selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = optional
        selector.setMRMLScene(slicer.mrmlScene)
        return selector

    def register(self, _checked=False):
        """Run it; what cannot be used is told in one line."""
        qt.QSettings().setValue(_SETTING, self.command.currentPath)
        self.button.enabled = False
        try:
            points = (self.fixed_points.currentNode(), self.moving_points.currentNode())
            answer = self.logic.register(
                self.command.currentPath,
                self.fixed.currentNode(),
                self.moving.currentNode(),
                self.kind.currentText,
                None if None in points else points,
                self.show,
            )
            self.show(augreg.summary(answer))
        except (RuntimeError, ValueError) as error:
            self.show(str(error))
        finally:
            self.button.enabled = True

    def show(self, line):
        """A message of the process; the window stays alive."""
        self.told.text = line
        slicer.app.processEvents()


class AugregLogic(ScriptedLoadableModuleLogic):
    """Nodes to files, files to nodes."""

    def register(self, executable, fixed, moving, kind, points, told):
        """Register two volumes; adds a transform and the moved volume to the scene, and gives augreg's answer."""
        if fixed is None or moving is None or fixed is moving:
            raise ValueError("expected two volumes, got one or none; choose a fixed and a moving one")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = [self._save(node, folder / file) for node, file in ((fixed, "fixed.nrrd"), (moving, "moving.nrrd"))]
            landmarks = None
            if points is not None:
                landmarks = tuple(
                    self._save(node, folder / file)
                    for node, file in zip(points, ("fixed.mrk.json", "moving.mrk.json"), strict=True)
                )
            words = augreg.command(executable, folder, *files, kind=kind, points=landmarks)
            answer = augreg.run(words, told, slicer.util.startupEnvironment())
            transform = slicer.util.loadTransform(str(folder / augreg.TRANSFORM))
            moved = slicer.util.loadVolume(str(folder / augreg.WARPED))
        transform.SetName(f"{moving.GetName()} to {fixed.GetName()}")
        moved.SetName(f"{moving.GetName()} moved")
        slicer.util.setSliceViewerLayers(background=fixed, foreground=moved, foregroundOpacity=0.5)
        return answer

    def _save(self, node, file):
        if not slicer.util.saveNode(node, str(file)):
            raise RuntimeError(f"{node.GetName()}: expected a node that can be written to {file.name}, Slicer refused")
        return file
