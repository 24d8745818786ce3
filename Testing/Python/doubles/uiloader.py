"""QUiLoader that builds the doubles, and refuses what Slicer could not build either."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from doubles import ctk, qmrml, qt_classes

MRML_SIGNAL = "mrmlSceneChanged(vtkMRMLScene*)"
MRML_SLOT = "setMRMLScene(vtkMRMLScene*)"
LAYOUTS = ("QVBoxLayout", "QHBoxLayout", "QFormLayout", "QGridLayout")


class UiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with the doubles' classes; unknown classes and wrong connections raise RuntimeError."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.widgets: dict[str, QtWidgets.QWidget] = {}

    def createWidget(self, className: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        """Build one widget; called by Qt for every <widget> element."""
        known = {**qt_classes.CLASSES, **ctk.WIDGETS, **qmrml.WIDGETS}
        if className not in known:
            self.problems.append(f"widget '{name}' is of class {className}, which the doubles do not have")
            return QtWidgets.QWidget(parent)
        widget = known[className](parent)
        QtCore.QObject.setObjectName(widget, name)
        if name in self.widgets:
            self.problems.append(f"the name '{name}' is used twice")
        self.widgets[name] = widget
        return widget

    def load(self, file: QtCore.QFile, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        """Load a .ui file as Slicer does, connections to the scene included."""
        raw = bytes(file.readAll().data())
        root = ElementTree.fromstring(raw)
        connections = root.find("connections")
        wanted = [] if connections is None else list(connections)
        if connections is not None:
            root.remove(connections)
        device = QtCore.QBuffer()
        device.setData(ElementTree.tostring(root))
        device.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(device, parent)
        for element in wanted:
            self._connect(*(element.findtext(tag) or "" for tag in ("sender", "signal", "receiver", "slot")))
        self._checkProperties()
        if self.problems or widget is None:
            raise RuntimeError(f"The .ui file cannot be loaded: {'; '.join(self.problems) or self.errorString()}.")
        widget._loaded = dict(self.widgets)
        return widget

    def _connect(self, sender: str, signal: str, receiver: str, slot: str) -> None:
        if sender not in self.widgets or receiver not in self.widgets:
            self.problems.append(f"connection from '{sender}' to '{receiver}': no such widget")
        elif (signal, slot) != (MRML_SIGNAL, MRML_SLOT):
            self.problems.append(f"connection {signal} -> {slot} is not known to the double")
        else:
            self.widgets[sender].connect(signal, self.widgets[receiver].setMRMLScene)

    def _checkProperties(self) -> None:
        """Qt keeps a property that a class lacks as a dynamic one: in Slicer the value would be lost silently."""
        for name, widget in self.widgets.items():
            for stray in QtCore.QObject.dynamicPropertyNames(widget):
                text = bytes(stray.data()).decode()
                if text != "SlicerParameterName" and not text.startswith("_q_"):
                    self.problems.append(f"{type(widget).__name__} '{name}' has no property '{text}'")
