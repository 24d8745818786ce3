"""Every voxel of the labelmap ends up at its place in the world, however volume and segmentation are transformed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer

from headless.reading import read_by_position, read_with_slicer, segment_ids
from headless.samples import (
    add_shift_field,
    add_transform,
    add_volume,
    fake_model,
    fake_result,
    ijk_to_ras,
    random_directions,
    random_labelmap,
    random_matrix,
)
from udfa.errors import InvalidInputError
from UDFASegmentationLib.Contracts import SegmentationSettings
from UDFASegmentationLib.SegmentationLogic import SegmentationLogic
from UDFASegmentationLib.SegmentationWriter import writeResult

SHAPE = (6, 7, 8)
CASES = range(20)


def write(volume: Any, labelmap: np.ndarray, **settings: Any) -> Any:
    return writeResult(volume, fake_result(labelmap), fake_model(labelmap), SegmentationSettings(**settings))


def segmentation_with_geometry_of(volume: Any, transform: Any) -> Any:
    """A segmentation node under a transform, with one segment (of voxel 0), so that it is not as good as new."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "given")
    labelmap = np.zeros(SHAPE, np.uint8)
    labelmap[0, 0, 0] = 1
    write(volume, labelmap, segmentationNode=node, labels=("spleen",))
    node.SetAndObserveTransformNodeID(transform.GetID() if transform else None)
    return node


@pytest.mark.parametrize("seed", CASES)
def test_a_random_oblique_flipped_transformed_volume_gets_its_labelmap_back_voxel_for_voxel(seed: int):
    random = np.random.default_rng(seed)
    labelmap = random_labelmap(random, SHAPE, 3)
    volume = add_volume(matrix=random_matrix(random))
    if seed % 2:
        volume.SetAndObserveTransformNodeID(add_transform(ijk_to_ras(rotation=random_directions(random))).GetID())
    node = SegmentationLogic().segmentVolume(volume, fake_model(labelmap))
    assert segment_ids(node) == ["spleen", "right_kidney", "liver"]
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    np.testing.assert_array_equal(read_with_slicer(node, volume), labelmap)
    np.testing.assert_array_equal(read_by_position(node, volume), labelmap)


@pytest.mark.parametrize("volume_moves", [False, True])
@pytest.mark.parametrize("segmentation_moves", [False, True])
@pytest.mark.parametrize("seed", CASES)
def test_a_given_segmentation_under_another_transform_gets_the_voxels_at_their_place(
    seed: int, volume_moves: bool, segmentation_moves: bool
):
    random = np.random.default_rng(seed)
    labelmap = random_labelmap(random, SHAPE, 1)
    volume = add_volume(matrix=random_matrix(random))
    transforms = [add_transform(ijk_to_ras(rotation=random_directions(random), origin=(5, -3, 8))) for _ in range(2)]
    node = segmentation_with_geometry_of(volume, transforms[0] if segmentation_moves else None)
    volume.SetAndObserveTransformNodeID(transforms[1].GetID() if volume_moves else None)
    settings = SegmentationSettings(segmentationNode=node)
    writeResult(volume, fake_result(labelmap), fake_model(labelmap, "aorta"), settings)
    assert segment_ids(node) == ["spleen", "aorta"]
    node.GetSegmentation().RemoveSegment("spleen")
    np.testing.assert_array_equal(read_by_position(node, volume), labelmap)
    if not (volume_moves and segmentation_moves):
        # Between two transforms Slicer's own export resamples more than once, and is no exact witness.
        np.testing.assert_array_equal(read_with_slicer(node, volume), labelmap)


def test_nested_transforms_on_both_sides_are_all_applied_once():
    random = np.random.default_rng(7)
    labelmap = random_labelmap(random, SHAPE, 1)
    volume = add_volume(matrix=random_matrix(random))
    outer = add_transform(ijk_to_ras(rotation=random_directions(random), origin=(1, 2, 3)))
    inner = add_transform(ijk_to_ras(rotation=random_directions(random), origin=(-4, 0, 9)), parent=outer)
    other = add_transform(ijk_to_ras(rotation=random_directions(random), origin=(7, 7, 7)), parent=outer)
    node = segmentation_with_geometry_of(volume, other)
    volume.SetAndObserveTransformNodeID(inner.GetID())
    write(volume, labelmap, segmentationNode=node, replaceExisting=True)
    np.testing.assert_array_equal(read_by_position(node, volume), labelmap)


def test_a_new_segmentation_under_a_non_linear_transform_keeps_every_voxel():
    labelmap = random_labelmap(np.random.default_rng(3), SHAPE, 3)
    volume = add_volume(matrix=ijk_to_ras((2.0, 2.0, 2.0)))
    volume.SetAndObserveTransformNodeID(add_shift_field((4.0, 0.0, 0.0)).GetID())
    node = write(volume, labelmap)
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    assert node.GetAttribute("UDFA.Notes") == ""
    np.testing.assert_array_equal(read_with_slicer(node, volume), labelmap)


