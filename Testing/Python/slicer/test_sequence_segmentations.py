"""All frames of a sequence: segmented, shown as the browser moves, corrected in their frame, saved with the scene."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from headless.reading import read_with_slicer
from headless.samples import add_cine, add_volume, cancel_after, fake_model, fake_result, ijk_to_ras, show_frame
from udfa.errors import CancelledError, InvalidInputError
from UDFASegmentationLib.Contracts import SegmentationSettings
from UDFASegmentationLib.Export import fileStem
from UDFASegmentationLib.SegmentationLogic import SegmentationLogic
from UDFASegmentationLib.SegmentationWriter import writeResult
from UDFASegmentationLib.SequenceFrames import allFrames
from UDFASegmentationLib.SequenceWriter import writeSequence

SHAPE = (3, 4, 5)
LABELS = ("left_ventricle", "myocardium")


def cine(count: int = 3, matrices=None):
    return add_cine({str(index): np.full(SHAPE, 100 * index, np.int16) for index in range(count)}, matrices)


def beating(index: int) -> np.ndarray:
    """A left ventricle of index + 1 voxels; myocardium in all but the first frame."""
    labelmap = np.zeros(SHAPE, np.uint8)
    labelmap[1, 1, : index + 1] = 1
    if index:
        labelmap[1, 2, 1:4] = 2
    return labelmap


def write(browser):
    proxy = show_frame(browser, 0)
    results = [fake_result(beating(index)) for index in range(3)]
    return writeSequence(proxy, allFrames(proxy), results, fake_model(beating(0), *LABELS))


def voxels(node, segmentID, volume):
    return int(slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume).sum())


def test_the_frames_of_a_sequence_are_those_of_the_browser():
    proxy = show_frame(cine(), 2)
    assert [(frame.index, frame.count) for frame in allFrames(proxy)] == [(0, 3), (1, 3), (2, 3)]
    assert allFrames(add_volume()) == []
    assert allFrames(None) == []


def test_the_segmentation_follows_the_browser_and_tells_its_frame():
    browser = cine()
    node = write(browser)
    for index in (0, 2, 1):
        volume = show_frame(browser, index)
        assert voxels(node, "left_ventricle", volume) == index + 1
        assert node.GetAttribute("UDFA.Frame") == f"{index + 1}/3"


def test_all_frames_have_the_same_segments_also_where_one_is_empty():
    browser = cine()
    node = write(browser)
    volume = show_frame(browser, 0)
    assert list(node.GetSegmentation().GetSegmentIDs()) == list(LABELS)
    assert voxels(node, "myocardium", volume) == 0
    assert node.GetAttribute("UDFA.EmptyLabels") == "myocardium"
    show_frame(browser, 1)
    assert list(node.GetSegmentation().GetSegmentIDs()) == list(LABELS)
    assert node.GetAttribute("UDFA.EmptyLabels") == ""


def test_a_frame_in_which_nothing_was_found_can_be_corrected():
    browser = cine(2)
    proxy = show_frame(browser, 0)
    empty = fake_result(np.zeros(SHAPE, np.uint8))
    node = writeSequence(proxy, allFrames(proxy), [empty, empty], fake_model(beating(0), *LABELS))
    slicer.util.updateSegmentBinaryLabelmapFromArray((beating(2) == 1).astype(np.uint8), node, "left_ventricle", proxy)
    assert voxels(node, "left_ventricle", proxy) == 3


def test_a_correction_stays_in_its_frame():
    browser = cine()
    node = write(browser)
    volume = show_frame(browser, 1)
    slicer.util.updateSegmentBinaryLabelmapFromArray((beating(2) == 1).astype(np.uint8), node, "left_ventricle", volume)
    assert voxels(node, "left_ventricle", volume) == 3
    counts = {index: voxels(node, "left_ventricle", show_frame(browser, index)) for index in (0, 2, 1)}
    assert counts == {0: 1, 1: 3, 2: 3}


def test_names_colours_terminology_and_display_are_those_of_a_single_result():
    node = write(cine())
    assert node.GetName() == "Cine segmentation"
    segment = node.GetSegmentation().GetSegment("left_ventricle")
    assert segment.GetName() == "Left ventricle"
    assert "87878005" in segment.GetTerminology()
    model = vtk.reference("")
    assert segment.GetTag("UDFA.Model", model)
    assert model == "fake"
    assert node.GetDisplayNode() is not None


def test_the_segmentation_lies_under_the_volumes_transform_in_every_frame():
    browser = cine(matrices={"1": ijk_to_ras((2.0, 2.0, 8.0))})
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    show_frame(browser, 0).SetAndObserveTransformNodeID(transform.GetID())
    node = write(browser)
    for index in (1, 0, 2):
        volume = show_frame(browser, index)
        assert node.GetParentTransformNode() is transform
        np.testing.assert_array_equal(read_with_slicer(node, volume), beating(index))


def test_under_a_transform_every_frame_is_edited_on_its_own_grid():
    browser = cine()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = vtk.vtkMatrix4x4()
    shift.SetElement(0, 3, 50.0)
    transform.SetMatrixTransformToParent(shift)
    show_frame(browser, 0).SetAndObserveTransformNodeID(transform.GetID())
    node = write(browser)
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    grids = set()
    for index in (0, 1, 2):
        show_frame(browser, index)
        grids.add(node.GetSegmentation().GetConversionParameter(name))
    assert grids == {"1;0;0;0;0;1;0;0;0;0;1;0;0;0;0;1;0;4;0;3;0;2;"}


def test_a_second_result_lies_beside_the_first():
    browser = cine()
    first, second = write(browser), write(browser)
    assert first is not second
    assert second.GetName() == "Cine segmentation_1"
    assert browser.GetNumberOfSynchronizedSequenceNodes(True) == 3


def test_files_are_named_after_the_frame_that_is_shown():
    browser = cine()
    node = write(browser)
    assert fileStem(node) == "Cine segmentation frame 1"
    show_frame(browser, 2)
    assert fileStem(node) == "Cine segmentation frame 3"
    volume = add_volume(np.zeros(SHAPE, np.int16), name="CT")
    single = writeResult(volume, fake_result(beating(1)), fake_model(beating(1), *LABELS))
    assert fileStem(single) == "CT segmentation"


def test_scripts_segment_a_whole_sequence():
    browser = cine()
    proxy = show_frame(browser, 1)
    seen = []
    node = SegmentationLogic().segmentSequence(proxy, fake_model(beating(1), *LABELS), progress=seen.append)
    assert voxels(node, "left_ventricle", proxy) == 2
    # Three frames of three slices each.
    assert (seen[-1].done, seen[-1].total) == (9, 9)
    assert [value.done for value in seen] == sorted(value.done for value in seen)


def test_scripts_get_the_closed_surfaces_of_all_frames():
    browser = cine()
    proxy = show_frame(browser, 0)
    settings = SegmentationSettings(closedSurface=True)
    node = SegmentationLogic().segmentSequence(proxy, fake_model(beating(1), *LABELS), settings)
    for index in (0, 1, 2):
        show_frame(browser, index)
        assert node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_a_cancelled_run_changes_nothing():
    proxy = show_frame(cine(), 0)
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(CancelledError):
        SegmentationLogic().segmentSequence(proxy, fake_model(beating(1), *LABELS), cancelled=cancel_after(5))
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_an_ordinary_volume_is_no_sequence():
    with pytest.raises(InvalidInputError, match="does not show a sequence"):
        SegmentationLogic().segmentSequence(add_volume(), fake_model(beating(0), *LABELS))


def test_a_frame_without_voxels_is_refused_and_not_taken_for_the_one_that_is_shown():
    browser = cine()
    browser.GetMasterSequenceNode().GetNthDataNode(1).SetAndObserveImageData(None)
    with pytest.raises(InvalidInputError, match="voxels"):
        SegmentationLogic().segmentSequence(show_frame(browser, 0), fake_model(beating(0), *LABELS))


def test_a_sequence_that_was_changed_meanwhile_is_left_alone():
    browser = cine()
    proxy = show_frame(browser, 0)
    frames = allFrames(proxy)
    browser.GetMasterSequenceNode().RemoveDataNodeAtValue("2")
    before = slicer.mrmlScene.GetNumberOfNodes()
    results = [fake_result(beating(index)) for index in range(3)]
    with pytest.raises(InvalidInputError, match="changed during the run"):
        writeSequence(proxy, frames, results, fake_model(beating(0), *LABELS))
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    wrong = [fake_result(beating(0)), fake_result(np.zeros((2, 2, 2), np.uint8))]
    with pytest.raises(InvalidInputError, match="was changed during the run"):
        writeSequence(proxy, allFrames(proxy), wrong, fake_model(beating(0), *LABELS))
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_playing_and_recording_stop_when_the_result_comes():
    browser = cine()
    proxy = show_frame(browser, 0)
    results = [fake_result(beating(index)) for index in range(3)]
    browser.SetRecordingActive(True)
    node = writeSequence(proxy, allFrames(proxy), results, fake_model(beating(0), *LABELS))
    assert not browser.GetRecordingActive()
    assert voxels(node, "left_ventricle", show_frame(browser, 2)) == 3


def test_the_sequence_comes_back_with_a_saved_scene(tmp_path):
    browser = cine()
    write(browser)
    path = tmp_path / "cine.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    browser = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    for index in (2, 0, 1):
        volume = show_frame(browser, index)
        node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        assert voxels(node, "left_ventricle", volume) == index + 1
