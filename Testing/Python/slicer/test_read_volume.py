"""Volume nodes become udfa volumes in the right place, and unusable ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from headless.samples import add_transform, add_volume, ijk_to_ras, random_matrix
from udfa.errors import InvalidInputError
from udfa.volume_io import read_volume
from UDFASegmentationLib.VolumeConversion import readVolume


def test_spacing_directions_and_origin_of_a_plain_volume_are_those_of_its_matrix_in_lps():
    node = add_volume(np.zeros((2, 3, 4), np.int16), ijk_to_ras((0.5, 0.75, 3.0), origin=(10.0, 20.0, 30.0)))
    volume = readVolume(node)
    assert volume.array.shape == (2, 3, 4)
    assert volume.spacing_mm == (3.0, 0.75, 0.5)
    # K runs towards superior, J towards anterior, I towards right (RAS) = -y and -x in LPS.
    np.testing.assert_array_equal(volume.direction, [[0, 0, -1], [0, -1, 0], [1, 0, 0]])
    assert volume.origin_mm == (-10.0, -20.0, 30.0)


def test_voxels_are_a_view_unless_a_copy_is_asked_for():
    node = add_volume()
    view, copy = readVolume(node).array, readVolume(node, copy=True).array
    slicer.util.arrayFromVolume(node)[1, 2, 3] = -7
    assert view[1, 2, 3] == -7
    assert copy[1, 2, 3] == 1 * 56 + 2 * 8 + 3


@pytest.mark.parametrize("seed", range(5))
def test_an_oblique_volume_is_the_same_as_when_its_file_is_read_without_slicer(seed: int, tmp_path: Path):
    node = add_volume(matrix=random_matrix(np.random.default_rng(seed)))
    path = tmp_path / "oblique.nrrd"
    assert slicer.util.saveNode(node, str(path))
    ours, theirs = readVolume(node), read_volume(path)
    np.testing.assert_array_equal(ours.array, theirs.array)
    np.testing.assert_allclose(ours.spacing_mm, theirs.spacing_mm, rtol=1e-9)
    np.testing.assert_allclose(ours.direction, theirs.direction, atol=1e-9)
    np.testing.assert_allclose(ours.origin_mm, theirs.origin_mm, atol=1e-6)


def test_the_parent_transform_does_not_change_how_the_patient_was_scanned():
    node = add_volume()
    before = readVolume(node)
    node.SetAndObserveTransformNodeID(add_transform(ijk_to_ras(rotation=np.diag([-1.0, -1.0, 1.0]))).GetID())
    after = readVolume(node)
    np.testing.assert_array_equal(before.direction, after.direction)
    assert before.origin_mm == after.origin_mm


def test_the_origin_is_that_of_the_first_voxel_even_if_the_extent_starts_elsewhere():
    node = add_volume(matrix=ijk_to_ras((2.0, 3.0, 4.0), origin=(1.0, 1.0, 1.0)))
    node.GetImageData().SetExtent(5, 12, 0, 6, 1, 6)
    assert readVolume(node).origin_mm == (-(1.0 + 5 * 2.0), -1.0, 1.0 + 1 * 4.0)


def test_no_volume_is_refused():
    with pytest.raises(InvalidInputError, match="No volume is selected"):
        readVolume(None)


def test_a_volume_without_image_data_is_refused():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(InvalidInputError, match="'empty' has no voxels"):
        readVolume(node)


def test_a_volume_of_size_zero_is_refused():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    node.SetAndObserveImageData(vtk.vtkImageData())
    with pytest.raises(InvalidInputError, match="'nothing' has no voxels"):
        readVolume(node)


def test_a_colour_volume_is_refused():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    slicer.util.updateVolumeFromArray(node, np.zeros((2, 3, 4, 3), np.uint8))
    with pytest.raises(InvalidInputError, match="'photo' has 3 components per voxel"):
        readVolume(node)


def test_a_labelmap_is_refused():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(node, np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(InvalidInputError, match="'labels' is a labelmap, not an image"):
        readVolume(node)


def test_a_node_that_is_no_volume_is_refused():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "surface")
    with pytest.raises(InvalidInputError, match="a scalar volume is needed"):
        readVolume(node)


def test_a_sheared_volume_is_refused():
    matrix = np.eye(4)
    matrix[1, 2] = 0.2
    with pytest.raises(InvalidInputError, match="not orthonormal"):
        readVolume(add_volume(matrix=matrix))


def test_a_volume_with_a_spacing_of_zero_is_refused():
    matrix = np.diag([1.0, 1.0, 0.0, 1.0])
    with pytest.raises(InvalidInputError, match="must be positive"):
        readVolume(add_volume(matrix=matrix))
