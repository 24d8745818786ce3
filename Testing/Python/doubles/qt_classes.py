"""Qt's classes as PythonQt offers them: properties are attributes, signals are connected by their C++ signature.

Only the classes named in `WRAPPED` and `PLAIN` exist; each is PySide6's class with PythonQt's manners. The doubles of
other libraries build on these.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

_QOBJECT_INTERNALS = frozenset({"metaObject", "property", "setProperty", "name"})

_VIRTUAL_PROPERTIES = frozenset({"sizeHint", "minimumSizeHint"})
"""Properties that are virtual methods too: PySide6 looks for them here whenever Qt lays out, and must find methods."""


def hasQtProperty(obj: QtCore.QObject, name: str) -> bool:
    """Whether a Qt property of that name exists, static or dynamic."""
    meta = QtCore.QObject.metaObject(obj)
    return meta.indexOfProperty(name) >= 0 or name.encode() in [
        bytes(n.data()) for n in QtCore.QObject.dynamicPropertyNames(obj)
    ]


class PythonQtManners:
    """Mixin that goes before a PySide6 class: attributes are properties, unknown attributes raise, both ways."""

    signatures: ClassVar[dict[str, str]] = {}
    """C++ signatures of signals that the double declares in Python, with the name of the Python signal."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("connect", "disconnect"):
            refuseDestroyed(self, name)
            # PySide6 looks these two up past the order of base classes.
            return types.MethodType(PythonQtManners.__dict__[name], self)
        if name.startswith("_") or name in _QOBJECT_INTERNALS or name in _VIRTUAL_PROPERTIES:
            return super().__getattribute__(name)
        refuseDestroyed(self, name)
        for cls in type(self).__mro__:
            if name in cls.__dict__ and not cls.__module__.startswith("PySide6"):
                return super().__getattribute__(name)
        if hasQtProperty(self, name):
            return QtCore.QObject.property(self, name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        refuseDestroyed(self, name)
        if name == "name":
            QtCore.QObject.setObjectName(self, value)
        elif isinstance(getattr(type(self), name, None), property):
            super().__setattr__(name, value)
        elif hasQtProperty(self, name):
            setQtProperty(self, name, value)
        elif isinstance(value, QtCore.QObject) and QtCore.QObject.objectName(value) == name:
            # QUiLoader makes the named children attributes of the top widget, which PythonQt shows anyway.
            return
        else:
            raise AttributeError(f"{type(self).__name__} has no property '{name}' (PythonQt refuses to create one).")

    @property
    def name(self) -> str:
        """The object's name, as PythonQt calls objectName."""
        return QtCore.QObject.objectName(self)

    def className(self) -> str:
        """Name of the C++ class."""
        return type(self).__name__

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Connect a signal, given as 'clicked(bool)', to a Python callable; extra arguments are dropped."""
        signal = findSignal(self, signature)
        trimmed = _trimmed(slot)
        self.__dict__.setdefault("_connections", []).append((signature, slot, trimmed))
        signal.connect(trimmed)
        return True

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Undo `connect` with the same signature and callable; raises if there was no such connection."""
        connections = self.__dict__.setdefault("_connections", [])
        for entry in connections:
            if entry[0] == signature and entry[1] == slot:
                findSignal(self, signature).disconnect(entry[2])
                connections.remove(entry)
                return True
        raise RuntimeError(f"{type(self).__name__}: '{signature}' was not connected to {slot}.")

    def connectionCount(self) -> int:
        """Number of connections made from Python: for tests only."""
        return len(self.__dict__.get("_connections", []))


def refuseDestroyed(obj: QtCore.QObject, name: str) -> None:
    """Raise as PythonQt does when Python still refers to what Qt has destroyed."""
    if not shiboken6.isValid(obj):
        raise ValueError(f"Trying to read attribute '{name}' of a destroyed {type(obj).__name__} object")


def setQtProperty(obj: QtCore.QObject, name: str, value: Any) -> None:
    """Set a Qt property, through its setter where PySide6 needs the exact type; raise if the value is refused."""
    setter = getattr(type(obj), f"set{name[0].upper()}{name[1:]}", None)
    if setter is not None:
        setter(obj, value)
    elif not QtCore.QObject.setProperty(obj, name, value):
        raise AttributeError(f"{type(obj).__name__}.{name} does not take {value!r}.")


def findSignal(obj: PythonQtManners, signature: str) -> Any:
    """Return the bound PySide6 signal of a C++ signature, or raise if the class has no such signal."""
    for cls in type(obj).__mro__:
        python_name = cls.__dict__.get("signatures", {}).get(signature)
        if python_name:
            return QtCore.QObject.__getattribute__(obj, python_name)
    normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    meta = QtCore.QObject.metaObject(obj)
    if meta.indexOfSignal(normalized) < 0:
        raise RuntimeError(f"{type(obj).__name__} has no signal '{signature}'.")
    name, arguments = re.fullmatch(r"(\w+)\((.*)\)", normalized).groups()
    bound = QtCore.QObject.__getattribute__(obj, name)
    overloads = [
        meta.method(i)
        for i in range(meta.methodCount())
        if meta.method(i).methodType() == QtCore.QMetaMethod.MethodType.Signal
        and bytes(meta.method(i).name().data()).decode() == name
    ]
    return bound[_python_types(arguments)] if len(overloads) > 1 and arguments in ("int", "QString", "bool") else bound


def _python_types(arguments: str) -> Any:
    return {"int": int, "QString": str, "bool": bool}[arguments]


def _trimmed(slot: Callable[..., Any]) -> Callable[..., Any]:
    """PythonQt gives functions and methods as many arguments as they take, and any other callable all of them."""
    function = slot.__func__ if inspect.ismethod(slot) else slot
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return lambda *arguments: slot(*arguments)
    most = function.__code__.co_argcount - (1 if inspect.ismethod(slot) else 0)
    return lambda *arguments: slot(*arguments[:most])


WRAPPED = {
    QtCore: ("QTimer", "QSettings"),
    QtGui: ("QShortcut", "QAction"),
    QtWidgets: (
        "QWidget",
        "QFrame",
        "QLabel",
        "QPushButton",
        "QToolButton",
        "QComboBox",
        "QCheckBox",
        "QLineEdit",
        "QListWidget",
        "QTableWidget",
        "QProgressBar",
        "QPlainTextEdit",
        "QDialog",
        "QMenu",
        "QStackedWidget",
        "QSlider",
        "QSpinBox",
    ),
}
PLAIN = {
    QtCore: ("Qt", "QFile", "QSize", "QUrl", "QEvent"),
    QtGui: ("QIcon", "QKeySequence", "QColor", "QBrush", "QCursor", "QDesktopServices", "QPixmap"),
    QtWidgets: (
        "QListWidgetItem",
        "QVBoxLayout",
        "QHBoxLayout",
        "QFormLayout",
        "QGridLayout",
        "QHeaderView",
        "QAbstractItemView",
        "QSizePolicy",
        "QMessageBox",
        "QStyle",
        "QApplication",
    ),
}


def wrap(cls: type) -> type:
    """Return a PySide6 QObject class with PythonQt's manners, under the same name."""
    return type(cls.__name__, (PythonQtManners, cls), {"__module__": __name__})


class QListWidget(PythonQtManners, QtWidgets.QListWidget):
    """A list that takes texts only, as the versions of PythonQt differ in who owns an item."""

    def addItem(self, label: str) -> None:
        """Add a line. PythonQt 3.2 keeps items that Python made as Python's own, which then vanish from the list."""
        if not isinstance(label, str):
            raise TypeError("Add the text, then take the item from the list: an item made by Python may vanish.")
        QtWidgets.QListWidget.addItem(self, label)


CLASSES: dict[str, type] = {
    **{name: wrap(getattr(source, name)) for source, names in WRAPPED.items() for name in names},
    "QListWidget": QListWidget,
}
"""The wrapped classes by name, shared by the module, the loader and the other doubles."""
