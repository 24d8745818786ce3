"""UDFA Click under every mask mode and overwrite mode, held against what Slicer itself says may be edited."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import slicer
import slicer.util
from vtk.util import numpy_support

from doubles.click_bench import MATRIX, SHAPE, Bench, greedy_spleen, half_liver
from headless.samples import add_transform, ijk_to_ras
from UDFASegmentationLib.VolumeConversion import orientedImage

MASK_MODES = (
    "EditAllowedEverywhere",
    "EditAllowedInsideAllSegments",
    "EditAllowedInsideVisibleSegments",
    "EditAllowedOutsideAllSegments",
    "EditAllowedOutsideVisibleSegments",
    "EditAllowedInsideSingleSegment",
)
OVERWRITE_MODES = ("OverwriteAllSegments", "OverwriteVisibleSegments", "OverwriteNone")
HU_RANGE = (0.0, 90.0)
"""Holds the liver, not the spleen."""


def addFence(bench: Bench) -> None:
    """A third segment, which overlaps the others and stands for no label: rows 12-19."""
    fence = np.zeros(SHAPE, np.uint8)
    fence[:, 12:20, 2:28] = 1
    extra = slicer.vtkSegment()
    extra.SetName("Fence")
    bench.segmentation.GetSegmentation().AddSegment(extra, "fence")
    image = orientedImage(fence, tuple(slice(0, n) for n in SHAPE), bench.volume)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, bench.segmentation, "fence", 0)


def mayBeEdited(bench: Bench) -> np.ndarray:
    """Where Slicer's own editor logic allows the selected segment to be edited. (D, H, W) bool."""
    logic, node = bench.editor.logic, bench.editor.node
    allowed = np.ones(SHAPE, bool)
    if node.GetMaskMode() != slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere:
        assert logic.UpdateMaskLabelmap()
        mask = logic.GetMaskLabelmap()
        (i0, i1, j0, j1, k0, k1) = mask.GetExtent()
        forbidden = numpy_support.vtk_to_numpy(mask.GetPointData().GetScalars())
        allowed[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = forbidden.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1) == 0
    if node.GetSourceVolumeIntensityMask():
        hu = slicer.util.arrayFromVolume(bench.volume)
        allowed &= (hu >= HU_RANGE[0]) & (hu <= HU_RANGE[1])
    return allowed


CASES = [
    *itertools.product(MASK_MODES, OVERWRITE_MODES, (False,)),
    *itertools.product(MASK_MODES[:1], OVERWRITE_MODES, (True,)),
]


@pytest.mark.parametrize(("mask", "overwrite", "intensity"), CASES)
def test_no_click_changes_what_slicer_forbids_and_undo_brings_all_back(make, mask, overwrite, intensity):
    bench = make(greedy_spleen())
    addFence(bench)
    display = bench.segmentation.GetDisplayNode()
    display.SetSegmentVisibility("fence", False)
    node = bench.editor.node
    node.SetMaskMode(getattr(slicer.vtkMRMLSegmentationNode, mask))
    node.SetMaskSegmentID("fence")
    node.SetOverwriteMode(getattr(slicer.vtkMRMLSegmentEditorNode, overwrite))
    node.SetSourceVolumeIntensityMask(intensity)
    node.SetSourceVolumeIntensityMaskRange(*HU_RANGE)
    start, changed = bench.labelmaps(), 0
    for segmentID, voxel, positive in (
        ("liver", (2, 15, 12), True),
        ("liver", (2, 9, 5), False),
        ("spleen", (2, 15, 20), False),
        ("spleen", (2, 26, 20), True),
    ):
        bench.editor.select(segmentID)
        before, allowed = bench.labelmaps(), mayBeEdited(bench)
        wasVisible = {name: display.GetSegmentVisibility(name) for name in before}
        bench.click(voxel, positive=positive)
        after = bench.labelmaps()
        for name in before:
            difference = before[name] != after[name]
            changed += int(difference.sum())
            assert not (difference & ~allowed).any(), (name, voxel)
            lost = before[name] & ~after[name]
            if name != segmentID and lost.any():
                assert overwrite != "OverwriteNone"
                assert overwrite == "OverwriteAllSegments" or wasVisible[name]
        if allowed[voxel]:
            assert after[segmentID][voxel] == positive
    while bench.editor.logic.CanUndo():
        bench.undo()
    assert all((bench.labelmaps()[name] == start[name]).all() for name in start)
    assert bench.prompts == []
    assert changed > 0


