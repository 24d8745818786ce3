"""A run from the button to the segmentation, and everything that may come between."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util

from udfa.errors import InvalidInputError, UDFAError


def nodes(scene):
    """IDs of all nodes but the views' and the parameter nodes, to compare before and after."""
    all_nodes = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    return {node.GetID() for node in all_nodes if node.GetSingletonTag() is None}


def start_and_hold(opened, fake):
    """Start a run and wait until it has done its first slice."""
    opened.settle()
    fake.hold()
    opened.click("segmentButton")
    opened.until(fake.reached.is_set)


def segmentations(scene):
    return [
        scene.GetNthNodeByClass(i, "vtkMRMLSegmentationNode")
        for i in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"))
    ]


def test_a_run_makes_a_segmentation_with_the_wanted_segments(scene, volume, opened, fake):
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    (node,) = segmentations(scene)
    assert node.GetName() == "CT segmentation"
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver"]
    # The dense block of the volume fixture: 4 x 3 x 2 voxels.
    assert slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", volume).sum() == 24
    assert opened.panel.parameterNode.resultSegmentation is node
    assert opened.ui.statusLabel.text.startswith("Done in 2 s (cpu, float32, batches of 4).")


def test_the_engine_gets_what_was_chosen(volume, opened, fake, models):
    opened.ui.labelList.item(1).setCheckState(_unchecked())
    opened.ui.uncertaintyCheckBox.checked = True
    opened.ui.removeIslandsCheckBox.checked = False
    opened.panel._services.settings.write(precision="float32")
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    (options,) = fake.options
    assert options.labels == ("liver",)
    assert options.uncertainty
    assert not options.remove_islands
    assert fake.loaded == [(models / "tiny.safetensors", "auto", "float32")]
    assert np.array_equal(fake.volumes[0].array, slicer.util.arrayFromVolume(volume))


def _unchecked():
    import qt

    return qt.Qt.Unchecked


def test_the_engine_works_on_a_copy_of_the_voxels(volume, opened, fake):
    start_and_hold(opened, fake)
    slicer.util.arrayFromVolume(volume)[:] = 0
    fake.release()
    opened.settle()
    assert fake.volumes[0].array.max() == 100


def test_progress_is_shown_in_slices_and_seconds(volume, opened, fake):
    start_and_hold(opened, fake)
    opened.until(lambda: opened.ui.statusLabel.text.startswith("Slice"))
    assert opened.ui.statusLabel.text == "Slice 1/6, 5 s left"
    assert (opened.ui.progressBar.value, opened.ui.progressBar.maximum) == (1, 6)
    fake.release()
    opened.settle()


def test_a_fall_back_to_a_lighter_plan_is_said(opened, volume, fake):
    from udfa.inference import Progress

    start_and_hold(opened, fake)
    opened.panel.runs._showProgress(Progress(3, 6, None, "Memory ran out; going on with the CPU."))
    assert opened.ui.statusLabel.text == "Memory ran out; going on with the CPU."
    fake.release()
    opened.settle()


def test_cancel_leaves_the_scene_as_it_was(scene, volume, opened, fake):
    opened.settle()
    before = nodes(scene)
    start_and_hold(opened, fake)
    opened.click("cancelButton")
    assert not opened.ui.cancelButton.enabled
    assert opened.ui.statusLabel.text == "Cancelling..."
    opened.settle(seconds=2)
    assert nodes(scene) == before
    assert opened.ui.statusLabel.text == "Cancelled; nothing changed."
    assert opened.ui.segmentButton.enabled


def test_after_a_cancelled_run_the_next_one_works(scene, volume, opened, fake):
    start_and_hold(opened, fake)
    opened.click("cancelButton")
    opened.settle()
    fake.release()
    opened.click("segmentButton")
    opened.settle()
    assert len(segmentations(scene)) == 1


@pytest.mark.parametrize(
    "error", [InvalidInputError("The volume is too thin. Use the whole series."), UDFAError("Memory ran out.")]
)
def test_an_expected_error_is_shown_in_the_panel_and_changes_nothing(scene, volume, opened, fake, error):
    opened.settle()
    before = nodes(scene)
    fake.error = error
    opened.click("segmentButton")
    opened.settle()
    assert opened.ui.statusLabel.text == str(error)
    assert opened.messages.shown == []
    assert nodes(scene) == before
    assert opened.ui.segmentButton.enabled


def test_an_unexpected_error_opens_a_box_with_details(scene, volume, opened, fake):
    fake.error = ZeroDivisionError("division by zero")
    opened.settle()
    before = nodes(scene)
    opened.click("segmentButton")
    opened.settle()
    assert opened.messages.shown == [("errorDisplay", "The segmentation failed: division by zero")]
    assert nodes(scene) == before
    assert opened.ui.segmentButton.enabled


