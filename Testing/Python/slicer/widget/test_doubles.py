"""The doubles are strict: what PythonQt, CTK or qMRML would refuse or drop silently raises."""

from __future__ import annotations

import ast
import functools
import graphlib
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util

import doubles

pytestmark = pytest.mark.usefixtures("_doubles")


@pytest.fixture
def qt():
    import qt

    return qt


def test_properties_are_attributes(qt):
    button = qt.QPushButton("Go")
    button.enabled = False
    button.toolTip = "tip"
    assert (button.text, button.enabled, button.toolTip) == ("Go", False, "tip")
    button.name = "go"
    assert button.name == "go"
    with pytest.raises(TypeError, match="not callable"):
        button.text()


def test_an_unknown_attribute_cannot_be_set_or_read(qt):
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="enabledd"):
        button.enabledd = True
    with pytest.raises(AttributeError):
        _ = button.captionText


def test_a_signal_that_the_class_lacks_cannot_be_connected(qt):
    with pytest.raises(RuntimeError, match="no signal 'pushed\\(\\)'"):
        qt.QPushButton().connect("pushed()", print)
    with pytest.raises(RuntimeError, match="no signal 'clicked\\(int\\)'"):
        qt.QPushButton().connect("clicked(int)", print)


def test_extra_signal_arguments_are_dropped_and_disconnecting_works(qt):
    calls = []

    def slot():
        calls.append(1)

    button = qt.QPushButton()
    button.connect("clicked(bool)", slot)
    button.click()
    button.disconnect("clicked(bool)", slot)
    button.click()
    assert calls == [1]
    with pytest.raises(RuntimeError, match="not connected"):
        button.disconnect("clicked(bool)", slot)


def test_only_functions_and_methods_are_spared_extra_arguments(qt):
    """A partial gets them all in PythonQt, and fails if it does not take them."""
    calls = []
    button = qt.QPushButton()
    button.connect("clicked(bool)", functools.partial(lambda *arguments: calls.append(arguments), "first"))
    button.click()
    assert calls == [("first", False)]


def test_connecting_all_bound_widgets_at_once_gives_no_tag_to_disconnect_them(scene, qt):
    """So it is in Slicer 5.8 to 5.12, which is why the panel connects them by name."""
    from types import SimpleNamespace

    from UDFASegmentationLib.ParameterNode import UDFASegmentationParameterNode

    wrapper = UDFASegmentationParameterNode(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    box = qt.QCheckBox()
    box.setProperty("SlicerParameterName", "uncertainty")
    assert wrapper.connectGui(SimpleNamespace(box=box)) is None
    tag = wrapper.connectParametersToGui({"uncertainty": box})
    before = box.connectionCount()
    wrapper.disconnectGui(tag)
    assert box.connectionCount() == before - 1


def test_the_wrapper_keeps_what_it_has_read_until_the_node_says_that_it_is_modified(scene):
    from UDFASegmentationLib.ParameterNode import UDFASegmentationParameterNode

    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    wrapper = UDFASegmentationParameterNode(node)
    before = node.StartModify()
    node.SetParameter("modelName", "abdomen-ct-mini")
    assert wrapper.modelName == ""
    node.EndModify(before)
    assert wrapper.modelName == "abdomen-ct-mini"


def test_classes_that_no_test_needs_do_not_exist(qt):
    import ctk

    # Items that Python makes would vanish from a table in some versions of PythonQt, or be freed twice.
    for module, name in (
        (qt, "QCalendarWidget"),
        (qt, "QTableWidgetItem"),
        (ctk, "ctkRangeWidget"),
        (slicer, "qMRMLVolumeWidget"),
    ):
        with pytest.raises(AttributeError):
            getattr(module, name)


def test_a_file_dialog_or_question_without_an_answer_raises(qt, harness):
    with pytest.raises(RuntimeError, match="no answer"):
        qt.QFileDialog.getSaveFileName(None, "", "", "")
    with pytest.raises(RuntimeError, match="no answer"):
        slicer.util.confirmOkCancelDisplay("Really?")
    with pytest.raises(TypeError, match="dontShowAgain"):
        slicer.util.errorDisplay("text", dontShowAgain=True)


def test_the_node_selector_follows_the_scene(scene):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    seen = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: seen.append(node))
    selector.setMRMLScene(scene)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert (selector.nodeCount(), selector.currentNode()) == (1, None)
    selector.setCurrentNode(node)
    scene.RemoveNode(node)
    assert seen == [node, None]
    selector.setMRMLScene(None)


@pytest.mark.parametrize(("leaving", "chosen"), [(0, 1), (1, 2), (2, 1)])
def test_the_node_selector_goes_on_to_a_neighbour_when_the_chosen_node_leaves(scene, leaving, chosen):
    """As QComboBox does, although there is a 'None'."""
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    selector.setMRMLScene(scene)
    nodes = [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode") for _ in range(3)]
    selector.setCurrentNode(nodes[leaving])
    scene.RemoveNode(nodes[leaving])
    assert selector.currentNode() is nodes[chosen]
    selector.setMRMLScene(None)


def test_without_a_none_entry_the_first_node_is_chosen(scene):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(scene)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert selector.currentNode() is node
    selector.setMRMLScene(None)


def test_the_segment_editor_wants_its_node_first(scene):
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setSegmentationNode(None)
    with pytest.raises(RuntimeError, match="segment editor node first"):
        editor.setSegmentationNode(scene.AddNewNodeByClass("vtkMRMLSegmentationNode"))


def test_the_parameter_node_wrapper_stores_as_slicer_does(scene):
    from UDFASegmentationLib.ParameterNode import UDFASegmentationParameterNode

    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    wrapper = UDFASegmentationParameterNode(node)
    volume = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2)))
    wrapper.inputVolume, wrapper.omittedLabels, wrapper.replaceSegments = volume, ["a", "b"], False
    assert node.GetNodeReference("inputVolume") is volume
    assert [node.GetParameter(f"omittedLabels_{i}") for i in range(2)] == ["a", "b"]
    assert node.GetParameter("omittedLabels_len") == "2"
    assert node.GetParameter("replaceSegments") == "False"
    wrapper.omittedLabels = ["c"]
    assert list(UDFASegmentationParameterNode(node).omittedLabels) == ["c"]
    assert not node.HasParameter("omittedLabels_1")
    with pytest.raises(ValueError, match="device"):
        wrapper.device = 3
    with pytest.raises(ValueError, match="is not a"):
        wrapper.inputVolume = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")


def test_the_wrapper_refuses_types_that_slicer_could_not_store_or_names_that_it_uses():
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    with pytest.raises(ValueError, match="reserved"):

        @parameterNodeWrapper
        class Reserved:
            default: str


def test_a_collapsed_section_hides_its_contents_and_nothing_else(qt):
    import ctk

    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    shown, hidden = qt.QLabel("a"), qt.QLabel("b")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.setVisible(False)
    states = []
    section.connect("contentsCollapsed(bool)", lambda collapsed: states.append(collapsed))
    section.collapsed = True
    section.collapsed = False
    assert (shown.isHidden(), hidden.isHidden(), states) == (False, True, [True, False])


def test_the_doubles_import_each_other_in_one_direction_only():
    graph: dict[str, set[str]] = {}
    for path in Path(doubles.__file__).parent.glob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "doubles":
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("doubles."):
                found.add(str(node.module).split(".")[1])
        graph[path.stem] = found
    assert len(graph) > 8
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("qt_classes") < order.index("pythonqt")
