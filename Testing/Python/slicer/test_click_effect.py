"""UDFA Click on Slicer's own Segment Editor logic: clicks, masks, overwrite modes, undo, locks, queue."""

from __future__ import annotations

import time

import numpy as np
import pytest
import slicer
import vtk

from doubles.click_bench import LIVER, SHAPE, greedy_spleen, half_liver, truth
from headless.samples import add_transform, add_volume, ijk_to_ras
from udfa.audit import read_audit
from udfa.labels import describe


def count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


def test_a_click_adds_the_missing_half_of_the_liver_in_its_slice(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    before = bench.labelmaps()
    bench.click((2, 15, 12))
    after = bench.labelmaps()
    # 16 rows x 6 columns.
    assert count(after["liver"] & ~before["liver"]) == 96
    assert (after["liver"][2] == (truth()[2] == LIVER)).all()
    assert (after["liver"][[0, 1, 3, 4, 5]] == before["liver"][[0, 1, 3, 4, 5]]).all()
    assert (after["spleen"] == before["spleen"]).all()
    assert bench.editor.host.calls == ["saveStateForUndo", "modifySegmentByLabelmap"]


def test_carrying_fills_the_neighbouring_slices_too(make):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    assert (bench.labelmaps()["liver"] == (truth() == LIVER)).all()


def test_a_negative_click_gives_the_voxels_to_the_neighbour_whose_they_are(make):
    bench = make(greedy_spleen())
    bench.editor.select("spleen")
    bench.click((2, 15, 12), positive=False)
    after = bench.labelmaps()
    assert after["liver"][2, 15, 12]
    assert not after["spleen"][2, 15, 12]
    assert not (after["liver"] & after["spleen"]).any()


def test_undo_and_redo_of_the_editor_restore_segments_and_prompts(make):
    bench = make(half_liver())
    start = bench.labelmaps()
    bench.click((2, 15, 12))
    end = bench.labelmaps()
    assert bench.prompts == [((2, 15, 12), LIVER, True)]
    bench.undo()
    assert all((bench.labelmaps()[name] == start[name]).all() for name in start)
    assert bench.prompts == []
    bench.redo()
    assert all((bench.labelmaps()[name] == end[name]).all() for name in end)
    assert bench.prompts == [((2, 15, 12), LIVER, True)]


def test_several_quick_undos_of_the_editor_take_all_their_clicks_back(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    start = bench.labelmaps()
    voxels = [(2, 15, 12), (3, 15, 12)]
    for voxel in voxels:
        bench.click(voxel)
    end = bench.labelmaps()
    bench.editor.logic.Undo()
    bench.undo()
    assert all((bench.labelmaps()[name] == start[name]).all() for name in start)
    assert bench.prompts == []
    bench.editor.logic.Redo()
    bench.redo()
    assert all((bench.labelmaps()[name] == end[name]).all() for name in end)
    assert [position for position, _, _ in bench.prompts] == voxels
    edits = read_audit(bench.segmentation.GetAttribute("UDFA.Audit")).edits
    assert [(edit.kind, edit.undone) for edit in edits] == [("click", False), ("click", False)]


def test_after_an_undo_and_a_click_that_changes_nothing_the_editors_redo_brings_the_first_click_back(make):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    bench.undo()
    bench.click((2, 15, 5))
    bench.redo()
    assert bench.labelmaps()["liver"][2, 15, 12]
    assert [position for position, _, _ in bench.prompts] == [(2, 15, 5), (2, 15, 12)]
    edits = read_audit(bench.segmentation.GetAttribute("UDFA.Audit")).edits
    assert [(edit.kind, edit.undone) for edit in edits] == [("click", False), ("click", False)]


def test_one_click_is_one_step_of_undo_even_when_two_segments_change(make):
    bench = make(greedy_spleen())
    start = bench.labelmaps()
    bench.click((2, 15, 12))
    assert count(bench.labelmaps()["spleen"]) < count(start["spleen"])
    bench.undo()
    assert all((bench.labelmaps()[name] == start[name]).all() for name in start)
    assert not bench.editor.logic.CanUndo()


@pytest.mark.parametrize("mode", ["EditAllowedOutsideVisibleSegments", "EditAllowedOutsideAllSegments"])
def test_with_masking_outside_segments_no_neighbour_loses_a_voxel(make, mode):
    bench = make(greedy_spleen())
    bench.editor.node.SetMaskMode(getattr(slicer.vtkMRMLSegmentationNode, mode))
    before = bench.labelmaps()
    status = bench.click((2, 15, 12))
    after = bench.labelmaps()
    assert "outside the region that may be edited" in status
    assert all((after[name] == before[name]).all() for name in before)
    assert bench.editor.host.calls == []


def test_masking_inside_a_segment_keeps_the_change_inside_it(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    fence = np.zeros(SHAPE, np.uint8)
    fence[:, :, 8:13] = 1
    extra = slicer.vtkSegment()
    extra.SetName("Fence")
    segmentation = bench.segmentation.GetSegmentation()
    segmentation.AddSegment(extra, "fence")
    from UDFASegmentationLib.VolumeConversion import orientedImage

    box = tuple(slice(0, n) for n in SHAPE)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
        orientedImage(fence, box, bench.volume), bench.segmentation, "fence", 0
    )
    bench.segmentation.GetDisplayNode().SetSegmentVisibility("fence", False)
    bench.editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    bench.editor.node.SetMaskSegmentID("fence")
    before = bench.labelmaps()
    bench.click((2, 15, 14))
    assert (bench.labelmaps()["liver"] == before["liver"]).all()


def test_the_intensity_mask_is_respected(make):
    bench = make(half_liver())
    bench.editor.node.SourceVolumeIntensityMaskOn()
    bench.editor.node.SetSourceVolumeIntensityMaskRange(100.0, 200.0)
    before = bench.labelmaps()
    assert "outside the region" in bench.click((2, 15, 12))
    assert (bench.labelmaps()["liver"] == before["liver"]).all()


def test_the_intensity_mask_works_on_segmentations_whose_grid_begins_elsewhere(make):
    bench = make(half_liver())
    # As of a larger volume that this one was cropped from. Slicer wants modifiers on exactly this grid.
    matrix = vtk.vtkMatrix4x4()
    bench.volume.GetIJKToRASMatrix(matrix)
    larger = slicer.util.arrayFromVTKMatrix(matrix)
    larger[:3, 3] = (larger @ [-2, -3, 0, 1])[:3]
    image = slicer.vtkOrientedImageData()
    image.SetExtent(0, 39, 0, 39, 0, 5)
    converter, segmentation = slicer.vtkSegmentationConverter, bench.segmentation.GetSegmentation()
    geometry = converter.SerializeImageGeometry(slicer.util.vtkMatrixFromArray(larger), image)
    segmentation.SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), geometry)
    bench.editor.node.SourceVolumeIntensityMaskOn()
    bench.editor.node.SetSourceVolumeIntensityMaskRange(0.0, 100.0)
    assert "voxels in" in bench.click((2, 15, 12))
    assert (bench.labelmaps()["liver"] == (truth() == LIVER)).all()