def test_a_non_linear_transform_between_volume_and_segmentation_resamples_and_says_so():
    labelmap = np.zeros(SHAPE, np.uint8)
    labelmap[2:4, 2:5, 1:4] = 1
    labelmap[2:4, 2:5, 4:5] = 2
    volume = add_volume(matrix=ijk_to_ras((2.0, 2.0, 2.0)))
    node = segmentation_with_geometry_of(volume, None)
    # The field moves the volume by 4 mm = 2 voxels along I in the segmentation's space.
    volume.SetAndObserveTransformNodeID(add_shift_field((4.0, 0.0, 0.0)).GetID())
    write(volume, labelmap, segmentationNode=node, replaceExisting=True)
    volume.SetAndObserveTransformNodeID(None)
    np.testing.assert_array_equal(read_by_position(node, volume), np.roll(labelmap, 2, axis=2))
    assert "was resampled" in node.GetAttribute("UDFA.Notes")


def test_a_shearing_transform_between_volume_and_segmentation_resamples_into_its_geometry():
    labelmap = np.zeros(SHAPE, np.uint8)
    labelmap[1:5, 1:5, 1:4] = 1
    volume = add_volume()
    node = segmentation_with_geometry_of(volume, None)
    shear = np.eye(4)
    shear[0, 2] = 1.0
    volume.SetAndObserveTransformNodeID(add_transform(shear).GetID())
    write(volume, labelmap, segmentationNode=node, replaceExisting=True)
    volume.SetAndObserveTransformNodeID(None)
    # x' = x + z: slice k moves by k voxels along I; the label reaches the last column, and no farther.
    expected = np.stack([np.roll(plane, k, axis=1) for k, plane in enumerate(labelmap)])
    np.testing.assert_array_equal(read_with_slicer(node, volume), expected)
    assert "was resampled" in node.GetAttribute("UDFA.Notes")


def test_a_transform_that_leaves_nothing_of_the_result_is_an_error_before_anything_changes():
    labelmap = np.zeros(SHAPE, np.uint8)
    labelmap[3, 3, 3] = 1
    volume = add_volume()
    node = segmentation_with_geometry_of(volume, None)
    squeeze = np.diag([1.0, 1.0, 0.01, 1.0])
    squeeze[0, 2] = 0.3
    squeeze[2, 3] = 0.5
    volume.SetAndObserveTransformNodeID(add_transform(squeeze).GetID())
    before = node.GetMTime(), node.GetSegmentation().GetMTime(), slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(InvalidInputError, match="leaves nothing of the result"):
        write(volume, labelmap, segmentationNode=node)
    assert before == (node.GetMTime(), node.GetSegmentation().GetMTime(), slicer.mrmlScene.GetNumberOfNodes())


def test_an_empty_segmentation_node_takes_over_the_transform_of_the_volume():
    labelmap = random_labelmap(np.random.default_rng(1), SHAPE, 3)
    volume = add_volume()
    volume.SetAndObserveTransformNodeID(add_shift_field((4.0, 0.0, 0.0)).GetID())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "output")
    assert write(volume, labelmap, segmentationNode=node) is node
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    np.testing.assert_array_equal(read_with_slicer(node, volume), labelmap)


def test_an_empty_segmentation_node_with_a_transform_of_its_own_keeps_it():
    random = np.random.default_rng(2)
    labelmap = random_labelmap(random, SHAPE, 3)
    volume = add_volume(matrix=random_matrix(random))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "output")
    transform = add_transform(ijk_to_ras(rotation=random_directions(random), origin=(9, 9, 9)))
    node.SetAndObserveTransformNodeID(transform.GetID())
    write(volume, labelmap, segmentationNode=node)
    assert node.GetTransformNodeID() == transform.GetID()
    np.testing.assert_array_equal(read_by_position(node, volume), labelmap)
    np.testing.assert_array_equal(read_with_slicer(node, volume), labelmap)


def test_a_volume_whose_extent_starts_elsewhere_gets_its_labelmap_back():
    labelmap = random_labelmap(np.random.default_rng(4), SHAPE, 3)
    volume = add_volume(matrix=ijk_to_ras((2.0, 3.0, 4.0)))
    volume.GetImageData().SetExtent(5, 12, -2, 4, 1, 6)
    node = write(volume, labelmap)
    found = {
        segment_id: slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
        for segment_id in segment_ids(node)
    }
    for value, segment_id in enumerate(segment_ids(node), start=1):
        np.testing.assert_array_equal(found[segment_id] > 0, labelmap == value)
