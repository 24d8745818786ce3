"""Module `qt` as PythonQt offers it, with the classes of `qt_classes`."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, ClassVar

from PySide6 import QtCore

from doubles.qt_classes import CLASSES, PLAIN
from doubles.uiloader import UiLoader


class FileDialogs:
    """Stands for QFileDialog's static functions: answers what the test has laid down, and raises otherwise."""

    answers: ClassVar[list[str]] = []

    @classmethod
    def _answer(cls) -> str:
        if not cls.answers:
            raise RuntimeError("A file dialog was opened, but the test has laid down no answer.")
        return cls.answers.pop(0)

    @classmethod
    def getOpenFileName(cls, parent: Any, caption: str, folder: str, nameFilter: str) -> str:
        """Chosen file, or '' when the user cancels. PythonQt returns a string, not a tuple."""
        return cls._answer()

    @classmethod
    def getExistingDirectory(cls, parent: Any, caption: str, folder: str) -> str:
        """Chosen folder, or '' when the user cancels."""
        return cls._answer()

    @classmethod
    def getSaveFileName(cls, parent: Any, caption: str, folder: str, nameFilter: str) -> str:
        """Chosen file, or '' when the user cancels."""
        return cls._answer()


def makeQtModule() -> types.ModuleType:
    """Return a fresh module `qt` with the classes that the doubles cover, and nothing else."""
    module = types.ModuleType("qt", "Double of PythonQt's module qt.")
    for name, cls in CLASSES.items():
        setattr(module, name, cls)
    for source, names in PLAIN.items():
        for name in names:
            setattr(module, name, getattr(source, name))
    module.QFileDialog = FileDialogs
    module.QUiLoader = UiLoader
    return module


def useTemporarySettings(folder: Path) -> None:
    """Let QSettings() read and write below a folder, so that tests do not see each other's settings."""
    QtCore.QCoreApplication.setOrganizationName("UDFATests")
    QtCore.QCoreApplication.setApplicationName("UDFATests")
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
        QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, str(folder))
