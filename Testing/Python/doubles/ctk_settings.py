"""Doubles for pages of Application Settings: ctkComboBox, ctkSettingsPanel, the settings dialog."""

from __future__ import annotations

import types
from typing import Any

from PySide6 import QtCore, QtWidgets

from doubles.qt_classes import PythonQtManners, findSignal, hasQtProperty, setQtProperty


class ctkComboBox(PythonQtManners, QtWidgets.QComboBox):
    """A combo box whose choice is read and set by its user data (CTK: Libs/Widgets/ctkComboBox.h)."""

    def getData(self) -> str:
        """User data of the current item, as text."""
        return str(QtWidgets.QComboBox.currentData(self))

    def setData(self, data: str) -> None:
        """Choose the item with that user data; CTK only warns when there is none."""
        index = QtWidgets.QComboBox.findData(self, data)
        if index >= 0:
            QtWidgets.QComboBox.setCurrentIndex(self, index)

    currentUserDataAsString = QtCore.Property(str, getData, setData)


class ctkSettingsPanel(PythonQtManners, QtWidgets.QWidget):
    """Keeps widget properties and settings alike (CTK: Libs/Widgets/ctkSettingsPanel.h)."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._registered: dict[str, tuple[Any, str, Any]] = {}
        self._inDialog = False

    def __setattr__(self, name: str, value: Any) -> None:
        """Instances of Python subclasses may have attributes of their own, as in PythonQt."""
        if type(self) is ctkSettingsPanel or hasQtProperty(self, name):
            super().__setattr__(name, value)
        else:
            QtWidgets.QWidget.__setattr__(self, name, value)

    def registerProperty(self, settingKey: str, widget: Any, objectProperty: str, propertySignal: str) -> None:
        """Keep the widget's value as the default. Nothing is read or stored before the page is in the dialog."""
        if not propertySignal.startswith("2"):
            raise ValueError(f"'{propertySignal}' is not what SIGNAL() gives.")
        signal = findSignal(widget, propertySignal[1:])
        self._registered[settingKey] = (widget, objectProperty, getattr(widget, objectProperty))
        signal.connect(lambda *_: self._store(settingKey))

    def _store(self, settingKey: str) -> None:
        if self._inDialog:
            widget, objectProperty, _default = self._registered[settingKey]
            QtCore.QSettings().setValue(settingKey, getattr(widget, objectProperty))

    def joinDialog(self) -> None:
        """What the dialog does with a new page: stored values go into the widgets, the others' defaults are stored."""
        self._inDialog, settings = True, QtCore.QSettings()
        for settingKey, (widget, objectProperty, _default) in self._registered.items():
            if settings.contains(settingKey):
                value, current = settings.value(settingKey), getattr(widget, objectProperty)
                setQtProperty(widget, objectProperty, type(current)(value))
            self._store(settingKey)

    def restoreDefaultSettings(self) -> None:
        """Give all widgets the values that they were registered with."""
        for widget, objectProperty, default in self._registered.values():
            setQtProperty(widget, objectProperty, default)


class SettingsDialog:
    """slicer.app.settingsDialog()."""

    def __init__(self) -> None:
        self.panels: list[tuple[str, Any]] = []

    def addPanel(self, label: str, panel: Any) -> None:
        """Add a page."""
        if not isinstance(panel, ctkSettingsPanel):
            raise TypeError(f"{panel} is not a ctkSettingsPanel.")
        self.panels.append((label, panel))
        panel.joinDialog()


def SIGNAL(signature: str) -> str:
    """qt.SIGNAL: the signature with Qt's code for signals before it."""
    return f"2{signature}"


def addTo(qt: types.ModuleType, ctk: types.ModuleType, monkeypatch: Any) -> None:
    """Add to the modules `qt` and `ctk` what pages of settings need."""
    monkeypatch.setattr(qt, "SIGNAL", SIGNAL, raising=False)
    monkeypatch.setattr(ctk, "ctkComboBox", ctkComboBox, raising=False)
    monkeypatch.setattr(ctk, "ctkSettingsPanel", ctkSettingsPanel, raising=False)
