"""Writing into a segmentation that is there already: what is kept, what is replaced, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

from headless.reading import LABELMAP, internal_voxels, read_by_position, segment_ids
from headless.samples import add_volume, fake_model, fake_result, ijk_to_ras, random_labelmap
from udfa.errors import InvalidInputError
from UDFASegmentationLib.Contracts import SegmentationSettings
from UDFASegmentationLib.SegmentationLogic import SegmentationLogic
from UDFASegmentationLib.SegmentationWriter import SURFACE, writeResult
from UDFASegmentationLib.VolumeConversion import labelsInImage

SHAPE = (6, 7, 8)
LOGIC = slicer.vtkSlicerSegmentationsModuleLogic


@pytest.fixture
def first() -> np.ndarray:
    return random_labelmap(np.random.default_rng(1), SHAPE, 3)


@pytest.fixture
def second() -> np.ndarray:
    return random_labelmap(np.random.default_rng(2), SHAPE, 3)


@pytest.fixture
def volume() -> Any:
    return add_volume(matrix=ijk_to_ras((1.0, 1.5, 2.0)))


@pytest.fixture
def node(volume: Any, first: np.ndarray) -> Any:
    """A segmentation with spleen, right_kidney and liver from the first labelmap, in one layer."""
    return writeResult(volume, fake_result(first), fake_model(first))


def write(volume: Any, labelmap: np.ndarray, *names: str, **settings: Any) -> Any:
    return writeResult(volume, fake_result(labelmap), fake_model(labelmap, *names), SegmentationSettings(**settings))


def voxels(labelmap: np.ndarray, value: int) -> set[tuple[int, int, int]]:
    return {(int(i), int(j), int(k)) for k, j, i in np.argwhere(labelmap == value)}


def test_existing_segments_are_kept_and_new_ones_get_their_own_names_and_ids(volume, node, first, second):
    assert write(volume, second, segmentationNode=node) is node
    names = [node.GetSegmentation().GetSegment(segment_id).GetName() for segment_id in segment_ids(node)]
    assert segment_ids(node) == ["spleen", "right_kidney", "liver", "spleen_2", "right_kidney_2", "liver_2"]
    assert names == ["Spleen", "Right kidney", "Liver", "Spleen 2", "Right kidney 2", "Liver 2"]
    for value, segment_id in enumerate(["spleen", "right_kidney", "liver"], start=1):
        assert internal_voxels(node, segment_id) == voxels(first, value)
        assert internal_voxels(node, f"{segment_id}_2") == voxels(second, value)


def test_replacing_changes_only_the_segments_of_the_same_name(volume, node, first, second):
    second[second == 2] = 0
    second[second == 3] = 2
    write(volume, second, "liver", "aorta", segmentationNode=node, replaceExisting=True)
    assert segment_ids(node) == ["spleen", "right_kidney", "liver", "aorta"]
    assert internal_voxels(node, "spleen") == voxels(first, 1)
    assert internal_voxels(node, "right_kidney") == voxels(first, 2)
    assert internal_voxels(node, "liver") == voxels(second, 1)
    assert internal_voxels(node, "aorta") == voxels(second, 2)


def test_replacing_leaves_no_voxels_behind_that_belong_to_no_segment(volume, node, second):
    second[second > 1] = 0
    write(volume, second, "liver", segmentationNode=node, replaceExisting=True)
    segmentation = node.GetSegmentation()
    segments = [segmentation.GetSegment(segment_id) for segment_id in segment_ids(node)]
    owned: dict[Any, set[int]] = {}
    for segment in segments:
        owned.setdefault(segment.GetRepresentation(LABELMAP), set()).add(segment.GetLabelValue())
    assert len(owned) == 2
    for image, values in owned.items():
        assert labelsInImage(image) == values


def test_a_segment_of_the_same_name_but_another_id_is_replaced(volume, node, second):
    segment = node.GetSegmentation().GetSegment("liver")
    segment.SetName("My cyst")
    other = slicer.vtkSegment()
    other.SetName("LIVER")
    node.GetSegmentation().RemoveSegment("liver")
    node.GetSegmentation().AddSegment(other, "Segment_4")
    second[second < 3] = 0
    second[second == 3] = 1
    write(volume, second, "liver", segmentationNode=node, replaceExisting=True)
    assert segment_ids(node) == ["spleen", "right_kidney", "Segment_4"]
    assert internal_voxels(node, "Segment_4") == voxels(second, 1)


def test_a_replaced_segment_keeps_colour_name_place_and_visibility_but_must_be_reviewed_again(volume, node, second):
    segment = node.GetSegmentation().GetSegment("spleen")
    segment.SetColor(0.1, 0.2, 0.3)
    segment.SetName("Milz")
    LOGIC.SetSegmentStatus(segment, LOGIC.Completed)
    node.GetDisplayNode().SetSegmentOpacity3D("spleen", 0.25)
    write(volume, second, segmentationNode=node, replaceExisting=True)
    segment = node.GetSegmentation().GetSegment("spleen")
    assert segment_ids(node) == ["spleen", "right_kidney", "liver"]
    assert segment.GetColor() == (0.1, 0.2, 0.3)
    assert segment.GetName() == "Milz"
    assert node.GetDisplayNode().GetSegmentOpacity3D("spleen") == 0.25
    assert LOGIC.GetSegmentStatus(segment) == LOGIC.NotStarted
    assert internal_voxels(node, "spleen") == voxels(second, 1)


def test_replacing_by_an_empty_label_empties_the_segment(volume, node, first, second):
    second[second == 2] = 0
    write(volume, second, segmentationNode=node, replaceExisting=True)
    assert node.GetAttribute("UDFA.EmptyLabels") == "right_kidney"
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "right_kidney", volume)
    assert mask is None or not mask.any()
    assert internal_voxels(node, "liver") == voxels(second, 3)


def test_a_result_on_another_grid_is_added_without_resampling_either(volume, node, first):
    fine = add_volume(np.zeros((9, 9, 9), np.int16), ijk_to_ras((0.5, 0.5, 0.5), origin=(2.0, 2.0, 2.0)), name="fine")
    labelmap = random_labelmap(np.random.default_rng(5), (9, 9, 9), 1)
    write(fine, labelmap, "aorta", segmentationNode=node)
    for value, segment_id in enumerate(["spleen", "right_kidney", "liver"], start=1):
        assert internal_voxels(node, segment_id) == voxels(first, value)
    for segment_id in ("spleen", "right_kidney", "liver"):
        node.GetSegmentation().RemoveSegment(segment_id)
    np.testing.assert_array_equal(read_by_position(node, fine), labelmap)


def test_surfaces_that_are_shown_already_are_made_for_the_new_segments_too(volume, node, second):
    node.CreateClosedSurfaceRepresentation()
    write(volume, second, "aorta", segmentationNode=node)
    assert node.GetSegmentation().GetSegment("aorta").GetRepresentation(SURFACE).GetNumberOfCells() > 0


def test_surfaces_of_kept_segments_are_as_before_after_replacing_others(volume, node, second):
    node.CreateClosedSurfaceRepresentation()
    before = surface_points(node, "liver")
    second[second != 1] = 0
    write(volume, second, "spleen", segmentationNode=node, replaceExisting=True)
    np.testing.assert_array_equal(surface_points(node, "liver"), before)


def surface_points(node: Any, segment_id: str) -> np.ndarray:
    surface = node.GetSegmentation().GetSegment(segment_id).GetRepresentation(SURFACE)
    return numpy_support.vtk_to_numpy(surface.GetPoints().GetData()).copy()


def test_the_surface_of_a_replaced_segment_is_that_of_its_new_voxels(volume, node):
    node.CreateClosedSurfaceRepresentation()
    labelmap = np.zeros(SHAPE, np.uint8)
    labelmap[2:4, 2:5, 2:6] = 1
    write(volume, labelmap, segmentationNode=node, replaceExisting=True)
    bounds = node.GetSegmentation().GetSegment("spleen").GetRepresentation(SURFACE).GetBounds()
    # I 2..5, J 2..4, K 2..3 with spacing 1, 1.5 and 2 mm; smoothing may pull a face in by up to a voxel.
    box = (2, 5, 3, 6, 4, 6)
    assert all(abs(found - expected) <= 2.0 for found, expected in zip(bounds, box, strict=True))
    assert bounds[0] > 1
    assert bounds[5] < 8


@pytest.fixture
def implant() -> Any:
    """A segmentation that is stored as closed surfaces."""
    sphere = vtk.vtkSphereSource()
    sphere.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "implant")
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "screw", [1.0, 0.0, 0.0], "screw")
    return node


def test_a_segmentation_that_is_stored_as_surfaces_is_refused(volume, implant, second):
    with pytest.raises(InvalidInputError, match="'implant' is stored as closed surface"):
        write(volume, second, segmentationNode=implant)
    assert segment_ids(implant) == ["screw"]


def test_a_segmentation_that_cannot_take_the_result_is_refused_before_the_run(volume, implant, second):
    model = fake_model(second)
    with pytest.raises(InvalidInputError, match="'implant' is stored as closed surface"):
        SegmentationLogic().segmentVolume(volume, model, SegmentationSettings(segmentationNode=implant))
    assert model.engine.volume is None


def test_a_segmentation_that_was_deleted_during_the_run_is_refused(volume, node, second):
    slicer.mrmlScene.RemoveNode(node)
    with pytest.raises(InvalidInputError, match="is not in the scene of the volume"):
        write(volume, second, segmentationNode=node)
