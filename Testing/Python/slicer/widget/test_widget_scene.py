"""The panel and the life of the scene: saved, loaded, closed; module entered, left, reloaded."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import numpy as np
import pytest
import slicer
import slicer.util


def test_the_parameters_are_saved_and_restored_with_the_scene(scene, volume, opened, tmp_path):
    chosen = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "chosen")
    opened.ui.outputSelector.setCurrentNode(chosen)
    opened.ui.replaceCheckBox.checked = False
    opened.ui.uncertaintyCheckBox.checked = True
    opened.ui.removeIslandsCheckBox.checked = False
    opened.panel.parameterNode.omittedLabels = ["spleen"]
    opened.panel.parameterNode.device = "cpu"
    opened.settle()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    opened.settle()
    node = opened.panel.parameterNode
    assert (node.inputVolume, node.outputSegmentation, list(node.omittedLabels)) == (None, None, [])
    assert opened.ui.replaceCheckBox.checked
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    opened.settle()
    node = opened.panel.parameterNode
    assert node.inputVolume.GetName() == "CT"
    assert node.outputSegmentation.GetName() == "chosen"
    assert opened.ui.inputSelector.currentNode() is node.inputVolume
    assert opened.ui.outputSelector.currentNode() is node.outputSegmentation
    assert not opened.ui.replaceCheckBox.checked
    assert opened.ui.uncertaintyCheckBox.checked
    assert not opened.ui.removeIslandsCheckBox.checked
    assert opened.panel.models.keptLabels() == ["liver"]
    assert opened.panel.devices.current == "cpu"


def test_the_result_of_a_saved_scene_is_shown_again(scene, volume, opened, tmp_path):
    opened.ui.uncertaintyCheckBox.checked = True
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    opened.settle()
    assert opened.panel.result.table.rows == ()
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    opened.settle()
    assert [(row.title, round(row.volumeML, 3)) for row in opened.panel.result.table.rows] == [
        ("Liver", 0.024),
        ("Spleen", 0.0),
    ]
    assert opened.ui.uncertaintyFrame.enabled
    opened.click("nextDoubtfulButton")
    assert opened.ui.statusLabel.text.startswith("Doubtful slice 1")


def test_closing_the_scene_empties_the_panel(scene, volume, opened):
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    scene.Clear(False)
    opened.settle()
    assert opened.ui.inputSelector.currentNode() is None
    assert opened.ui.resultTable.rowCount == 0
    assert not opened.ui.segmentButton.enabled
    assert not opened.ui.exportButton.enabled
    assert opened.ui.segmentEditorWidget.segmentationNode() is None
    assert not opened.visible("estimateLabel")
    assert not opened.visible("checkFrame")


def test_after_closing_the_scene_the_panel_works_again(scene, volume, opened):
    scene.Clear(False)
    slicer.app.layoutManager().createViews()
    node = slicer.util.addVolumeFromArray(np.arange(64, dtype=np.int16).reshape(4, 4, 4), name="next")
    slicer.util.setSliceViewerLayers(background=node)
    opened.settle()
    assert opened.ui.inputSelector.currentNode() is node
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    assert opened.panel.parameterNode.resultSegmentation is not None


def test_closing_the_scene_while_another_module_is_shown_is_harmless(scene, volume, opened):
    opened.widget.exit()
    scene.Clear(False)
    opened.settle()
    opened.widget.enter()
    assert opened.ui.inputSelector.currentNode() is None


def test_entering_and_leaving_many_times_leaves_no_observer_behind(scene, volume, opened):
    opened.settle()

    def observers():
        panel = opened.panel
        return [len(mixin.Observations) for mixin in (panel, panel.parameters, panel.result, panel.inspection)] + [
            opened.ui.inputSelector.connectionCount(),
            opened.ui.segmentButton.connectionCount(),
        ]

    before = observers()
    for _ in range(5):
        opened.widget.exit()
        opened.widget.enter()
    assert observers() == before
    for _ in range(3):
        scene.Clear(False)
    assert observers()[:2] == before[:2]
    assert observers()[4:] == before[4:]


def test_a_volume_deleted_during_a_run_is_not_left_to_the_thread(scene, opened, fake):
    """A node that the executor thread is the last to let go of would be destroyed there, with its observers."""
    fake.hold()
    array = np.full((6, 5, 4), -1000, dtype=np.int16)
    array[1:5, 1:4, 1:3] = 100
    node = slicer.util.addVolumeFromArray(array)
    opened.ui.inputSelector.setCurrentNode(node)
    opened.settle()
    opened.click("segmentButton")
    opened.until(fake.reached.is_set)
    destroyed = []
    node.AddObserver("DeleteEvent", lambda caller, event: destroyed.append(threading.current_thread()))
    scene.RemoveNode(node)
    del node
    slicer.app.processEvents()
    gc.collect()
    assert set(destroyed) == {threading.main_thread()}
    fake.release()
    opened.settle()


@pytest.mark.parametrize("place", [0, 1])
def test_deleting_the_chosen_segmentation_does_not_choose_another_one(scene, volume, opened, place):
    """The next run would replace the segments of a segmentation that nobody has chosen."""
    nodes = [scene.AddNewNodeByClass("vtkMRMLSegmentationNode") for _ in range(2)]
    opened.ui.outputSelector.setCurrentNode(nodes[place])
    scene.RemoveNode(nodes[place])
    assert opened.panel.parameterNode.outputSegmentation is None
    assert opened.ui.outputSelector.currentNode() is None


def test_deleting_a_segmentation_that_is_not_chosen_leaves_the_choice(scene, volume, opened):
    nodes = [scene.AddNewNodeByClass("vtkMRMLSegmentationNode") for _ in range(2)]
    opened.ui.outputSelector.setCurrentNode(nodes[1])
    scene.RemoveNode(nodes[0])
    assert opened.panel.parameterNode.outputSegmentation is nodes[1]


def test_deleting_the_chosen_volume_does_not_choose_another_one(scene, volume, opened):
    slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), dtype=np.int16))
    assert opened.panel.parameterNode.inputVolume is volume
    scene.RemoveNode(volume)
    opened.settle()
    assert opened.panel.parameterNode.inputVolume is None
    assert opened.ui.inputSelector.currentNode() is None


def test_a_volume_that_slicer_shows_late_is_chosen(scene, opened):
    """DICOM series are added one by one and shown at the end."""
    node = slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), dtype=np.int16))
    slicer.app.processEvents()
    assert opened.panel.parameterNode.inputVolume is None
    slicer.util.setSliceViewerLayers(background=node)
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(node.GetID())
    slicer.app.processEvents()
    assert opened.panel.parameterNode.inputVolume is node


def test_after_cleanup_nothing_listens_any_more(scene, volume, opened):
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    panel = opened.panel
    opened.widget.cleanup()
    watchers = (panel, panel.parameters, panel.result, panel.inspection)
    assert [watcher.Observations for watcher in watchers] == [[], [], [], []]
    assert not panel.shortcuts.installed
    assert not panel._run._timer.isActive()
    # Scene and nodes go on changing; nothing of the panel may react.
    texts = opened.ui.statusLabel.text
    scene.RemoveNode(volume)
    scene.Clear(False)
    slicer.app.processEvents()
    assert opened.ui.statusLabel.text == texts


def test_a_closed_panel_can_be_collected(harness, fake, volume):
    harness.open(models=fake, installer=None, warmUp=lambda: None)
    harness.widget.enter()
    harness.settle()
    reference = weakref.ref(harness.panel)
    harness.widget.cleanup()
    # The widgets live as long as their parent and keep the functions that they were connected to.
    harness.ui.__dict__.clear()
    harness.parent.layout().takeAt(0).widget().deleteLater()
    harness.widget._uiWidget = slicer.modules.UDFASegmentationWidget = None
    from PySide6 import QtCore, QtWidgets

    QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
    harness.widget = None
    for _ in range(3):
        gc.collect()
    assert reference() is None


@pytest.fixture
def reloaded(opened):
    """The module after its Reload button: returns the former widget. Other tests get the former files back."""
    former = {name: module for name, module in sys.modules.items() if name.startswith("UDFASegmentation")}
    opened.settle()
    opened.ui.correctionCollapsibleButton.collapsed = False
    before = opened.widget
    before.onReload()
    opened.widget = slicer.modules.UDFASegmentationWidget
    yield before
    opened.widget.cleanup()
    for name in [name for name in sys.modules if name.startswith("UDFASegmentation")]:
        del sys.modules[name]
    sys.modules.update(former)


def test_reloading_loads_all_files_of_the_library_again(reloaded, opened):
    assert type(opened.widget) is not type(reloaded)
    from UDFASegmentationLib.Export import ExportError
    from UDFASegmentationLib.ExportSection import ExportError as caught

    assert caught is ExportError, "an error must be the same class where it is raised and where it is caught"


def test_after_reloading_the_module_is_live_and_the_former_panel_gone(reloaded, opened):
    assert reloaded.panel is None
    assert opened.panel.shortcuts.installed, "Slicer does not call enter()"
    from PySide6 import QtCore, QtWidgets

    QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
    editors = opened.parent.findChildren(slicer.qMRMLSegmentEditorWidget)
    assert editors == [opened.ui.segmentEditorWidget], "the former editor would listen to the views as well"


def test_the_logic_segments_without_the_panel(harness, volume, fake, models):
    from UDFASegmentation import UDFASegmentationLogic

    logic = UDFASegmentationLogic()
    node = logic.segmentVolume(volume, fake.model(models / "tiny.safetensors", "cpu", "auto"))
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver"]


def test_the_parameter_node_is_wrapped_once(harness):
    from UDFASegmentation import UDFASegmentationLogic

    assert UDFASegmentationLogic().getParameterNode() is UDFASegmentationLogic().getParameterNode()


@pytest.mark.parametrize("method", ["enter", "exit", "cleanup"])
def test_slicer_may_call_a_widget_whose_setup_failed(harness, fake, monkeypatch, method):
    """Slicer goes on calling enter, exit and cleanup after setup has raised."""

    def broken(path):
        raise RuntimeError("file not found")

    monkeypatch.setattr(slicer.util, "loadUI", broken)
    with pytest.raises(RuntimeError):
        harness.open(models=fake)
    getattr(harness.widget, method)()
    harness.widget = None
