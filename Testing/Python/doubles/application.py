"""`slicer.app` with what the panel asks of it, and the main window, module manager and layout of the tests."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, ClassVar

import slicer
from PySide6 import QtCore, QtWidgets

from doubles.qt_classes import CLASSES, PythonQtManners
from headless.app_double import AppDouble


class ModuleManagerDouble(PythonQtManners, QtCore.QObject):
    """qSlicerModuleManager: announces that a module is about to be unloaded (also when Slicer quits)."""

    aboutToBeUnloaded = QtCore.Signal(str)
    signatures: ClassVar[dict[str, str]] = {"moduleAboutToBeUnloaded(QString)": "aboutToBeUnloaded"}


class SliceWidgetDouble:
    """A slice view of the layout: its MRML nodes are real."""

    def __init__(self, name: str) -> None:
        self._name = name

    def mrmlSliceCompositeNode(self) -> Any:
        """The view's composite node."""
        return _namedNode("vtkMRMLSliceCompositeNode", self._name)

    def mrmlSliceNode(self) -> Any:
        """The view's slice node."""
        return _namedNode("vtkMRMLSliceNode", self._name)


def _namedNode(className: str, layoutName: str) -> Any:
    for i in range(slicer.mrmlScene.GetNumberOfNodesByClass(className)):
        node = slicer.mrmlScene.GetNthNodeByClass(i, className)
        if node.GetLayoutName() == layoutName:
            return node
    return slicer.mrmlScene.AddNode(_newNode(className, layoutName))


def _newNode(className: str, layoutName: str) -> Any:
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetSingletonTag(layoutName)
    node.SetName(layoutName)
    node.SetLayoutName(layoutName)
    return node


class LayoutManagerDouble:
    """qSlicerLayoutManager with three slice views on real nodes."""

    NAMES = ("Red", "Green", "Yellow")

    def createViews(self) -> None:
        """Make the MRML nodes of the views, as the application does at start and after a scene was closed."""
        for name in self.NAMES:
            self.sliceWidget(name).mrmlSliceCompositeNode()
            self.sliceWidget(name).mrmlSliceNode()

    def sliceViewNames(self) -> tuple[str, ...]:
        """Names of the visible slice views."""
        return self.NAMES

    def sliceWidget(self, name: str) -> SliceWidgetDouble:
        """The slice view of that name."""
        if name not in self.NAMES:
            raise RuntimeError(f"There is no slice view '{name}'.")
        return SliceWidgetDouble(name)


class WidgetAppDouble(AppDouble):
    """`slicer.app` with a layout, a module manager and a clipboard."""

    def __init__(self, temporaryPath: Path, applicationLogic: Any) -> None:
        super().__init__(temporaryPath)
        self._applicationLogic = applicationLogic
        self._layoutManager = LayoutManagerDouble()
        self._moduleManager = ModuleManagerDouble()
        self.startupSlots: list[Any] = []
        self.quitSlots: list[Any] = []
        self.applicationVersion, self.revision, self.platform = "5.12.3", "34567", "linux-amd64"

    def applicationLogic(self) -> Any:
        """The real vtkSlicerApplicationLogic."""
        return self._applicationLogic

    def layoutManager(self) -> LayoutManagerDouble:
        """The layout."""
        return self._layoutManager

    def moduleManager(self) -> ModuleManagerDouble:
        """The module manager."""
        return self._moduleManager

    def clipboard(self) -> Any:
        """Qt's clipboard."""
        return QtWidgets.QApplication.clipboard()

    def connect(self, signature: str, slot: Any) -> None:
        """Remember what is to run when Slicer has started, or is about to quit."""
        self._slots(signature).append(slot)

    def disconnect(self, signature: str, slot: Any) -> None:
        """Forget it; what was not connected raises."""
        self._slots(signature).remove(slot)

    def _slots(self, signature: str) -> list[Any]:
        known = {"startupCompleted()": self.startupSlots, "aboutToQuit()": self.quitSlots}
        if signature not in known:
            raise RuntimeError(f"slicer.app has no signal '{signature}' in the double.")
        return known[signature]

    def aboutToQuit(self) -> None:
        """The event loop has ended: Slicer quits."""
        for slot in list(self.quitSlots):
            slot()

    def processEvents(self) -> None:
        """Let Qt handle what is waiting."""
        QtWidgets.QApplication.processEvents()


class MainWindow(CLASSES["QWidget"]):  # type: ignore[misc]
    """The main window: parent of the shortcuts."""


def makeModuleParent(path: Path) -> types.SimpleNamespace:
    """What Slicer hands to a module's constructor; setting any other attribute than Slicer's is not noticed here."""
    return types.SimpleNamespace(path=str(path))
