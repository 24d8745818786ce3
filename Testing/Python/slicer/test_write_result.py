"""A new segmentation node: what it holds, how it is called and shown."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from headless.reading import LABELMAP, segment_ids
from headless.samples import add_volume, fake_model, fake_result, ijk_to_ras
from udfa import __version__
from udfa.errors import InvalidInputError
from udfa.labels import KNOWN_LABELS
from UDFASegmentationLib.Contracts import SegmentationSettings
from UDFASegmentationLib.SegmentationWriter import SURFACE, writeResult

SHAPE = (6, 7, 8)


@pytest.fixture
def labelmap() -> np.ndarray:
    """Labels 1 and 3 of three; their common box is K 1..4, J 2..5, I 3..6."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 2:4, 3:5] = 1
    array[3:5, 4:6, 5:7] = 3
    return array


def test_segments_come_in_label_order_with_names_colours_and_terminology_of_the_label_table(labelmap: np.ndarray):
    volume = add_volume()
    node = writeResult(volume, fake_result(labelmap), fake_model(labelmap, "liver", "spleen", "left_kidney"))
    assert segment_ids(node) == ["liver", "left_kidney"]
    for segment_id in segment_ids(node):
        segment, label = node.GetSegmentation().GetSegment(segment_id), KNOWN_LABELS[segment_id]
        assert segment.GetName() == label.title
        np.testing.assert_allclose(segment.GetColor(), label.color01, atol=1e-9)
        assert segment.GetTerminology() == label.terminology()


def test_a_label_that_is_not_in_the_table_gets_a_readable_name_and_no_terminology(labelmap: np.ndarray):
    node = writeResult(add_volume(), fake_result(labelmap), fake_model(labelmap, "bile_duct", "spleen", "liver"))
    segment = node.GetSegmentation().GetSegment("bile_duct")
    assert segment.GetName() == "Bile duct"
    assert segment.GetTerminology() == slicer.vtkSegment().GetTerminology()