@pytest.mark.parametrize(
    ("mode", "hidden", "keeps"),
    [
        ("OverwriteAllSegments", False, False),
        ("OverwriteAllSegments", True, False),
        ("OverwriteVisibleSegments", False, False),
        ("OverwriteVisibleSegments", True, True),
        ("OverwriteNone", False, True),
    ],
)
def test_the_overwrite_mode_says_whether_the_neighbour_keeps_what_the_liver_takes(make, mode, hidden, keeps):
    bench = make(greedy_spleen())
    bench.editor.node.SetOverwriteMode(getattr(slicer.vtkMRMLSegmentEditorNode, mode))
    bench.segmentation.GetDisplayNode().SetSegmentVisibility("spleen", not hidden)
    before = bench.labelmaps()
    bench.click((2, 15, 12))
    after = bench.labelmaps()
    assert after["liver"][2, 15, 12]
    assert bool(after["spleen"][2, 15, 12]) is keeps
    assert (count(after["spleen"]) == count(before["spleen"])) is keeps
    bench.undo()
    assert all((bench.labelmaps()[name] == before[name]).all() for name in before)
    assert bench.prompts == []


def test_a_locked_neighbour_loses_nothing_and_a_locked_segment_takes_no_click(make):
    bench = make(greedy_spleen())
    before = bench.labelmaps()
    bench.effect.options.lockOthers.click()
    assert bench.segmentation.GetSegmentation().GetSegment("spleen").HasTag("UDFA.Locked")
    bench.click((2, 15, 12))
    assert (bench.labelmaps()["spleen"] == before["spleen"]).all()
    bench.editor.select("spleen")
    assert "'Spleen' is locked" in bench.click((2, 15, 5))
    assert all((bench.labelmaps()[name] == before[name]).all() for name in before)


