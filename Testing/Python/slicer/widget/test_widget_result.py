"""Table, surfaces, uncertainty, export: what follows a run."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import slicer
import slicer.util

from doubles.pythonqt import FileDialogs


@pytest.fixture
def finished(volume, opened, fake):
    """The panel after a run: liver 24 voxels of 1 mm3 at 100 HU, spleen not found."""
    opened.ui.uncertaintyCheckBox.checked = True
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    return opened


def table(opened):
    widget = opened.ui.resultTable
    return [[widget.item(row, column).text() for column in range(4)] for row in range(widget.rowCount)]


def test_the_table_shows_volume_intensity_and_status(finished):
    assert table(finished) == [["Liver", "0.02", "100.0", "Not started"], ["Spleen", "0.00", "", "Not found"]]


def test_the_table_follows_corrections(finished, volume):
    node = finished.panel.parameterNode.resultSegmentation
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", volume)
    array[0] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, "liver", volume)
    finished.settle()
    # 24 voxels at 100 HU and 20 of air.
    assert table(finished)[0] == ["Liver", "0.04", "-400.0", "Not started"]


def test_the_table_follows_the_review_status_and_renamed_and_removed_segments(finished):
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segmentation = finished.panel.parameterNode.resultSegmentation.GetSegmentation()
    logic.SetSegmentStatus(segmentation.GetSegment("liver"), logic.Completed)
    segmentation.GetSegment("liver").SetName("Liver, corrected")
    finished.settle()
    assert table(finished)[0] == ["Liver, corrected", "0.02", "100.0", "Completed"]
    segmentation.RemoveSegment("liver")
    finished.settle()
    assert table(finished) == [["Spleen", "0.00", "", "Not found"]]


def test_the_table_can_be_pasted_into_a_spreadsheet(finished):
    finished.click("copyTableButton")
    lines = slicer.app.clipboard().text().splitlines()
    assert lines[0].split("\t") == ["Segment", "Volume (mL)", "Mean intensity", "Status"]
    assert lines[1].split("\t") == ["Liver", "0.02", "100.0", "Not started"]


@pytest.mark.parametrize("name", ["volumes.csv", "volumes"])
def test_the_table_is_saved_as_csv(finished, tmp_path, name):
    FileDialogs.answers.append(str(tmp_path / name))
    finished.click("saveTableButton")
    with (tmp_path / "volumes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[1] == ["Liver", "0.02", "100.0", "Not started"]


def test_a_table_that_cannot_be_saved_is_reported_and_leaves_no_file(finished, tmp_path):
    (tmp_path / "taken.csv").mkdir()
    FileDialogs.answers.append(str(tmp_path / "taken.csv"))
    finished.click("saveTableButton")
    ((kind, text),) = finished.messages.shown
    assert kind == "errorDisplay"
    assert "was not saved" in text
    assert list(tmp_path.glob("*udfa*")) == []
    assert list(tmp_path.glob(".udfa*")) == []


def test_cancelling_the_file_dialog_saves_nothing(finished, tmp_path):
    FileDialogs.answers.append("")
    finished.click("saveTableButton")
    assert finished.messages.shown == []


def test_a_double_click_on_a_line_shows_the_segment_in_the_slice_views(finished):
    finished.ui.resultTable.cellDoubleClicked.emit(0, 0)
    node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    # The block spans K 1 to 4 at 1 mm: its centre lies between slices 2 and 3.
    assert abs(node.GetSliceOffset()) == pytest.approx(2.5, abs=1)
    finished.ui.resultTable.cellDoubleClicked.emit(1, 0)


def test_show_3d_makes_the_surfaces(finished):
    segmentation = finished.panel.parameterNode.resultSegmentation.GetSegmentation()
    assert not segmentation.ContainsRepresentation("Closed surface")
    finished.click("show3DButton")
    assert segmentation.ContainsRepresentation("Closed surface")


def test_the_uncertainty_map_lies_on_the_volumes_grid(finished, volume):
    node = finished.panel.parameterNode.uncertaintyVolume
    assert node.GetName() == "CT uncertainty"
    assert slicer.util.arrayFromVolume(node).shape == slicer.util.arrayFromVolume(volume).shape
    assert slicer.util.arrayFromVolume(node)[3, 2, 2] == 200
    assert finished.ui.uncertaintyFrame.enabled


def test_a_second_run_overwrites_the_map_of_the_first(finished, scene):
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    finished.click("segmentButton")
    finished.settle()
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count


def test_without_the_option_there_is_no_map(volume, opened, scene):
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    assert opened.panel.parameterNode.uncertaintyVolume is None
    assert not opened.ui.uncertaintyFrame.enabled
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1


def test_the_overlay_is_laid_over_the_views_and_taken_off_again(finished, volume):
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    other = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16), name="PET")
    slicer.util.setSliceViewerLayers(foreground=other, foregroundOpacity=0.3)
    finished.ui.overlayCheckBox.checked = True
    assert composite.GetForegroundVolumeID() == finished.panel.parameterNode.uncertaintyVolume.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.6)
    finished.ui.overlayCheckBox.checked = False
    assert composite.GetForegroundVolumeID() == other.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.3)
    assert composite.GetBackgroundVolumeID() == volume.GetID()


def test_next_doubtful_slice_goes_to_the_worst_first_and_then_round(finished, monkeypatch):
    from UDFASegmentationLib import DoubtfulSlices

    # The volume is only 6 mm high; by default slices nearer than 5 mm count as one place.
    monkeypatch.setattr(DoubtfulSlices, "NEIGHBOUR_MM", 1.0)
    node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    offsets = []
    for number in (1, 2, 1):
        finished.click("nextDoubtfulButton")
        offsets.append(round(node.GetSliceOffset(), 3))
        assert finished.ui.statusLabel.text == f"Doubtful slice {number} of 2"
    assert [abs(offset) for offset in offsets] == [3, 0, 3]


def test_the_editor_is_given_the_result_and_the_volume(finished, volume):
    editor = finished.ui.segmentEditorWidget
    assert finished.ui.correctionCollapsibleButton.enabled
    assert editor.segmentationNode() is finished.panel.parameterNode.resultSegmentation
    assert editor.sourceVolumeNode() is volume
    assert editor._undoStates == 50, "the undo depth of the settings"
    finished.widget.exit()
    finished.panel._services.settings.write(undoDepth=7)
    finished.widget.enter()
    assert editor._undoStates == 7, "the settings are read again when the module is shown"


def test_the_editor_keeps_fewer_steps_of_a_segmentation_that_grows_large(finished, monkeypatch):
    from UDFASegmentationLib import UndoMemory

    editor, node = finished.ui.segmentEditorWidget, finished.panel.parameterNode.resultSegmentation
    monkeypatch.setattr(UndoMemory, "MOST_BYTES", 20 * 1_000_000)
    segment = node.GetSegmentation().GetNthSegment(0)
    image = slicer.vtkOrientedImageData()
    image.SetExtent(0, 99, 0, 99, 0, 99)
    image.AllocateScalars(3, 1)
    segment.AddRepresentation("Binary labelmap", image)
    finished.settle()
    assert 15 <= editor._undoStates <= 20


def test_the_editors_keys_live_only_while_its_section_is_open_and_the_module_shown(finished):
    editor, section = finished.ui.segmentEditorWidget, finished.ui.correctionCollapsibleButton
    assert not editor._shortcuts
    section.collapsed = False
    assert (editor._shortcuts, editor._observing) == (True, True)
    finished.widget.exit()
    assert (editor._shortcuts, editor._observing) == (False, False)
    finished.widget.enter()
    assert editor._shortcuts
    section.collapsed = True
    assert not editor._shortcuts


def test_light_boxes_are_closed_before_segments_are_edited_and_this_is_said(finished):
    """In a view that shows several slices, Slicer takes every click for one on the first of them."""
    editor, section = finished.ui.segmentEditorWidget, finished.ui.correctionCollapsibleButton
    editor._lightBoxes = True
    assert finished.messages.shown == []
    section.collapsed = False
    ((kind, text),) = finished.messages.shown
    assert kind == "warningDisplay"
    assert "light box" in text
    section.collapsed = True
    section.collapsed = False
    assert len(finished.messages.shown) == 1
    assert editor._shortcuts


def test_a_slicer_without_light_boxes_need_not_close_any(finished, monkeypatch):
    monkeypatch.delattr(slicer.qMRMLSegmentEditorWidget, "turnOffLightboxes")
    finished.ui.correctionCollapsibleButton.collapsed = False
    assert finished.ui.segmentEditorWidget._shortcuts


@pytest.fixture
def segmentEditor(scene):
    """The widget of Slicer's Segment Editor module, which was opened before and edits a segmentation of the user's."""
    node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
    node.UnRegister(None)
    node.SetSingletonTag("SegmentEditor")
    widget = slicer.qMRMLSegmentEditorWidget()
    widget.setMRMLSegmentEditorNode(scene.AddNode(node))
    widget.setMRMLScene(scene)
    widget.setSegmentationNode(scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Tumour"))
    yield widget
    widget.setMRMLScene(None)
    widget.setMRMLSegmentEditorNode(None)


def test_a_tool_taken_here_is_not_taken_in_the_segment_editor_module(segmentEditor, finished):
    """Of two editors that listen to the views, the first one would get the clicks, and keep their undo."""
    editor = finished.ui.segmentEditorWidget
    finished.ui.correctionCollapsibleButton.collapsed = False
    editor.mrmlSegmentEditorNode().SetActiveEffectName("UDFA Click")
    assert (editor._observing, segmentEditor._observing) == (True, False)


def test_a_run_leaves_the_work_in_the_segment_editor_module_alone(segmentEditor, finished):
    assert segmentEditor.mrmlSegmentEditorNode().GetSegmentationNode().GetName() == "Tumour"
    assert finished.ui.segmentEditorWidget.segmentationNode() is finished.panel.parameterNode.resultSegmentation


def test_opening_the_module_does_not_change_what_the_segment_editor_module_edits(segmentEditor, opened):
    assert segmentEditor.mrmlSegmentEditorNode().GetSegmentationNode().GetName() == "Tumour"


def test_the_editors_tool_is_not_saved_with_the_scene(finished):
    """A scene that is loaded must not start a tool in a module that nobody looks at."""
    assert not finished.ui.segmentEditorWidget.mrmlSegmentEditorNode().GetSaveWithScene()


def test_a_result_that_comes_with_a_scene_is_edited_on_its_volume(finished, scene, tmp_path):
    """While the scene is loaded, the editor refuses a source volume."""
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    finished.settle()
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    finished.settle()
    editor, node = finished.ui.segmentEditorWidget, finished.panel.parameterNode
    assert editor.segmentationNode() is node.resultSegmentation is not None
    assert editor.sourceVolumeNode() is node.resultVolume is not None


def test_the_editor_does_not_change_the_slice_views(opened):
    assert not opened.ui.segmentEditorWidget.autoShowSourceVolumeNode


def test_without_a_result_the_editors_keys_stay_off(opened):
    opened.ui.correctionCollapsibleButton.collapsed = False
    assert not opened.ui.segmentEditorWidget._shortcuts


def test_deleting_the_result_empties_the_section(finished, scene):
    scene.RemoveNode(finished.panel.parameterNode.resultSegmentation)
    finished.settle()
    assert table(finished) == []
    for name in ("copyTableButton", "exportButton", "show3DButton"):
        assert not getattr(finished.ui, name).enabled, name
    assert not finished.ui.correctionCollapsibleButton.enabled


def test_deleting_the_segmented_volume_leaves_the_editor_without_a_volume(finished, scene):
    """Its hidden selector goes on to another volume, which clicks would take for the image."""
    slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), dtype=np.int16))
    scene.RemoveNode(finished.panel.parameterNode.resultVolume)
    finished.settle()
    editor = finished.ui.segmentEditorWidget
    assert editor.segmentationNode() is finished.panel.parameterNode.resultSegmentation is not None
    assert editor.sourceVolumeNode() is None


def menu(finished):
    return {action.text: action for action in finished.ui.exportButton.menu().actions()}


def test_every_export_format_is_in_the_menu(finished):
    from UDFASegmentationLib.Export import FORMATS

    assert list(menu(finished)) == [entry.title for entry in FORMATS.values()]


def test_exporting_writes_the_file_and_a_record_of_the_run(finished, tmp_path):
    FileDialogs.answers.append(str(tmp_path / "case.seg.nrrd"))
    menu(finished)["Slicer segmentation (.seg.nrrd)"].trigger()
    assert (tmp_path / "case.seg.nrrd").is_file()
    record = json.loads((tmp_path / "case.provenance.json").read_text())
    assert record["checkpoint"]["name"] == "tiny"
    assert record["settings"]["labels"] == ["liver", "spleen"]
    assert "case.seg.nrrd" in finished.ui.statusLabel.text


@pytest.mark.parametrize("answer", [True, False])
def test_a_file_that_the_dialog_could_not_ask_about_is_not_replaced_unasked(finished, tmp_path, answer):
    """The user types a name without the suffix."""
    (tmp_path / "case.nii.gz").write_text("corrected by hand")
    FileDialogs.answers.append(str(tmp_path / "case"))
    finished.messages.answers.append(answer)
    menu(finished)["Labelmap (.nii.gz)"].trigger()
    ((kind, text),) = finished.messages.shown
    assert kind == "confirmOkCancelDisplay"
    assert "case.nii.gz exists" in text
    kept = (tmp_path / "case.nii.gz").read_bytes() == b"corrected by hand"
    assert kept is not answer
    assert (tmp_path / "case.provenance.json").exists() is answer


def test_surfaces_are_exported_into_a_folder(finished, tmp_path):
    FileDialogs.answers.append(str(tmp_path))
    menu(finished)["Surfaces (.stl)"].trigger()
    assert len(list(tmp_path.glob("*.stl"))) == 1


def test_an_export_that_fails_says_why_and_leaves_nothing(finished, tmp_path):
    finished.panel.parameterNode.resultSegmentation.GetSegmentation().RemoveSegment("liver")
    FileDialogs.answers.append(str(tmp_path / "case.seg.nrrd"))
    menu(finished)["Slicer segmentation (.seg.nrrd)"].trigger()
    ((kind, text),) = finished.messages.shown
    assert kind == "errorDisplay"
    assert "nothing to export" in text
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_cancelling_an_export_writes_nothing(finished):
    FileDialogs.answers.append("")
    menu(finished)["Labelmap (.nrrd)"].trigger()
    assert finished.messages.shown == []
