"""All frames of a cine sequence in the panel: segmented, played, measured, corrected; ventricular function."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util

from doubles.fakes import FakeModels
from headless.samples import add_cine, show_frame
from udfa.cardiac import cardiac_function
from udfa.labels import describe
from UDFASegmentationLib import SequenceVolumes

HEIGHTS = {"0": 20, "1": 15, "2": 8}
"""Rows of the block that is the left ventricle, by frame: it has 10 x 20 times as many voxels."""


class HeartModels(FakeModels):
    """A fake engine that calls what is bright the left ventricle, and looks for the myocardium in vain."""

    def model(self, nameOrPath, device, precision):
        from UDFASegmentationLib.Contracts import LoadedModel

        return LoadedModel(self, (describe("left_ventricle"), describe("myocardium")), "heart", "")


@pytest.fixture
def fake():
    return HeartModels()


@pytest.fixture
def browser(scene, _doubles):
    """Three frames of 12 x 24 x 24 voxels (D, H, W) of 1 mm with a block that contracts."""
    slicer.app.layoutManager().createViews()
    frames = {}
    for name, height in HEIGHTS.items():
        frames[name] = np.full((12, 24, 24), -100, np.int16)
        frames[name][1:11, 2 : 2 + height, 2:22] = 100
    browser = add_cine(frames)
    slicer.util.setSliceViewerLayers(background=show_frame(browser, 0))
    return browser


@pytest.fixture
def finished(browser, opened):
    """The panel after a run of all frames, which show 4, 3 and 1.6 mL."""
    opened.settle()
    opened.ui.allFramesCheckBox.checked = True
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    return opened


def shownVolume(opened) -> str:
    return opened.ui.resultTable.item(0, 1).text()


def test_all_frames_are_offered_for_sequences_only(browser, opened):
    opened.settle()
    assert opened.visible("allFramesCheckBox")
    opened.panel.parameterNode.inputVolume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5), np.int16))
    opened.settle()
    assert not opened.visible("allFramesCheckBox")
    opened.panel.parameterNode.inputVolume = None
    opened.settle()
    assert not opened.visible("allFramesCheckBox")


def test_the_panel_tells_what_a_run_of_all_frames_will_do(browser, opened):
    opened.settle()
    assert "Only this frame is segmented" in opened.ui.checkLabel.text
    assert opened.ui.estimateLabel.text.startswith("12 slices")
    opened.ui.allFramesCheckBox.checked = True
    opened.settle()
    assert "All 3 frames of the sequence are segmented." in opened.ui.checkLabel.text
    assert opened.ui.estimateLabel.text.startswith("3 frames of 12 slices")
    # The result is a new sequence without an uncertainty map.
    assert not opened.ui.outputSelector.enabled
    assert not opened.ui.uncertaintyCheckBox.enabled
    opened.ui.allFramesCheckBox.checked = False
    opened.settle()
    assert opened.ui.outputSelector.enabled
    assert opened.ui.uncertaintyCheckBox.enabled


def test_the_result_and_its_table_follow_the_browser(browser, finished, fake):
    assert "Segmented: all 3 frames." in finished.ui.statusLabel.text
    assert len(fake.volumes) == 3
    assert shownVolume(finished) == "4.00"
    show_frame(browser, 2)
    finished.until(lambda: shownVolume(finished) == "1.60")
    show_frame(browser, 1)
    finished.until(lambda: shownVolume(finished) == "3.00")


def test_progress_is_that_of_all_frames(browser, opened, fake):
    opened.settle()
    opened.ui.allFramesCheckBox.checked = True
    opened.settle()
    fake.hold()
    opened.click("segmentButton")
    opened.until(lambda: opened.ui.statusLabel.text.startswith("Slice 1/36"))
    fake.release()
    opened.settle()


def test_cancel_leaves_the_scene_as_it_was(browser, opened, fake):
    opened.settle()
    opened.ui.allFramesCheckBox.checked = True
    opened.settle()
    before = slicer.mrmlScene.GetNumberOfNodes()
    fake.hold()
    opened.click("segmentButton")
    opened.until(fake.reached.is_set)
    opened.click("cancelButton")
    opened.settle()
    assert opened.ui.statusLabel.text == "Cancelled; nothing changed."
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert browser.GetNumberOfSynchronizedSequenceNodes(True) == 1


def test_the_ventricular_function_is_shown(finished):
    assert finished.visible("functionFrame")
    lines = finished.ui.functionLabel.text.splitlines()
    assert lines[0] == "LV: EDV 4 mL, ESV 2 mL, SV 2 mL, EF 60 %, mass 0 g"
    assert lines[1] == "End-diastole: frame 1; end-systole: frame 3."


def test_the_buttons_lead_to_end_systole_and_end_diastole(browser, finished):
    finished.click("endSystoleButton")
    assert browser.GetSelectedItemNumber() == 2
    finished.click("endDiastoleButton")
    assert browser.GetSelectedItemNumber() == 0
    finished.settle()


def test_the_function_follows_corrections_and_they_stay_in_their_frame(browser, finished):
    node = finished.panel.parameterNode.resultSegmentation
    volume = show_frame(browser, 2)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, "left_ventricle", volume)
    array[6:] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, "left_ventricle", volume)
    # 0.8 instead of 1.6 mL at end-systole.
    finished.until(lambda: "EF 80 %" in finished.ui.functionLabel.text)
    show_frame(browser, 0)
    finished.until(lambda: shownVolume(finished) == "4.00")
    assert "EF 80 %" in finished.ui.functionLabel.text


def test_the_curve_is_a_table_and_a_chart_that_follow_corrections(browser, finished):
    finished.click("volumeCurveButton")
    finished.click("volumeCurveButton")
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    columns = {table.GetColumnName(n): table.GetTable().GetColumn(n) for n in range(table.GetNumberOfColumns())}
    assert list(columns) == ["Frame", "Left ventricle (mL)", "Myocardium (mL)"]
    assert [columns["Left ventricle (mL)"].GetValue(n) for n in range(3)] == pytest.approx([4.0, 3.0, 1.6])
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [one.GetYColumnName() for one in series] == ["Left ventricle (mL)", "Myocardium (mL)"]
    assert all(one.GetTableNode() is table for one in series)
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 2
    node, volume = finished.panel.parameterNode.resultSegmentation, show_frame(browser, 1)
    empty = np.zeros((12, 24, 24), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(empty, node, "left_ventricle", volume)
    finished.until(lambda: table.GetTable().GetColumnByName("Left ventricle (mL)").GetValue(1) == 0)
    assert "No left ventricle was found in frame 2." in finished.ui.functionLabel.text


def test_a_single_result_has_no_function(browser, opened):
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    assert not opened.visible("functionFrame")


def test_without_a_left_ventricle_the_curve_alone_is_offered(browser, opened, fake):
    fake.model = lambda *arguments: FakeModels.model(fake, *arguments)
    opened.settle()
    opened.ui.allFramesCheckBox.checked = True
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    assert opened.visible("functionFrame")
    assert opened.visible("volumeCurveButton")
    assert not opened.visible("endSystoleButton")
    assert not opened.visible("functionLabel")


def test_deleting_the_sequence_of_segmentations_empties_the_panel(browser, finished):
    node = finished.panel.parameterNode.resultSegmentation
    sequence = browser.GetSequenceNode(node)
    browser.RemoveSynchronizedSequenceNode(sequence.GetID())
    slicer.mrmlScene.RemoveNode(sequence)
    finished.panel.result.measureNow()
    finished.settle()
    assert not finished.visible("functionFrame")


def test_a_sequence_deleted_during_the_run_ends_it_with_a_reason(browser, opened, fake):
    opened.settle()
    opened.ui.allFramesCheckBox.checked = True
    opened.settle()
    fake.hold()
    opened.click("segmentButton")
    opened.until(fake.reached.is_set)
    slicer.mrmlScene.RemoveNode(browser)
    fake.release()
    opened.settle()
    assert "was changed during the run" in opened.ui.statusLabel.text
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_without_its_browser_the_volume_is_one_volume_again(browser, opened):
    opened.settle()
    opened.ui.allFramesCheckBox.checked = True
    opened.settle()
    slicer.mrmlScene.RemoveNode(browser)
    opened.settle()
    assert not opened.visible("allFramesCheckBox")
    assert opened.ui.outputSelector.enabled
    assert opened.ui.estimateLabel.text.startswith("12 slices")


def test_show_3d_shows_and_hides_the_surfaces_of_all_frames(browser, finished):
    segmentation = finished.panel.parameterNode.resultSegmentation.GetSegmentation

    def surfaces():
        shown = []
        for index in (1, 2, 0):
            show_frame(browser, index)
            shown.append(segmentation().ContainsRepresentation("Closed surface"))
        return shown

    finished.click("show3DButton")
    assert surfaces() == [True, True, True]
    finished.click("show3DButton")
    assert surfaces() == [False, False, False]
    finished.settle()


def test_a_single_result_for_a_sequence_that_moved_on_becomes_a_segmentation_of_its_own(browser, finished, fake):
    sequenceNode = finished.panel.parameterNode.resultSegmentation
    finished.ui.allFramesCheckBox.checked = False
    finished.panel.parameterNode.outputSegmentation = sequenceNode
    finished.settle()
    fake.hold()
    finished.click("segmentButton")
    finished.until(fake.reached.is_set)
    show_frame(browser, 2)
    fake.release()
    finished.settle()
    single = finished.panel.parameterNode.resultSegmentation
    assert single is not sequenceNode
    assert single.GetName() == "Cine frame 1 segmentation"
    assert sequenceNode.GetAttribute("UDFA.Frame") == "3/3"


def test_a_single_result_goes_into_its_frame_of_a_sequence(browser, finished):
    sequenceNode = finished.panel.parameterNode.resultSegmentation
    volume = show_frame(browser, 1)
    empty = np.zeros((12, 24, 24), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(empty, sequenceNode, "left_ventricle", volume)
    finished.ui.allFramesCheckBox.checked = False
    finished.panel.parameterNode.outputSegmentation = sequenceNode
    finished.settle()
    finished.click("segmentButton")
    finished.settle()
    assert finished.panel.parameterNode.resultSegmentation is sequenceNode
    assert shownVolume(finished) == "3.00"
    show_frame(browser, 0)
    finished.until(lambda: shownVolume(finished) == "4.00")


def test_the_function_comes_back_with_a_saved_scene(browser, finished, tmp_path):
    finished.click("volumeCurveButton")
    finished.settle()
    assert slicer.util.saveScene(str(tmp_path / "cine.mrb"))
    slicer.mrmlScene.Clear(0)
    finished.settle()
    assert not finished.visible("functionFrame")
    slicer.util.loadScene(str(tmp_path / "cine.mrb"))
    finished.until(lambda: "EF 60 %" in finished.ui.functionLabel.text)
    finished.settle()
    assert finished.panel.parameterNode.allFrames
    assert finished.visible("allFramesCheckBox")
    loaded = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    finished.click("endSystoleButton")
    assert loaded.GetSelectedItemNumber() == 2
    finished.until(lambda: shownVolume(finished) == "1.60")
    node, volume = finished.panel.parameterNode.resultSegmentation, show_frame(loaded, 2)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, "left_ventricle", volume)
    array[6:] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, "left_ventricle", volume)
    finished.until(lambda: "EF 80 %" in finished.ui.functionLabel.text)
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert table.GetTable().GetColumnByName("Left ventricle (mL)").GetValue(2) == pytest.approx(0.8)
    finished.click("volumeCurveButton")
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 1


def test_a_correction_right_after_loading_a_scene_counts(browser, finished, tmp_path):
    show_frame(browser, 2)
    finished.settle()
    assert slicer.util.saveScene(str(tmp_path / "cine.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "cine.mrb"))
    finished.until(lambda: "EF 60 %" in finished.ui.functionLabel.text)
    node, volume = finished.panel.parameterNode.resultSegmentation, finished.panel.parameterNode.resultVolume
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, "left_ventricle", volume)
    array[6:] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, "left_ventricle", volume)
    finished.until(lambda: "EF 80 %" in finished.ui.functionLabel.text)


def test_the_way_to_end_systole_ends_playing(browser, finished):
    browser.SetPlaybackActive(True)
    finished.click("endSystoleButton")
    assert not browser.GetPlaybackActive()
    assert browser.GetSelectedItemNumber() == 2


def test_the_curve_keeps_its_columns_where_a_segment_is_called_otherwise_in_one_frame(browser, finished):
    node = finished.panel.parameterNode.resultSegmentation
    show_frame(browser, 1)
    node.GetSegmentation().GetSegment("left_ventricle").SetName("LV")
    node.GetSegmentation().AddEmptySegment("papillary", "Papillary muscles")
    finished.settle()
    finished.click("volumeCurveButton")
    volume = show_frame(browser, 2)
    empty = np.zeros((12, 24, 24), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(empty, node, "left_ventricle", volume)
    finished.until(lambda: "No left ventricle was found in frame 3." in finished.ui.functionLabel.text)
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    columns = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    assert columns == ["Frame", "Left ventricle (mL)", "Myocardium (mL)", "Papillary muscles (mL)"]
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [one.GetYColumnName() for one in series] == columns[1:]


def test_a_deleted_table_and_chart_are_made_again(browser, finished):
    finished.click("volumeCurveButton")
    for className in ("vtkMRMLPlotChartNode", "vtkMRMLTableNode"):
        slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetFirstNodeByClass(className))
    finished.click("volumeCurveButton")
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [one.GetTableNode() for one in series] == [table, table]


def test_looking_at_other_frames_counts_no_voxels_again(browser, finished, monkeypatch):
    counted = []
    real = SequenceVolumes._volumeML
    monkeypatch.setattr(SequenceVolumes, "_volumeML", lambda *given: counted.append(given) or real(*given))
    show_frame(browser, 2)
    finished.until(lambda: shownVolume(finished) == "1.60")
    assert counted == []
    node, volume = finished.panel.parameterNode.resultSegmentation, show_frame(browser, 1)
    empty = np.zeros((12, 24, 24), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(empty, node, "left_ventricle", volume)
    finished.until(lambda: "No left ventricle" in finished.ui.functionLabel.text)
    assert 0 < len(counted) <= 2


def test_no_ejection_fraction_is_shown_of_a_ventricle_that_is_empty_at_end_diastole():
    frames = [{"left_ventricle": 4.0, "right_ventricle": 0.0}, {"left_ventricle": 2.0, "right_ventricle": 1.0}]
    from UDFASegmentationLib.FunctionSection import functionText

    text = functionText(cardiac_function(frames))
    assert "RV: EDV 0 mL, ESV 1 mL, SV -1 mL\n" in text