def test_what_was_painted_by_hand_between_clicks_is_kept(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    bench.click((2, 15, 12))
    paint = np.zeros((1, 3, 3), np.uint8) + 1
    from UDFASegmentationLib.ClickGrid import clickGrid

    box = (slice(3, 4), slice(2, 5), slice(2, 5))
    modifier = clickGrid(bench.volume, bench.segmentation).modifier(paint.astype(bool), box)
    bench.editor.logic.SaveStateForUndo()
    add = bench.editor.logic.ModificationModeAdd
    bench.editor.logic.ModifySegmentByLabelmap(bench.segmentation, "liver", modifier, add, True, False)
    bench.click((3, 15, 12))
    liver = bench.labelmaps()["liver"]
    assert liver[3, 2:5, 2:5].all()
    assert liver[3, 15, 12]
    bench.undo()
    assert not bench.labelmaps()["liver"][3, 15, 12]
    assert bench.labelmaps()["liver"][3, 2:5, 2:5].all()
    assert bench.prompts == [((2, 15, 12), LIVER, True)]


def test_a_stroke_is_one_edit_and_one_step_of_undo(make):
    bench = make(half_liver())
    bench.click((2, 10, 12), (2, 14, 12), (2, 20, 12))
    assert bench.editor.host.calls.count("saveStateForUndo") == 1
    audit = read_audit(bench.segmentation.GetAttribute("UDFA.Audit"))
    assert [edit.kind for edit in audit.edits] == ["scribble"]
    bench.undo()
    assert bench.prompts == []


def test_the_record_of_clicks_tells_place_effect_and_what_was_undone(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    bench.click((2, 15, 12))
    bench.undo()
    (edit,) = read_audit(bench.segmentation.GetAttribute("UDFA.Audit")).edits
    assert (edit.label, edit.sign, edit.changed_voxels, edit.undone) == ("liver", "+", 96, True)
    assert edit.clicks[0].ras_mm == pytest.approx((-2.0, 5.0, -1.0))
    # 96 voxels of 2 mm3.
    assert edit.effect["liver"].ml == pytest.approx(0.192)


def test_of_the_clicks_made_during_a_click_the_last_one_is_answered(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    bench.effect.controller.carrySlices = 0
    bench.gate.clear()
    for slice_index in (1, 2, 3):
        bench.controller.click([bench.ras((slice_index, 15, 12))], True)
    bench.gate.set()
    bench.until(lambda: len(bench.prompts) == 2)
    assert [position[0] for position, _, _ in bench.prompts] == [1, 3]


@pytest.mark.parametrize("closing", [False, True])
def test_putting_the_tool_away_or_closing_the_scene_during_a_click_is_safe(make, closing):
    bench = make(half_liver())
    before = bench.labelmaps()
    bench.gate.clear()
    bench.controller.click([bench.ras((2, 15, 12))], True)
    if closing:
        slicer.mrmlScene.Clear(False)
    else:
        bench.editor.deactivate()
    bench.gate.set()
    for _ in range(20):
        slicer.app.processEvents()
        time.sleep(0.01)
    assert bench.editor.host.calls == []
    if not closing:
        assert (bench.labelmaps()["liver"] == before["liver"]).all()
        bench.editor.activate()
        bench.click((2, 15, 12))
        assert (bench.labelmaps()["liver"] == (truth() == LIVER)).all()
        assert bench.prompts == [((2, 15, 12), LIVER, True)]


def test_a_failure_of_the_network_is_told_and_changes_nothing(make):
    bench = make(half_liver())
    before = bench.labelmaps()
    bench.segmenter.errors = [ValueError("network broken")]
    assert "network broken" in bench.click((2, 15, 12))
    assert (bench.labelmaps()["liver"] == before["liver"]).all()
    bench.click((2, 15, 12))
    assert bench.labelmaps()["liver"][2, 15, 12]


def test_oblique_volumes_under_a_transform_are_corrected_at_the_clicked_place(make):
    angle = np.radians(20.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    bench = make(half_liver(), ijk_to_ras((1.0, 1.0, 2.0), turn @ np.diag([-1.0, -1.0, 1.0]), (3.0, 4.0, 5.0)))
    shift = add_transform(ijk_to_ras((1.0, 1.0, 1.0), turn, (30.0, -20.0, 10.0)))
    bench.segmentation.SetAndObserveTransformNodeID(shift.GetID())
    bench.volume.SetAndObserveTransformNodeID(shift.GetID())
    bench.click((2, 15, 12))
    assert (bench.labelmaps()["liver"] == (truth() == LIVER)).all()


def test_where_no_model_knows_the_segment_the_effect_says_why(make):
    bench = make(half_liver())
    extra = slicer.vtkSegment()
    extra.SetName("Tumour")
    bench.segmentation.GetSegmentation().AddSegment(extra, "tumour")
    bench.editor.select("tumour")
    assert "'Tumour' is not one of the structures" in bench.effect.options.status.text
    bench.editor.select("liver")
    assert bench.effect.unavailable() == ""
    bench.entries.clear()
    bench.editor.select("spleen")
    assert "No installed model takes clicks" in bench.effect.options.status.text
    assert "No installed model" in bench.click((2, 15, 12))


def test_a_segment_without_a_label_of_the_model_loses_nothing(make):
    bench = make(half_liver())
    bench.entries[0].info.labels = tuple(describe(name) for name in ("liver", "pancreas", "stomach"))
    before = bench.labelmaps()
    bench.click((2, 15, 20))
    assert (bench.labelmaps()["spleen"] == before["spleen"]).all()


def test_segmentations_on_another_grid_are_refused_with_a_reason(make):
    bench = make(half_liver())
    other = add_volume(np.zeros((6, 20, 20), np.int16), ijk_to_ras((1.7, 1.7, 2.0)))
    bench.editor.node.SetAndObserveSourceVolumeNode(other)
    assert "are not those of the volume" in bench.effect.unavailable()


def test_an_uncertainty_map_as_source_volume_is_refused(make):
    """It lies on the volume's own grid, and the editor's selector goes on to it when the volume is deleted."""
    from UDFASegmentationLib.UncertaintyReview import writeUncertainty

    bench = make(half_liver())
    node = writeUncertainty(bench.volume, np.zeros(SHAPE, np.uint8), "axial")
    bench.editor.node.SetAndObserveSourceVolumeNode(node)
    assert "is an uncertainty map" in bench.effect.unavailable()
    bench.editor.node.SetAndObserveSourceVolumeNode(bench.volume)
    assert bench.effect.unavailable() == ""


def test_editing_another_segmentation_ends_the_clicks_on_the_former_one(make):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    first = bench.segmentation
    bench.segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    bench.segmentation.Copy(first)
    bench.editor.node.SetAndObserveSegmentationNode(bench.segmentation)
    bench.editor.select("liver")
    assert bench.prompts == []
    before = first.GetAttribute("UDFA.Audit")
    bench.click((2, 15, 5), positive=False)
    assert bench.prompts == [((2, 15, 5), LIVER, False)]
    assert first.GetAttribute("UDFA.Audit") == before


def test_marks_do_not_pass_to_a_segmentation_that_was_chosen_while_the_tool_was_put_away(make):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    bench.editor.deactivate()
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    other.GetSegmentation().AddEmptySegment("scar", "Scar")
    bench.editor.node.SetAndObserveSegmentationNode(other)
    bench.editor.select("scar")
    bench.editor.activate()
    bench.settle()
    assert "not one of the structures" in bench.effect.options.status.text
    assert bench.prompts == []


def test_a_network_with_random_weights_honours_clicks_and_is_undone_exactly(make):
    from fakes.clicks import mini_segmenter

    bench = make(half_liver(), segmenter=mini_segmenter())
    bench.editor.host.setParameter("CarrySlices", 1)
    start = bench.labelmaps()
    bench.click((2, 15, 12))
    assert bench.labelmaps()["liver"][2, 15, 12]
    bench.click((3, 10, 6), positive=False)
    assert not bench.labelmaps()["liver"][3, 10, 6]
    bench.undo()
    bench.undo()
    assert all((bench.labelmaps()[name] == start[name]).all() for name in start)
    assert bench.prompts == []
