"""The panel and the life of the scene: saved, loaded, closed; module entered, left, reloaded."""

from __future__ import annotations

import gc
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
    opened.ui.largestComponentCheckBox.checked = False
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
    assert not opened.ui.largestComponentCheckBox.checked
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
    from PySide6 import QtCore, QtWidgets

    QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
    harness.widget = None
    for _ in range(3):
        gc.collect()
    assert reference() is None


def test_reloading_loads_the_library_again_and_tells_slicer(opened, monkeypatch):
    import sys

    # The effect needs Slicer's SegmentEditorEffects, which the tests of the effect bring along.
    monkeypatch.delitem(sys.modules, "UDFASegmentationLib.ClickEffect", raising=False)
    before = sys.modules["UDFASegmentationLib.RunEstimate"].RunEstimate
    library = {
        module: dict(vars(module)) for name, module in sys.modules.items() if name.startswith("UDFASegmentation")
    }
    opened.widget.cleanup()
    opened.widget.onReload()
    try:
        assert slicer.app.reloads == 1
        assert sys.modules["UDFASegmentationLib.RunEstimate"].RunEstimate is not before
    finally:
        # Other tests compare classes by identity: give the modules their former ones back.
        for module, contents in library.items():
            vars(module).clear()
            vars(module).update(contents)


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
