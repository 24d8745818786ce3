"""What the code uses of Slicer is listed in slicer_api.json, and what is listed there is used."""

from __future__ import annotations

import ast
import inspect
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
import slicer
import vtk

MODULE = Path(__file__).resolve().parents[3] / "UDFASegmentation"
FILES = [MODULE / "UDFASegmentation.py", *sorted((MODULE / "UDFASegmentationLib").glob("*.py"))]
LISTED = {
    entry["name"] for entry in json.loads((Path(__file__).parent / "slicer_api.json").read_text(encoding="utf-8"))
}

SLICER_CLASSES = ("vtkMRML", "vtkSegment", "vtkSlicer", "vtkOriented")
"""Class names of Slicer start so; other VTK classes are VTK's own and need no list."""

WIDGET_CLASSES = ("qMRML", "ctk")
QT_MEMBERS = {
    "enabled",
    "toolTip",
    "text",
    "setVisible",
    "setStyleSheet",
    "connect",
    "disconnect",
    "setMenu",
    "checked",
}
"""Members that the widgets inherit from Qt."""


def chain(node: ast.AST) -> list[str]:
    """Names of an attribute access from left to right, such as ["slicer", "util", "loadUI"]; [] for other things."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [*([node.id] if isinstance(node, ast.Name) else [""]), *reversed(parts)]


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    """The module's files."""
    for path in FILES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def attributes(tree: ast.Module) -> Iterator[list[str]]:
    """The longest attribute accesses of a file."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            yield chain(node)


def normal(parts: list[str]) -> str:
    """The name under which a thing of `slicer` is listed: classes by themselves, the scene by its class."""
    if parts[:2] == ["slicer", "mrmlScene"]:
        return ".".join(["vtkMRMLScene", *parts[2:3]])
    if parts[:2] == ["slicer", "modules"]:
        return "slicer.modules"
    if parts[0] == "slicer" and parts[1][:1] in "vq" and not parts[1].islower():
        return ".".join(parts[1:3])
    return ".".join(parts[:3])


def used_of_slicer() -> dict[str, str]:
    """Names below `slicer` and `ctk`, and names imported from Slicer's packages; with a file that uses them."""
    found: dict[str, str] = {}
    for path, tree in parsed():
        for parts in attributes(tree):
            if parts[0] in ("slicer", "ctk") and len(parts) > 1 and parts[1:] not in (["util"], ["mrmlScene"], ["app"]):
                found[normal([part for part in parts if not part.startswith("__")])] = path.name
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "slicer":
                for alias in node.names:
                    found[normal([*str(node.module).split("."), alias.name])] = path.name
    return found


def widget_classes() -> dict[str, str]:
    """Class of each widget of the .ui file, by its name."""
    root = ElementTree.parse(MODULE / "Resources" / "UI" / "UDFASegmentation.ui").getroot()
    return {str(element.get("name")): str(element.get("class")) for element in root.iter("widget")}


def used_of_widgets() -> dict[str, str]:
    """Members and signals of CTK's and qMRML's widgets, with a file that uses them."""
    classes = widget_classes()
    found: dict[str, str] = {}
    for path, tree in parsed():
        aliases = {
            target.id: chain(node.value)[-1]
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for parts in attributes(tree):
            names = [aliases.get(parts[0], parts[0]), *parts[1:]]
            for widget, member in zip(names, names[1:]):
                cls = classes.get(widget, "")
                if cls.startswith(WIDGET_CLASSES) and member not in QT_MEMBERS:
                    found[f"{cls}.{member}"] = path.name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "connect":
                cls = classes.get(chain(node.func.value)[-1], "")
                signal = node.args[0]
                if cls.startswith(WIDGET_CLASSES) and isinstance(signal, ast.Constant):
                    found[f"{cls}.{str(signal.value).split('(')[0]}"] = path.name
    return found


def plain_vtk_members() -> set[str]:
    """Members of VTK's own classes that the code may call on objects that are not of Slicer."""
    classes = (
        vtk.vtkObject,
        vtk.vtkImageData,
        vtk.vtkMatrix4x4,
        vtk.vtkPolyData,
        vtk.vtkPoints,
        vtk.vtkActor2D,
        vtk.vtkPolyDataMapper2D,
        vtk.vtkGlyph2D,
        vtk.vtkGlyphSource2D,
        vtk.vtkProperty2D,
        vtk.vtkRenderWindowInteractor,
        vtk.vtkCommand,
        vtk.vtkGeneralTransform,
        vtk.vtkDataArray,
        vtk.vtkPointData,
        vtk.vtkCellArray,
        vtk.vtkUnsignedCharArray,
        vtk.vtkStringArray,
    )
    return {name for cls in classes for name in dir(cls)}


def members_of_slicer_classes() -> set[str]:
    """Members that classes of slicer-core define themselves."""
    return {
        member
        for name, cls in vars(slicer).items()
        if name.startswith(SLICER_CLASSES) and inspect.isclass(cls)
        for member in vars(cls)
    }


def used_methods() -> dict[str, str]:
    """VTK-style member names (upper case) that only Slicer's classes have, with a file that uses them."""
    known = members_of_slicer_classes() - plain_vtk_members()
    found: dict[str, str] = {}
    for path, tree in parsed():
        own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        for parts in attributes(tree):
            for member in parts[1:]:
                if member[:1].isupper() and member in known and member not in own:
                    found[member] = path.name
    return found


def test_what_the_code_uses_of_slicer_is_listed():
    assert {name: file for name, file in used_of_slicer().items() if name not in LISTED} == {}


def test_what_the_code_uses_of_ctk_and_qmrml_widgets_is_listed():
    used = used_of_widgets()
    assert len(used) > 15
    assert {name: file for name, file in used.items() if name not in LISTED} == {}


def test_what_the_code_calls_of_mrml_nodes_and_logics_is_listed():
    listed = {name.split(".")[-1] for name in LISTED}
    used = used_methods()
    assert len(used) > 80
    assert {name: file for name, file in used.items() if name not in listed} == {}


def test_what_is_listed_is_used():
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    text += (MODULE / "Resources" / "UI" / "UDFASegmentation.ui").read_text(encoding="utf-8")
    assert sorted(name for name in LISTED if name.split(".")[-1] not in text) == []


@pytest.mark.parametrize(
    "line",
    [
        "slicer.util.unlistedFunction()",
        "slicer.vtkMRMLScene().ReadFromMRB('x')",
        "from slicer.util import getNode",
        "ui.segmentEditorWidget.undo()",
        "ui.inputSelector.connect('nodeAdded(vtkMRMLNode*)', print)",
    ],
)
def test_a_use_that_is_not_listed_is_noticed(line, monkeypatch, tmp_path):
    extra = tmp_path / "Extra.py"
    extra.write_text(f"import slicer\n{line}\n")
    monkeypatch.setitem(globals(), "FILES", [*FILES, extra])
    listed = {name.split(".")[-1] for name in LISTED}
    missing = {name for name in {**used_of_slicer(), **used_of_widgets()} if name not in LISTED}
    missing |= {name for name in used_methods() if name not in listed}
    assert missing, line
