"""`slicer.parameterNodeWrapper`, which the slicer-core package lacks: typed access to a parameter node, bound to a GUI.

Field types: node classes, bool, str, float, int and list[str]; widgets: QCheckBox and qMRMLNodeComboBox. Anything
else raises. Storage is as in Slicer: parameters as strings, nodes as node references of the parameter's name. So is the
cache: a value that was read stays the same, also a node that left the scene, until the parameter node is modified.
"""

from __future__ import annotations

import types
import typing
import weakref
from typing import Any

import slicer
import vtk

from doubles.qmrml import qMRMLNodeComboBox
from doubles.qt_classes import CLASSES

PROPERTY = "SlicerParameterName"
RESERVED = (
    "getValue",
    "setValue",
    "dataType",
    "default",
    "isCached",
    "connectGui",
    "connectParametersToGui",
    "disconnectGui",
    "parameterNode",
    "Modified",
)


def _isNodeType(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def _write(node: Any, name: str, kind: Any, value: Any) -> None:
    if _isNodeType(kind):
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{name}: {value.GetClassName()} is not a {kind.__name__}.")
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
    elif kind == list[str]:
        old = int(node.GetParameter(f"{name}_len") or 0)
        with slicer.util.NodeModify(node):
            for i in range(old):
                node.UnsetParameter(f"{name}_{i}")
            node.SetParameter(f"{name}_len", str(len(value)))
            for i, item in enumerate(value):
                node.SetParameter(f"{name}_{i}", item)
    elif kind in (bool, str, float, int):
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{name}: {value!r} is not of type {kind.__name__}.")
        node.SetParameter(name, str(value))
    else:
        raise TypeError(f"{name}: the double does not store {kind}.")


def _read(node: Any, name: str, kind: Any) -> Any:
    if _isNodeType(kind):
        return node.GetNodeReference(name)
    if kind == list[str]:
        return [node.GetParameter(f"{name}_{i}") for i in range(int(node.GetParameter(f"{name}_len") or 0))]
    text = node.GetParameter(name)
    return text == "True" if kind is bool else kind(text)


def _isIn(node: Any, name: str, kind: Any) -> bool:
    return bool(node.HasParameter(f"{name}_len" if kind == list[str] else name))


class _Cache:
    """The values as they were read when the parameter node was last modified."""

    def __init__(self, parameterNode: Any, fields: dict[str, Any], defaults: dict[str, Any]) -> None:
        self.node, self.fields, self.defaults = parameterNode, fields, defaults
        self.writing: str | None = None
        self.values = {name: self._read(name) for name in fields}
        this = weakref.ref(self)
        self.tag = parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: this().refresh())

    def __del__(self) -> None:
        self.node.RemoveObserver(self.tag)

    def refresh(self) -> None:
        for name in self.fields:
            if name != self.writing:
                self.values[name] = self._read(name)

    def write(self, name: str, value: Any) -> None:
        self.writing = name
        try:
            with slicer.util.NodeModify(self.node):
                _write(self.node, name, self.fields[name], value)
                self.values[name] = self._read(name)
        finally:
            self.writing = None

    def _read(self, name: str) -> Any:
        # Closing the scene empties the node; Slicer's wrapper then writes the default on the first read.
        if not _isIn(self.node, name, self.fields[name]):
            _write(self.node, name, self.fields[name], self.defaults[name])
        return _read(self.node, name, self.fields[name])


class _Connection:
    """One parameter bound to one widget."""

    def __init__(self, wrapper: Any, name: str, widget: Any) -> None:
        kind = wrapper.allParameters[name]
        self.wrapper, self.name, self.widget = wrapper, name, widget
        if kind is bool and type(widget) is CLASSES["QCheckBox"]:
            self.signal = "stateChanged(int)"
        elif _isNodeType(kind) and type(widget) is qMRMLNodeComboBox:
            self.signal = "currentNodeChanged(vtkMRMLNode*)"
        else:
            raise RuntimeError(f"'{name}' of type {kind} cannot be connected to a {type(widget).__name__}.")
        self.show()
        widget.connect(self.signal, self.onChanged)

    def show(self) -> None:
        value = getattr(self.wrapper, self.name)
        if self.signal.startswith("stateChanged"):
            self.widget.checked = value
        else:
            self.widget.setCurrentNode(value)

    def onChanged(self) -> None:
        if self.wrapper._updating:
            return
        boolean = self.signal.startswith("stateChanged")
        setattr(self.wrapper, self.name, bool(self.widget.checked) if boolean else self.widget.currentNode())

    def disconnect(self) -> None:
        self.widget.disconnect(self.signal, self.onChanged)


def _init(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
    self.parameterNode = parameterNode
    self._connections = {}
    self._updating = False
    self._cache = _Cache(parameterNode, self.allParameters, self.defaults)


def _connectGui(self: Any, gui: Any) -> None:
    """As in Slicer 5.8 to 5.12, no tag is returned, so that these connections could never be undone."""
    found = {widget.property(PROPERTY): widget for widget in vars(gui).values() if widget.property(PROPERTY)}
    _connectParametersToGui(self, found)


def _connectParametersToGui(self: Any, mapping: dict[str, Any]) -> int:
    for name in mapping:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
    tag = len(self._connections)
    self._connections[tag] = [_Connection(self, name, widget) for name, widget in mapping.items()]
    # As in Slicer, this observer stays for good: connect once per parameter node.
    self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: _updateGui(self))
    return tag


def _updateGui(self: Any) -> None:
    if self._updating:
        return
    self._updating = True
    try:
        for connections in list(self._connections.values()):
            for connection in connections:
                connection.show()
    finally:
        self._updating = False


def _disconnectGui(self: Any, tag: int) -> None:
    for connection in self._connections.pop(tag, []):
        connection.disconnect()


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator: fields with annotations become properties that live in the parameter node."""
    if cls is None:
        return parameterNodeWrapper
    fields = typing.get_type_hints(cls)
    defaults = {}
    for name, kind in fields.items():
        if name in RESERVED:
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        empty: Any = None if _isNodeType(kind) else [] if kind == list[str] else kind()
        defaults[name] = getattr(cls, name, empty)
        setattr(cls, name, _property(name))
    cls.allParameters = fields
    cls.defaults = defaults
    cls.__init__ = _init
    cls.connectGui = _connectGui
    cls.connectParametersToGui = _connectParametersToGui
    cls.disconnectGui = _disconnectGui
    cls.StartModify = lambda self: self.parameterNode.StartModify()
    cls.Modified = lambda self: self.parameterNode.Modified()
    cls.EndModify = lambda self, before: self.parameterNode.EndModify(before)
    cls.AddObserver = lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(event, callback)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    return cls


def _property(name: str) -> property:
    return property(lambda self: self._cache.values[name], lambda self, value: self._cache.write(name, value))


def makeModules() -> dict[str, types.ModuleType]:
    """Return the module to be put into sys.modules."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    module.parameterNodeWrapper = parameterNodeWrapper
    return {"slicer.parameterNodeWrapper": module}