def test_an_unexpected_error_while_writing_leaves_a_panel_that_can_run_again(scene, volume, opened, monkeypatch):
    from UDFASegmentationLib import RunSource

    opened.settle()
    with monkeypatch.context() as patched:
        patched.setattr(RunSource, "writeResult", lambda *arguments: 1 // 0)
        opened.click("segmentButton")
        opened.settle()
    assert not opened.panel.runs.running
    assert "division" in opened.ui.statusLabel.text
    assert opened.messages.shown[-1][0] == "errorDisplay"
    assert segmentations(scene) == []
    opened.click("segmentButton")
    opened.settle()
    assert len(segmentations(scene)) == 1


def test_deleting_the_volume_stops_the_run(scene, volume, opened, fake):
    start_and_hold(opened, fake)
    scene.RemoveNode(volume)
    assert not opened.panel.runs.running
    assert opened.ui.statusLabel.text == "The volume was deleted; the run was stopped."
    opened.settle()
    assert segmentations(scene) == []
    assert opened.panel.parameterNode.inputVolume is None
    assert not opened.ui.segmentButton.enabled


def test_deleting_the_chosen_segmentation_during_the_run_saves_the_result_in_a_new_one(scene, volume, opened, fake):
    chosen = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "chosen")
    opened.ui.outputSelector.setCurrentNode(chosen)
    start_and_hold(opened, fake)
    scene.RemoveNode(chosen)
    fake.release()
    opened.settle()
    (node,) = segmentations(scene)
    assert node is not chosen
    assert node.GetSegmentation().GetNumberOfSegments() == 1


def test_the_result_goes_into_the_chosen_segmentation(scene, volume, opened):
    chosen = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "chosen")
    opened.ui.outputSelector.setCurrentNode(chosen)
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    assert segmentations(scene) == [chosen]
    assert opened.panel.parameterNode.resultSegmentation is chosen


@pytest.mark.parametrize(("replace", "expected"), [(True, ["liver"]), (False, ["liver", "liver_2"])])
def test_a_second_run_replaces_segments_only_if_asked_to(scene, volume, opened, replace, expected):
    chosen = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "chosen")
    opened.ui.outputSelector.setCurrentNode(chosen)
    opened.ui.replaceCheckBox.checked = replace
    for _ in range(2):
        opened.settle()
        opened.click("segmentButton")
    opened.settle()
    assert list(chosen.GetSegmentation().GetSegmentIDs()) == expected


def test_closing_the_scene_during_a_run_drops_it(scene, volume, opened, fake):
    start_and_hold(opened, fake)
    scene.Clear(False)
    assert not opened.panel.runs.running
    fake.release()
    opened.settle()
    assert segmentations(scene) == []
    assert opened.panel.parameterNode is not None
    assert opened.ui.inputSelector.currentNode() is None


def test_switching_to_another_module_lets_the_run_finish(scene, volume, opened, fake):
    start_and_hold(opened, fake)
    opened.widget.exit()
    fake.release()
    opened.settle()
    assert len(segmentations(scene)) == 1
    opened.widget.enter()
    opened.settle()
    assert len(opened.panel.result.table.rows) == 2


def test_quitting_during_a_run_ends_it_without_a_result(scene, volume, opened, fake):
    from doubles.harness import MODULE_NAME

    start_and_hold(opened, fake)
    panel = opened.panel
    slicer.app.moduleManager().aboutToBeUnloaded.emit(MODULE_NAME)
    assert not panel.runs.running
    assert opened.widget.panel is None
    fake.release()
    slicer.app.processEvents()
    assert segmentations(scene) == []
    assert panel.Observations == []
    assert panel.parameters.Observations == []
    assert panel.result.Observations == []
    assert panel.inspection.Observations == []


def test_a_module_that_is_unloaded_after_its_widgets_are_gone_ends_its_run_and_lets_go(scene, volume, opened, fake):
    """Slicer quits so: the main window goes first, with the widgets in it, and the modules follow."""
    import shiboken6

    start_and_hold(opened, fake)
    panel, widget = opened.panel, opened.widget
    widget.exit()
    shiboken6.delete(widget._uiWidget)
    try:
        widget.cleanup()
    finally:
        opened.widget = None
    assert widget.panel is None
    assert not any(thread.name.startswith("UDFA") and thread.is_alive() for thread in ended(panel._run))
    for watcher in (panel, panel.parameters, panel.result, panel.inspection):
        assert watcher.Observations == []
    scene.RemoveNode(volume)
    scene.Clear(False)
    slicer.app.processEvents()


def ended(run):
    """The threads of a run, which have a second to end."""
    threads = list(run._executor._threads)
    for thread in threads:
        thread.join(1)
    return threads


def test_the_panel_stays_responsive_during_a_run(volume, opened, fake):
    """A timer of 10 ms, standing for the user's mouse, goes on while the engine works."""
    from PySide6 import QtCore

    start_and_hold(opened, fake)
    ticks = []
    timer = QtCore.QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(10)
    opened.until(lambda: len(ticks) >= 10, seconds=10)
    assert opened.panel.runs.running
    timer.stop()
    fake.release()
    opened.settle()


def test_measuring_gives_way_to_a_run(volume, opened, fake):
    opened.settle()
    opened.click("segmentButton")
    opened.until(lambda: not opened.panel.runs.running)
    # The table is being measured; the next run starts all the same, and the table comes after it.
    opened.click("segmentButton")
    opened.settle()
    assert len(fake.options) == 2
    assert len(opened.panel.result.table.rows) == 2
