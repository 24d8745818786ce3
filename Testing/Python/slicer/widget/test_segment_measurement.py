"""Volumes and intensities of segments, on real segmentation nodes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slicer
import slicer.util

from headless.samples import add_transform, add_volume, ijk_to_ras
from UDFASegmentationLib import Provenance
from UDFASegmentationLib.SegmentMeasurement import measure, takeSnapshot


@pytest.fixture
def image(scene):
    """6 x 7 x 8 voxels (D, H, W) of 1 x 2 x 0.5 mm (I, J, K), values 0 to 335."""
    return add_volume(matrix=ijk_to_ras((1.0, 2.0, 0.5)))


def segmentation_of(volume, labels):
    """A segmentation on the volume's grid from (D, H, W) masks by name."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, mask in labels.items():
        node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, name, volume)
    return node


def rows_of(node, volume):
    return {row.segmentID: row for row in measure(takeSnapshot(node, volume))}


def test_volume_and_mean_are_those_of_the_voxels(image):
    mask = np.zeros((6, 7, 8), bool)
    mask[1, 2, 3:5] = True
    (row,) = rows_of(segmentation_of(image, {"a": mask}), image).values()
    # Two voxels of 1 mm3, values 1 * 56 + 2 * 8 + 3 and one more.
    assert row.volumeML == pytest.approx(0.002)
    assert row.meanIntensity == pytest.approx(75.5)


def test_overlapping_segments_are_measured_each_by_itself(image):
    first, second = np.zeros((2, 6, 7, 8), bool)
    first[0, 0, 0:3] = True
    second[0, 0, 2:6] = True
    rows = rows_of(segmentation_of(image, {"a": first, "b": second}), image)
    assert rows["a"].meanIntensity == pytest.approx(1.0)
    assert rows["b"].meanIntensity == pytest.approx(3.5)


def test_an_empty_segment_has_no_mean(image):
    node = segmentation_of(image, {})
    node.GetSegmentation().AddEmptySegment("empty", "empty")
    (row,) = rows_of(node, image).values()
    assert row.volumeML == 0
    assert math.isnan(row.meanIntensity)


def test_structures_that_were_not_found_are_listed_last(image):
    mask = np.zeros((6, 7, 8), bool)
    mask[0, 0, 0] = True
    node = segmentation_of(image, {"liver": mask})
    node.SetAttribute(Provenance.EMPTY_LABELS, "spleen, liver")
    rows = measure(takeSnapshot(node, image))
    # A liver was drawn by hand since; only the spleen is still missing.
    assert [(row.title, row.status) for row in rows] == [("liver", "Not started"), ("Spleen", "Not found")]


def test_a_segment_on_another_grid_is_measured_on_the_volumes_grid(image):
    coarse = add_volume(np.zeros((3, 4, 4), np.int16), ijk_to_ras((2.0, 4.0, 1.0)), "coarse")
    mask = np.zeros((3, 4, 4), bool)
    mask[1, 1, 1] = True
    node = segmentation_of(coarse, {"a": mask})
    (row,) = rows_of(node, image).values()
    # One voxel of 8 mm3 covers 2 x 2 x 2 voxels of 1 mm3, give or take where centres fall on its border.
    assert row.volumeML == pytest.approx(0.008, abs=0.004)
    assert row.meanIntensity == pytest.approx(2 * 56 + 2 * 8 + 2, abs=40)


def test_a_shared_parent_transform_changes_nothing(image):
    mask = np.zeros((6, 7, 8), bool)
    mask[1, 2, 3:5] = True
    node = segmentation_of(image, {"a": mask})
    transform = add_transform(ijk_to_ras((1.0, 1.0, 1.0), origin=(30.0, -20.0, 10.0)))
    for moved in (image, node):
        moved.SetAndObserveTransformNodeID(transform.GetID())
    (row,) = rows_of(node, image).values()
    assert row.meanIntensity == pytest.approx(75.5)


def test_a_segmentation_that_was_moved_is_measured_where_it_lies_now(image):
    mask = np.zeros((6, 7, 8), bool)
    mask[1, 2, 3:5] = True
    node = segmentation_of(image, {"a": mask})
    # One voxel towards higher I: by 1 mm.
    node.SetAndObserveTransformNodeID(add_transform(ijk_to_ras(origin=(1.0, 0.0, 0.0))).GetID())
    (row,) = rows_of(node, image).values()
    assert row.meanIntensity == pytest.approx(76.5)


def test_changes_after_the_snapshot_do_not_reach_the_numbers(image):
    mask = np.zeros((6, 7, 8), bool)
    mask[1, 2, 3:5] = True
    node = segmentation_of(image, {"a": mask})
    snapshot = takeSnapshot(node, image)
    slicer.util.arrayFromVolume(image)[:] = 0
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "a")[:] = 0
    (row,) = measure(snapshot)
    assert row.meanIntensity == pytest.approx(75.5)
