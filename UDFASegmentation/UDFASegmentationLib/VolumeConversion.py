"""From MRML to arrays and back: volumes for the network, and labelmaps as oriented images in a segmentation's space.

Arrays are (D, H, W) = numpy KJI. MRML speaks RAS, `udfa` speaks LPS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

from udfa.errors import InvalidInputError
from udfa.geometry import Volume, check_geometry
from udfa.statistics import voxel_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])
SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two voxel axes that still counts as a right angle, as rounding in headers explains."""


def readVolume(volumeNode: Any, copy: bool = False) -> Volume:
    """Describe a scalar volume node to the core. Call it on the main thread.

    Slice direction and patient axes come from the node's own IJK to RAS matrix, not from its parent transform: the
    matrix tells how the patient was scanned, which is what the network was trained on, while a parent transform, such
    as a registration to another scan, only moves the finished image to another place.

    Args:
        volumeNode: vtkMRMLScalarVolumeNode, also the proxy node of a sequence.
        copy: Copy the voxels, so that the result stays valid when the node changes during a run on another thread.
            Otherwise the array is a view of the node's voxels.

    Returns:
        Volume with (D, H, W) voxels, spacing in mm, directions and origin in LPS.

    Raises:
        InvalidInputError: Not a scalar volume, without voxels, or with an unusable geometry.
    """
    _checkVolumeNode(volumeNode)
    array = slicer.util.arrayFromVolume(volumeNode)
    ijkToRas = imageToNodeMatrix(volumeNode)
    columns = ijkToRas[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    directions = LPS_FROM_RAS @ np.divide(columns, spacing, out=np.zeros((3, 3)), where=spacing > 0)
    first = [*volumeNode.GetImageData().GetExtent()[::2], 1.0]
    origin = LPS_FROM_RAS @ (ijkToRas @ first)[:3]
    volume = Volume(
        array=array.copy() if copy else array,
        spacing_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        direction=directions[:, ::-1].copy(),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
    )
    check_geometry(volume)
    return volume


def _checkVolumeNode(volumeNode: Any) -> None:
    if volumeNode is None:
        raise InvalidInputError("No volume is selected. Choose the volume to segment.")
    name = volumeNode.GetName()
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InvalidInputError(
            f"'{name}' is a labelmap, not an image. Choose the CT or MR volume. (If it is an image that was loaded as "
            f"a labelmap, convert it in the Volumes module.)"
        )
    imageData = volumeNode.GetImageData() if volumeNode.IsA("vtkMRMLVolumeNode") else None
    if not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        raise InvalidInputError(f"'{name}' is a {volumeNode.GetNodeTagName()}, but a scalar volume is needed.")
    if imageData is None or imageData.GetNumberOfPoints() == 0 or imageData.GetPointData().GetScalars() is None:
        raise InvalidInputError(f"The volume '{name}' has no voxels. Load the image again.")
    components = imageData.GetNumberOfScalarComponents()
    if components != 1:
        raise InvalidInputError(
            f"The volume '{name}' has {components} components per voxel (colour or vector image). "
            f"Convert it first with the module Vector to Scalar Volume."
        )


def imageToNodeMatrix(volumeNode: Any) -> NDArray[np.float64]:
    """Return the volume's IJK to RAS matrix, (4, 4), without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def orientedImage(
    labelmap: NDArray[np.uint8], box: tuple[slice, slice, slice], volumeNode: Any
) -> slicer.vtkOrientedImageData:
    """Return the part of a labelmap inside a box as an image with the volume's geometry.

    Args:
        labelmap: (D, H, W) on the volume's grid.
        box: Part to keep, as (D, H, W) slices; the image's extent tells where it lies in the volume's grid.
        volumeNode: The volume; its parent transform is not applied.
    """
    first = volumeNode.GetImageData().GetExtent()[::2]
    image = slicer.vtkOrientedImageData()
    k, j, i = (slice(part.start + offset, part.stop + offset) for part, offset in zip(box, reversed(first)))
    image.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
    voxels = np.ascontiguousarray(labelmap[box], dtype=np.uint8)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(voxels.ravel(), deep=True))
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(imageToNodeMatrix(volumeNode)))
    return image


def moveToSegmentation(
    image: slicer.vtkOrientedImageData, volumeNode: Any, segmentationNode: Any
) -> tuple[slicer.vtkOrientedImageData, str]:
    """Express an image in the segmentation node's space, where both nodes may be under different transforms.

    `slicer.util.updateSegmentBinaryLabelmapFromArray` and importing a labelmap node apply the transform between the
    two nodes twice, so the image is moved here, once. Voxels are kept as they are whenever the moved grid is still a
    grid with right angles; otherwise (shear, uneven scaling of an oblique volume, non-linear transforms) they are
    resampled with nearest neighbours.

    Returns:
        The image, changed in place if possible, and a note if it was resampled (else empty).

    Raises:
        InvalidInputError: The image vanished in resampling.
    """
    source, target = volumeNode.GetParentTransformNode(), segmentationNode.GetParentTransformNode()
    if source is target:
        return image, ""
    matrix = vtk.vtkMatrix4x4()
    if slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, matrix):
        imageToVolume = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(imageToVolume)
        vtk.vtkMatrix4x4.Multiply4x4(matrix, imageToVolume, imageToVolume)
        if not _isSheared(slicer.util.arrayFromVTKMatrix(imageToVolume)):
            image.SetGeometryFromImageToWorldMatrix(imageToVolume)
            return image, ""
        # Slicer does not see that a general transform made of two linear ones is linear, and resamples it worse.
        transform = vtk.vtkTransform()
        transform.SetMatrix(matrix)
    else:
        transform = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return _resampled(image, transform, segmentationNode)


def _isSheared(imageToWorld: NDArray[np.float64]) -> bool:
    axes = imageToWorld[:3, :3] / np.linalg.norm(imageToWorld[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE)


def _resampled(
    image: slicer.vtkOrientedImageData, transform: vtk.vtkAbstractTransform, segmentationNode: Any
) -> tuple[slicer.vtkOrientedImageData, str]:
    """Resample an image into the segmentation's reference geometry, or, without one, into a grid of its own spacing."""
    geometry = segmentationNode.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    resample = slicer.vtkOrientedImageDataResample
    moved = slicer.vtkOrientedImageData()
    if geometry:
        reference = slicer.vtkOrientedImageData()
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, reference, False)
        resample.ResampleOrientedImageToReferenceOrientedImage(image, reference, moved, False, True, transform)
    else:
        moved.DeepCopy(image)
        resample.TransformOrientedImage(moved, transform, False, True)
    if moved.IsEmpty() or moved.GetScalarRange()[1] == 0:
        raise InvalidInputError(
            f"The transform between the volume and the segmentation '{segmentationNode.GetName()}' leaves nothing of "
            f"the result. Choose a new segmentation, or put both under the same transform."
        )
    return moved, (
        f"The labelmap was resampled, because the transform between the volume and '{segmentationNode.GetName()}' "
        f"is not rigid. For voxel-exact results choose a new segmentation."
    )


def labelsInImage(image: slicer.vtkOrientedImageData) -> set[int]:
    """Return the label values that occur in a uint8 image."""
    return presentLabels(numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()))


def presentLabels(labelmap: NDArray[np.uint8]) -> set[int]:
    """Return the label values that occur in a labelmap of any shape, background left out."""
    return {int(value) for value in np.flatnonzero(voxel_counts(labelmap)) if value > 0}