def test_terminology_is_written_as_a_tag_where_segments_have_no_terminology_method(
    labelmap: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    class SegmentOfSlicer58(slicer.vtkSegment):
        @property
        def SetTerminology(self) -> None:
            raise AttributeError("SetTerminology came with Slicer 5.10.")

    monkeypatch.setattr(slicer, "vtkSegment", SegmentOfSlicer58)
    node = writeResult(add_volume(), fake_result(labelmap), fake_model(labelmap))
    segment = node.GetSegmentation().GetSegment("spleen")
    assert segment.GetTerminology() == KNOWN_LABELS["spleen"].terminology()


def test_all_segments_share_one_small_labelmap_on_the_grid_of_the_volume(labelmap: np.ndarray):
    volume = add_volume(matrix=ijk_to_ras((2.0, 3.0, 4.0), origin=(10.0, 0.0, -5.0)))
    node = writeResult(volume, fake_result(labelmap), fake_model(labelmap))
    segmentation = node.GetSegmentation()
    images = [segmentation.GetSegment(segment_id).GetRepresentation(LABELMAP) for segment_id in segment_ids(node)]
    assert segmentation.GetNumberOfLayers() == 1
    assert images[0] is images[1]
    assert images[0].GetScalarTypeAsString() == "unsigned char"
    assert images[0].GetExtent() == (3, 6, 2, 5, 1, 4)
    assert images[0].GetSpacing() == pytest.approx((2.0, 3.0, 4.0))
    assert images[0].GetOrigin() == pytest.approx((10.0, 0.0, -5.0))


def test_the_volume_becomes_the_reference_geometry(labelmap: np.ndarray):
    volume = add_volume()
    node = writeResult(volume, fake_result(labelmap), fake_model(labelmap))
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    assert node.GetSegmentation().GetConversionParameter(name).endswith("0;7;0;6;0;5;")


def test_the_node_is_named_after_the_volume_and_names_stay_unique(labelmap: np.ndarray):
    volume = add_volume(name="Abdomen")
    names = [writeResult(volume, fake_result(labelmap), fake_model(labelmap)).GetName() for _ in range(2)]
    assert names == ["Abdomen segmentation", "Abdomen segmentation_1"]


def test_the_new_node_is_shown_in_2d_and_its_segments_await_review(labelmap: np.ndarray):
    node = writeResult(add_volume(), fake_result(labelmap), fake_model(labelmap))
    display = node.GetDisplayNode()
    assert display.GetVisibility()
    assert display.GetVisibility2DFill()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.GetSegmentStatus(node.GetSegmentation().GetSegment("spleen")) == logic.NotStarted


def test_empty_labels_give_no_segments_and_are_reported(labelmap: np.ndarray):
    node = writeResult(add_volume(), fake_result(labelmap), fake_model(labelmap))
    assert segment_ids(node) == ["spleen", "liver"]
    assert node.GetAttribute("UDFA.EmptyLabels") == "right_kidney"


@pytest.mark.parametrize("surfaces", [False, True])
def test_a_result_without_any_voxel_gives_a_segmentation_without_segments(surfaces: bool):
    labelmap = np.zeros(SHAPE, np.uint8)
    settings = SegmentationSettings(closedSurface=surfaces)
    node = writeResult(add_volume(), fake_result(labelmap), fake_model(labelmap), settings)
    assert segment_ids(node) == []
    assert node.GetAttribute("UDFA.EmptyLabels") == "spleen, right_kidney, liver"


def test_labels_that_were_not_asked_for_are_neither_written_nor_reported(labelmap: np.ndarray):
    labelmap[labelmap == 3] = 0
    settings = SegmentationSettings(labels=("spleen",))
    node = writeResult(add_volume(), fake_result(labelmap), fake_model(labelmap), settings)
    assert segment_ids(node) == ["spleen"]
    assert node.GetAttribute("UDFA.EmptyLabels") == ""


def test_closed_surfaces_are_made_only_on_request(labelmap: np.ndarray):
    volume, model = add_volume(), fake_model(labelmap)
    without = writeResult(volume, fake_result(labelmap), model)
    with_surfaces = writeResult(volume, fake_result(labelmap), model, SegmentationSettings(closedSurface=True))
    assert not without.GetSegmentation().ContainsRepresentation(SURFACE)
    for segment_id in segment_ids(with_surfaces):
        surface = with_surfaces.GetSegmentation().GetSegment(segment_id).GetRepresentation(SURFACE)
        assert surface.GetNumberOfCells() > 0
    # Making the surfaces must not take voxels from the shared labelmap.
    assert slicer.util.arrayFromSegmentBinaryLabelmap(with_surfaces, "spleen", volume).sum() == 2 * 2 * 2


def test_node_and_segments_tell_which_model_made_them(labelmap: np.ndarray):
    node = writeResult(add_volume(), fake_result(labelmap, ("Looks like MR.",)), fake_model(labelmap))
    attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames() if name.startswith("UDFA.")}
    assert attributes == {
        "UDFA.Model": "fake",
        "UDFA.ModelSHA256": "0123abcd",
        "UDFA.Version": __version__,
        "UDFA.Device": "cpu, float32, batches of 4",
        "UDFA.Seconds": "1.2",
        "UDFA.EmptyLabels": "right_kidney",
        "UDFA.Notes": "Looks like MR.",
    }
    tag = vtk.reference("")
    assert node.GetSegmentation().GetSegment("liver").GetTag("UDFA.ModelSHA256", tag)
    assert tag.get() == "0123abcd"


def test_the_node_joins_the_study_of_the_volume_where_the_application_keeps_items(labelmap: np.ndarray):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    volume = add_volume()
    hierarchy.CreateItem(study, volume)

    def add_item(scene: object, event: str) -> None:
        # The application's plug-ins make an item for each data node as soon as it is added.
        for candidate in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), candidate)

    observer = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, add_item)
    try:
        node = writeResult(volume, fake_result(labelmap), fake_model(labelmap))
    finally:
        slicer.mrmlScene.RemoveObserver(observer)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_a_volume_that_changed_during_the_run_is_an_error(labelmap: np.ndarray):
    volume = add_volume(np.zeros((5, 7, 8), np.int16))
    with pytest.raises(InvalidInputError, match=r"\(6, 7, 8\) voxels.*\(5, 7, 8\): it was changed during the run"):
        writeResult(volume, fake_result(labelmap), fake_model(labelmap))


def test_a_volume_that_was_deleted_during_the_run_is_an_error(labelmap: np.ndarray):
    volume = add_volume()
    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(InvalidInputError, match="no longer in the scene"):
        writeResult(volume, fake_result(labelmap), fake_model(labelmap))