ANGLE = np.radians(20.0)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1.0]])


@pytest.mark.parametrize("transformed", [False, True])
def test_the_intensity_mask_also_holds_on_oblique_volumes_under_transforms(make, transformed):
    """Slicer applies this mask even where masking is bypassed, and drops the whole edit if the grids do not match."""
    bench = make(greedy_spleen(), ijk_to_ras((1.0, 1.0, 2.0), TURN @ np.diag([-1.0, -1.0, 1.0]), (3.0, 4.0, 5.0)))
    if transformed:
        shift = add_transform(ijk_to_ras((1.0, 1.0, 1.0), TURN, (30.0, -20.0, 10.0)))
        bench.segmentation.SetAndObserveTransformNodeID(shift.GetID())
        bench.volume.SetAndObserveTransformNodeID(shift.GetID())
    bench.editor.node.SourceVolumeIntensityMaskOn()
    bench.editor.node.SetSourceVolumeIntensityMaskRange(*HU_RANGE)
    before = bench.labelmaps()
    bench.click((2, 15, 12))
    after = bench.labelmaps()
    assert after["liver"][2, 15, 12]
    allowed = mayBeEdited(bench)
    assert not any(((before[name] != after[name]) & ~allowed).any() for name in before)


def test_the_matrix_of_the_bench_is_not_the_identity():
    """Otherwise the tests above could not tell the directions of the axes apart."""
    assert not np.allclose(MATRIX[:3, :3], np.eye(3))


def test_a_segment_below_the_others_does_not_keep_the_clicks_from_following_an_undo(make):
    """Many segmentations have a body or a region over everything."""
    bench = make(greedy_spleen())
    addFence(bench)
    bench.click((2, 15, 12))
    bench.editor.select("spleen")
    bench.click((2, 15, 20), positive=False)
    assert len(bench.prompts) == 2
    bench.undo()
    assert [position for position, _, _ in bench.prompts] == [(2, 15, 12)]
    bench.redo()
    assert [position for position, _, _ in bench.prompts] == [(2, 15, 12), (2, 15, 20)]


def test_a_redo_that_makes_segments_overlap_again_is_followed(make):
    bench = make(greedy_spleen())
    bench.editor.host.setParameter("CarrySlices", 0)
    bench.editor.node.SetOverwriteMode(bench.editor.node.OverwriteNone)
    voxel = (2, 10, 12)
    bench.click(voxel)
    assert bench.labelmaps()["liver"][voxel]
    assert bench.labelmaps()["spleen"][voxel]
    bench.undo()
    assert bench.prompts == []
    bench.redo()
    assert bench.prompts == [(voxel, 1, True)]
    bench.click(voxel, positive=False)
    assert not bench.labelmaps()["liver"][voxel]


def test_segments_that_a_click_leaves_alone_cause_no_errors_in_slicers_log(make):
    bench = make(half_liver())
    addFence(bench)
    bench.editor.node.SetOverwriteMode(bench.editor.node.OverwriteVisibleSegments)
    errors = []
    bench.segmentation.GetDisplayNode().AddObserver("ErrorEvent", lambda caller, event: errors.append(event))
    # Rows 8-11 and 20-23 become liver; the fence between them lies in the box as well.
    assert "changed" in bench.click((2, 10, 12), (2, 22, 12))
    assert errors == []


def test_where_two_segments_overlap_choosing_the_other_is_no_edit(make):
    from udfa.audit import read_audit

    bench = make(greedy_spleen())
    bench.editor.node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    bench.click((2, 15, 12))
    maps = bench.labelmaps()
    assert (maps["liver"] & maps["spleen"]).any()
    bench.editor.select("spleen")
    bench.click((2, 15, 20), positive=False)
    assert [edit.kind for edit in read_audit(bench.segmentation.GetAttribute("UDFA.Audit")).edits] == ["click", "click"]
