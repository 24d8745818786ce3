"""Reads segmentations back in two independent ways: through Slicer's resampling, and from voxel positions alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def segment_ids(node: Any) -> list[str]:
    """Return the segment IDs in their order."""
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]


def read_with_slicer(node: Any, volume: Any) -> NDArray[np.uint8]:
    """Return the (D, H, W) labelmap on a volume's grid as Slicer exports it: value n is the n-th segment."""
    return read_labels(node, volume, {name: value for value, name in enumerate(segment_ids(node), start=1)})


def read_labels(node: Any, volume: Any, values: dict[str, int]) -> NDArray[np.uint8]:
    """Return the (D, H, W) labelmap on a volume's grid as Slicer exports it, with a value for each segment ID."""
    labelmap = np.zeros(slicer.util.arrayFromVolume(volume).shape, dtype=np.uint8)
    for segment_id in segment_ids(node):
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
        if mask is not None:
            labelmap[mask > 0] = values[segment_id]
    return labelmap


def read_by_position(node: Any, volume: Any) -> NDArray[np.uint8]:
    """Return the same by moving each labelled voxel's centre to the world and looking up the volume's voxel there.

    Only for linear transforms, and grids on which voxel centres fall on voxel centres within 1/1000 voxel.
    """
    labelmap = np.zeros(slicer.util.arrayFromVolume(volume).shape, dtype=np.uint8)
    volume_from_world = np.linalg.inv(_to_world(volume) @ _ijk_to_ras(volume))
    for value, segment_id in enumerate(segment_ids(node), start=1):
        segment = node.GetSegmentation().GetSegment(segment_id)
        image = segment.GetRepresentation(LABELMAP)
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        world_from_image = _to_world(node) @ slicer.util.arrayFromVTKMatrix(matrix)
        found = volume_from_world @ world_from_image @ _labelled_ijk(image, segment.GetLabelValue())
        index = np.rint(found[:3])
        assert np.abs(found[:3] - index).max(initial=0) < 1e-3, "Voxel centres do not coincide."
        i, j, k = index.astype(int)
        labelmap[k, j, i] = value
    return labelmap


def internal_voxels(node: Any, segment_id: str) -> set[tuple[int, int, int]]:
    """Return the (I, J, K) of a segment's voxels in its own labelmap's grid."""
    segment = node.GetSegmentation().GetSegment(segment_id)
    indices = _labelled_ijk(segment.GetRepresentation(LABELMAP), segment.GetLabelValue())
    return {(int(i), int(j), int(k)) for i, j, k in indices[:3].T}


def _labelled_ijk(image: Any, value: int) -> NDArray[np.float64]:
    """Homogeneous (4, n) IJK indices of the voxels of one value."""
    array = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    i0, _, j0, _, k0, _ = image.GetExtent()
    k, j, i = np.nonzero(array.reshape(image.GetDimensions()[::-1]) == value)
    return np.stack([i + i0, j + j0, k + k0, np.ones_like(i)]).astype(float)


def _ijk_to_ras(volume: Any) -> NDArray[np.float64]:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _to_world(node: Any) -> NDArray[np.float64]:
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None:
        assert parent.GetMatrixTransformToWorld(matrix), "The transform is not linear."
    return slicer.util.arrayFromVTKMatrix(matrix)
