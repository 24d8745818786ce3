"""The module file, the .ui file and the code that uses it belong together."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import slicer
import slicer.util

from doubles.harness import MODULE_FILE, REPOSITORY

MODULE_FOLDER = MODULE_FILE.parent
UI_FILE = MODULE_FOLDER / "Resources" / "UI" / "UDFASegmentation.ui"
LIBRARY = MODULE_FOLDER / "UDFASegmentationLib"

IMPORT_SCRIPT = """
import sys, time
sys.path[:0] = {paths!r}
import slicer  # before the next line: its folder `slicer` is not a part of the package
sys.path.append({doubles!r})
from pathlib import Path
from doubles import harness
import tempfile
with harness.installed(Path(tempfile.mkdtemp())):
    import numpy, vtk, slicer.util, importlib.metadata
    start = time.process_time()
    import UDFASegmentation
    seconds = time.process_time() - start
    loaded = [name for name in ("torch", "timm", "safetensors", "SimpleITK", "scipy") if name in sys.modules]
print("SECONDS", seconds, "LOADED", ",".join(loaded))
"""


def prepared(script: str) -> str:
    """Fill in the paths."""
    paths = [str(REPOSITORY / part) for part in ("UDFASegmentation", "Testing")]
    return script.format(paths=paths, doubles=str(REPOSITORY / "Testing" / "Python"))


def used_names(folder: Path) -> set[str]:
    """Names of widgets that the code reads as `ui.<name>`, `self.ui.<name>` or `self._ui.<name>`."""
    names = set()
    for path in [MODULE_FILE, *folder.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            if (isinstance(owner, ast.Name) and owner.id == "ui") or (
                isinstance(owner, ast.Attribute) and owner.attr in ("ui", "_ui")
            ):
                names.add(node.attr)
    return names


def widget_names(ui_file: Path) -> set[str]:
    """Names of the widgets in a .ui file."""
    return {element.get("name", "") for element in ElementTree.parse(ui_file).getroot().iter("widget")}


def test_every_widget_that_the_code_uses_is_in_the_ui_file():
    used = used_names(LIBRARY)
    assert len(used) > 25
    assert used <= widget_names(UI_FILE)


def test_a_renamed_widget_is_noticed(tmp_path):
    copy = tmp_path / "renamed.ui"
    copy.write_text(UI_FILE.read_text().replace('name="segmentButton"', 'name="startButton"'))
    assert used_names(LIBRARY) - widget_names(copy) == {"segmentButton"}


def test_a_renamed_widget_keeps_the_panel_from_opening(harness, fake, tmp_path, monkeypatch):
    copy = tmp_path / "renamed.ui"
    copy.write_text(UI_FILE.read_text().replace('name="labelList"', 'name="list"'))
    load = slicer.util.loadUI
    monkeypatch.setattr(slicer.util, "loadUI", lambda path: load(str(copy)))
    with pytest.raises(AttributeError, match="labelList"):
        harness.open(models=fake, installer=None, warmUp=lambda: None)


def test_every_widget_keeps_a_tooltip_whatever_is_chosen(opened, volume, models):
    import qt

    def without() -> list[str]:
        return [
            name for name, widget in vars(opened.ui).items() if isinstance(widget, qt.QWidget) and not widget.toolTip
        ]

    opened.settle()
    top = {"UDFASegmentation"}
    assert set(without()) <= top
    actions = opened.ui.exportButton.menu().actions()
    assert opened.ui.exportButton.menu().toolTipsVisible
    assert all(len(action.toolTip) > 20 for action in actions)
    # A model that cannot be used, none at all, and a volume without voxels.
    (models / "tiny.safetensors").write_bytes(b"damaged")
    opened.panel.models.refresh()
    assert set(without()) <= top
    (models / "tiny.safetensors").unlink()
    opened.panel.models.refresh()
    opened.panel.parameterNode.inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    opened.settle()
    assert set(without()) <= top


def test_every_visible_widget_has_a_tooltip():
    root = ElementTree.parse(UI_FILE).getroot()
    top = root.find("widget")
    without = [
        element.get("name")
        for element in root.iter("widget")
        if element is not top
        and not any(p.get("name") == "toolTip" and (p.findtext("string") or "") for p in element.findall("property"))
    ]
    assert without == []


def test_bound_parameters_exist_in_the_parameter_node(opened):
    root = ElementTree.parse(UI_FILE).getroot()
    bound = {p.findtext("string") for p in root.iter("property") if p.get("name") == "SlicerParameterName"}
    expected = {"inputVolume", "allFrames", "outputSegmentation", "replaceSegments", "uncertainty", "removeIslands"}
    assert bound == expected
    assert bound <= set(opened.panel.parameterNode.allParameters)


def test_the_scene_reaches_every_node_selector():
    text = UI_FILE.read_text()
    selectors = re.findall(r'class="qMRMLNodeComboBox" name="(\w+)"', text)
    connections = ElementTree.parse(UI_FILE).getroot().find("connections")
    receivers = {c.findtext("receiver") for c in connections if c.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"}
    assert set(selectors) == receivers == {"inputSelector", "outputSelector"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('class="QPushButton" name="segmentButton"', 'class="ctkPushButton" name="segmentButton"', "ctkPushButton"),
        ("<receiver>inputSelector</receiver>", "<receiver>selector</receiver>", "no such widget"),
        ('<property name="noneDisplay">', '<property name="noneText">', "no property 'noneText'"),
        ('name="noLabelsButton"', 'name="allLabelsButton"', "used twice"),
    ],
)
@pytest.mark.usefixtures("_doubles")
def test_the_loader_refuses_a_ui_file_that_slicer_would_load_wrongly(tmp_path, old, new, message):
    copy = tmp_path / "broken.ui"
    text = UI_FILE.read_text()
    assert old in text
    copy.write_text(text.replace(old, new))
    with pytest.raises(RuntimeError, match=message):
        slicer.util.loadUI(str(copy))


def test_importing_the_module_file_is_fast_and_imports_neither_torch_nor_timm():
    """In a fresh process; in seconds of processor time, which other programs do not lengthen."""
    output = subprocess.run(
        [sys.executable, "-c", prepared(IMPORT_SCRIPT)], capture_output=True, text=True, check=True
    ).stdout
    seconds, loaded = re.search(r"SECONDS (\S+) LOADED (\S*)", output).groups()
    assert loaded == ""
    assert float(seconds) < 0.3


@pytest.mark.usefixtures("_doubles")
def test_the_module_presents_itself():
    from doubles.application import makeModuleParent
    from UDFASegmentation import UDFASegmentation

    parent = makeModuleParent(MODULE_FILE)
    UDFASegmentation(parent)
    assert parent.title == "UDFA Segmentation"
    assert parent.categories == ["Segmentation"]
    assert "Segment" in parent.helpText
    assert "arXiv 2510.00585" in parent.acknowledgementText
    assert not parent.icon.isNull()


def test_opening_the_panel_does_not_import_torch():
    """setup() may not wait for torch; checked in a fresh process, since other tests import it."""
    script = IMPORT_SCRIPT.replace(
        "    seconds =",
        "    h = harness.Harness(); h.open(); h.widget.enter()\n    seconds =",
    )
    result = subprocess.run([sys.executable, "-c", prepared(script)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loaded = re.search(r"LOADED (\S*)", result.stdout).group(1).split(",")
    assert not {"torch", "timm"} & set(loaded)
