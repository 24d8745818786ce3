"""Which buttons can be pressed when, and what they say."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util


def test_without_a_volume_nothing_can_be_segmented(opened):
    assert not opened.ui.segmentButton.enabled
    assert opened.ui.segmentButton.toolTip == "Choose a volume."


def test_the_volume_in_the_slice_views_is_chosen_when_the_module_opens(volume, opened):
    other = slicer.util.addVolumeFromArray(np.zeros((3, 3, 3), np.int16), name="other")
    assert opened.ui.inputSelector.currentNode() is volume
    assert opened.panel.parameterNode.inputVolume is volume
    opened.settle()
    assert opened.ui.segmentButton.enabled
    assert other is not volume


def test_a_choice_made_before_is_not_changed_by_entering_again(volume, opened):
    other = slicer.util.addVolumeFromArray(np.arange(27, dtype=np.int16).reshape(3, 3, 3), name="other")
    opened.ui.inputSelector.setCurrentNode(other)
    opened.widget.exit()
    opened.widget.enter()
    assert opened.panel.parameterNode.inputVolume is other


def test_a_volume_that_is_loaded_while_the_module_is_shown_is_chosen(opened):
    node = slicer.util.addVolumeFromArray(np.arange(27, dtype=np.int16).reshape(3, 3, 3), name="late")
    slicer.util.setSliceViewerLayers(background=node)
    slicer.app.processEvents()
    assert opened.ui.inputSelector.currentNode() is node


def test_labelmaps_are_neither_preselected_nor_offered(opened):
    node = slicer.util.addVolumeFromArray(
        np.ones((3, 3, 3), np.uint8), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    slicer.util.setSliceViewerLayers(background=node)
    opened.panel.parameters.preselectVolume()
    assert opened.ui.inputSelector.currentNode() is None
    assert opened.ui.inputSelector.nodeCount() == 0


def test_a_volume_without_voxels_cannot_be_segmented(opened):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    opened.ui.inputSelector.setCurrentNode(node)
    assert not opened.ui.segmentButton.enabled
    assert opened.ui.segmentButton.toolTip == "The chosen volume has no voxels."


def test_a_constant_volume_is_refused_with_the_reason(opened):
    node = slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.int16), name="constant")
    opened.ui.inputSelector.setCurrentNode(node)
    opened.settle()
    assert not opened.ui.segmentButton.enabled
    assert "All voxels of the volume are 0" in opened.ui.segmentButton.toolTip
    assert "All voxels of the volume are 0" in opened.ui.checkLabel.text
    assert not opened.visible("dismissCheckButton"), "an error cannot be dismissed"


def test_remarks_on_the_volume_can_be_dismissed_until_another_is_chosen(volume, opened):
    opened.settle()
    assert opened.visible("checkFrame")
    assert "All voxel spacings are exactly 1 mm" in opened.ui.checkLabel.text
    opened.click("dismissCheckButton")
    assert not opened.visible("checkFrame")
    other = slicer.util.addVolumeFromArray(np.asarray(slicer.util.arrayFromVolume(volume)), name="other")
    opened.ui.inputSelector.setCurrentNode(other)
    opened.settle()
    assert opened.visible("checkFrame")


def test_without_any_structure_nothing_can_be_segmented(volume, opened):
    opened.click("noLabelsButton")
    assert not opened.ui.segmentButton.enabled
    assert opened.ui.segmentButton.toolTip == "Tick at least one structure."
    opened.click("allLabelsButton")
    opened.settle()
    assert opened.ui.segmentButton.enabled


def test_replacing_is_only_offered_for_an_existing_segmentation(volume, opened):
    assert not opened.ui.replaceCheckBox.enabled
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "old")
    opened.ui.outputSelector.setCurrentNode(segmentation)
    assert opened.ui.replaceCheckBox.enabled
    opened.ui.outputSelector.setCurrentNode(None)
    assert not opened.ui.replaceCheckBox.enabled


def test_before_a_run_the_result_buttons_are_off(volume, opened):
    for name in ("copyTableButton", "saveTableButton", "exportButton", "show3DButton", "uncertaintyFrame"):
        assert not getattr(opened.ui, name).enabled, name
    assert not opened.ui.correctionCollapsibleButton.enabled


def test_while_a_run_is_under_way_only_cancel_can_be_pressed(volume, opened, fake):
    opened.settle()
    fake.hold()
    opened.click("segmentButton")
    opened.until(fake.reached.is_set)
    for name in ("inputsCollapsibleButton", "outputCollapsibleButton", "advancedCollapsibleButton"):
        assert not getattr(opened.ui, name).enabled, name
    assert not opened.visible("segmentButton")
    assert opened.visible("cancelButton")
    assert opened.visible("progressBar")
    fake.release()
    opened.settle()
    for name in ("inputsCollapsibleButton", "outputCollapsibleButton", "advancedCollapsibleButton"):
        assert getattr(opened.ui, name).enabled, name
    assert opened.visible("segmentButton")
    assert opened.ui.segmentButton.enabled
    assert not opened.visible("cancelButton")
    assert not opened.visible("progressBar")


def test_the_estimate_is_rough_before_the_first_run_on_a_device_and_good_after_it(volume, opened):
    opened.settle()
    # 6 slices of one tile of 64 x 64 pixels, at 0.3 s for 256 x 256.
    assert opened.ui.estimateLabel.text.startswith("6 slices: very roughly 1 s without a graphics card")
    assert "GB of memory" in opened.ui.estimateLabel.text
    opened.panel.parameterNode.device = "cuda:0"
    opened.settle()
    assert "the time is known after the first run" in opened.ui.estimateLabel.text
    opened.panel.parameterNode.device = "auto"
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    # The fake run says that it took 1.5 s.
    assert opened.ui.estimateLabel.text.startswith("6 slices: about 2 s")


@pytest.mark.parametrize("key", ["Ctrl+Return", "N", "U"])
def test_shortcuts_live_only_while_the_module_is_shown(opened, key):
    def live() -> set[str]:
        import qt

        return {s.key.toString() for s in opened.mainWindow.findChildren(qt.QShortcut)}

    assert key in live()
    opened.widget.exit()
    assert live() == set()
    opened.widget.enter()
    assert key in live()


def test_no_shortcut_is_one_of_the_segment_editor():
    from UDFASegmentationLib.Shortcuts import SEGMENT_EDITOR_KEYS, Shortcuts

    for key in ("Z", "Ctrl+Z", "1", "Shift+1", "Q", "/", "Space", "Esc"):
        assert key in SEGMENT_EDITOR_KEYS
    with pytest.raises(ValueError, match="Ctrl\\+Z"):
        Shortcuts({"Ctrl+Z": lambda: None})


def test_the_run_key_starts_a_run(volume, opened, fake):
    import qt

    opened.settle()
    (shortcut,) = (s for s in opened.mainWindow.findChildren(qt.QShortcut) if s.key.toString() == "Ctrl+Return")
    shortcut.activated.emit()
    assert opened.panel.runs.running
    opened.settle()
    assert len(fake.options) == 1
