"""The source volume's voxel grid in the space of a segmentation: reading segments from it, writing modifiers on it.

Arrays are (D, H, W) = numpy KJI on the volume's grid. Positions in the world are RAS in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

from udfa.errors import InvalidInputError
from UDFASegmentationLib.VolumeConversion import imageToNodeMatrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from udfa.history import Box
    from udfa.interaction import Position

TOLERANCE = 1e-3
"""Largest deviation, in voxels per voxel and in voxels, that still counts as the same grid."""


@dataclass(frozen=True)
class ClickGrid:
    """The grid of a source volume, for a segmentation whose own grid is the same up to a shift by whole voxels.

    Attributes:
        volumeNode: The source volume.
        segmentationNode: The edited segmentation.
        shape: (D, H, W) of the volume.
    """

    volumeNode: Any
    segmentationNode: Any
    shape: tuple[int, int, int]

    def voxelAt(self, ras: tuple[float, float, float]) -> Optional[Position]:
        """Return the voxel (D, H, W) at a position in the world, None outside the volume."""
        local = [0.0, 0.0, 0.0]
        self.volumeNode.TransformPointFromWorld(ras, local)
        i, j, k, _ = np.linalg.inv(imageToNodeMatrix(self.volumeNode)) @ [*local, 1.0] - [*self._first(), 0]
        d, h, w = (int(np.floor(x + 0.5)) for x in (k, j, i))
        inside = all(0 <= p < n for p, n in zip((d, h, w), self.shape))
        return (d, h, w) if inside else None

    def positionOf(self, voxel: Position) -> tuple[float, float, float]:
        """Return the centre of a voxel (D, H, W) in the world."""
        ijk = np.asarray(voxel[::-1]) + self._first()
        local = (imageToNodeMatrix(self.volumeNode) @ [*ijk, 1.0])[:3]
        world = [0.0, 0.0, 0.0]
        self.volumeNode.TransformPointToWorld(tuple(local), world)
        return (world[0], world[1], world[2])

    def partOf(self, image: Any) -> Optional[tuple[Box, NDArray[np.generic]]]:
        """Return the part of an image inside the volume: where it lies, and a view of it; None if there is none.

        Args:
            image: vtkOrientedImageData in the segmentation's space, with voxels.

        Raises:
            InvalidInputError: Its voxels are not those of the volume.
        """
        shift = _shift(self._emptyImage(), image)
        if shift is None:
            raise InvalidInputError(
                f"A segment of '{self.segmentationNode.GetName()}' is not on the grid of the volume "
                f"'{self.volumeNode.GetName()}'. Choose the volume on which it was made as source volume."
            )
        extent = np.asarray(image.GetExtent()).reshape(3, 2)
        low = extent[:, 0] - shift - self._first()
        start = np.maximum(low, 0)
        stop = np.minimum(low + extent[:, 1] - extent[:, 0] + 1, self.shape[::-1])
        if (stop <= start).any():
            return None
        k, j, i = (slice(int(a), int(b)) for a, b in zip(start[::-1], stop[::-1]))
        inside = tuple(slice(int(a), int(b)) for a, b in zip((start - low)[::-1], (stop - low)[::-1]))
        return (k, j, i), imageArray(image)[inside]

    def editMask(self, maskMode: int, segmentID: str, maskSegmentID: str) -> NDArray[np.bool_]:
        """Return where the Segment Editor's masking lets a segment be edited, as Slicer itself works it out.

        Args:
            maskMode: One of vtkMRMLSegmentationNode's EditAllowed... modes.
            segmentID: The segment to edit.
            maskSegmentID: The segment that the mode is about, if it is about one.

        Returns:
            (D, H, W) bool on the volume's grid.
        """
        mask = slicer.vtkOrientedImageData()
        if not self.segmentationNode.GenerateEditMask(mask, maskMode, self._emptyImage(), segmentID, maskSegmentID):
            raise InvalidInputError(f"Slicer could not work out the mask for '{self.segmentationNode.GetName()}'.")
        return np.asarray(imageArray(mask) == 0)

    def modifier(self, mask: NDArray[np.bool_], box: Box) -> Any:
        """Return voxels of a box as an image for the Segment Editor, in the segmentation's space.

        The image's first voxel is that of the segmentation's own grid: where the editor masks by intensity, it does not
        take images that begin elsewhere.

        Args:
            mask: (D, H, W) of the box, the voxels to modify.
            box: Where it lies in the volume.
        """
        image = slicer.vtkOrientedImageData()
        grid = self._emptyImage()
        own = _ownGeometry(self.segmentationNode) or grid
        shift = _shift(grid, own)
        first = self._first() + (0 if shift is None else shift)
        k, j, i = (slice(part.start + int(n), part.stop + int(n)) for part, n in zip(box, reversed(first)))
        image.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
        voxels = np.ascontiguousarray(mask, dtype=np.uint8).ravel()
        image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(voxels, deep=True))
        matrix = vtk.vtkMatrix4x4()
        (grid if shift is None else own).GetImageToWorldMatrix(matrix)
        image.SetGeometryFromImageToWorldMatrix(matrix)
        return image

    def _first(self) -> NDArray[np.int64]:
        return np.asarray(self.volumeNode.GetImageData().GetExtent()[::2])

    def _emptyImage(self) -> Any:
        """The volume's geometry in the segmentation's space, without voxels."""
        return _geometry(self.volumeNode, self.segmentationNode)


def clickGrid(volumeNode: Any, segmentationNode: Any) -> ClickGrid:
    """Return the grid on which clicks work.

    Raises:
        InvalidInputError: The segmentation's voxels are not those of the volume.
    """
    geometry = _geometry(volumeNode, segmentationNode)
    name, volume = segmentationNode.GetName(), volumeNode.GetName()
    own = _ownGeometry(segmentationNode)
    if own is not None and _shift(geometry, own) is None:
        raise InvalidInputError(
            f"The voxels of '{name}' are not those of the volume '{volume}', so clicks would blur its borders. "
            f"Choose the volume on which it was made as source volume, or give the segmentation the geometry of "
            f"this one (button 'Specify geometry' in the Segment Editor)."
        )
    d, h, w = (int(n) for n in reversed(volumeNode.GetImageData().GetDimensions()))
    return ClickGrid(volumeNode, segmentationNode, (d, h, w))


def imageArray(image: Any) -> NDArray[np.generic]:
    """Return an image's voxels as a (D, H, W) view."""
    shape = tuple(reversed(image.GetDimensions()))
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)


def _geometry(volumeNode: Any, segmentationNode: Any) -> Any:
    """A volume's geometry in a segmentation's space, as an image without voxels.

    Raises:
        InvalidInputError: The transform between them bends or shears the grid.
    """
    image = slicer.vtkOrientedImageData()
    image.SetExtent(volumeNode.GetImageData().GetExtent())
    between = vtk.vtkMatrix4x4()
    source, target = volumeNode.GetParentTransformNode(), segmentationNode.GetParentTransformNode()
    if not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, between):
        raise InvalidInputError(_bent(volumeNode, segmentationNode))
    matrix = slicer.util.arrayFromVTKMatrix(between) @ imageToNodeMatrix(volumeNode)
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > TOLERANCE:
        raise InvalidInputError(_bent(volumeNode, segmentationNode))
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return image


def _ownGeometry(segmentationNode: Any) -> Optional[Any]:
    """A segmentation's own geometry, as an image without voxels; None if it has none yet."""
    serialised = segmentationNode.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    if not serialised:
        return None
    own = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(serialised, own, False)
    return own


def _bent(volumeNode: Any, segmentationNode: Any) -> str:
    return (
        f"The transform between the volume '{volumeNode.GetName()}' and '{segmentationNode.GetName()}' bends or shears "
        f"the voxels. Put both under the same transform, or harden it on both."
    )


def _shift(grid: Any, image: Any) -> Optional[NDArray[np.int64]]:
    """Return the I, J, K of an image that lie at the grid's 0, 0, 0; None if the voxels do not coincide."""
    matrices = []
    for one in (grid, image):
        matrix = vtk.vtkMatrix4x4()
        one.GetImageToWorldMatrix(matrix)
        matrices.append(slicer.util.arrayFromVTKMatrix(matrix))
    relative = np.linalg.inv(matrices[1]) @ matrices[0]
    shift = np.rint(relative[:3, 3])
    extent = float(np.max(np.abs(grid.GetExtent()))) + 1.0
    aligned = np.abs(relative[:3, :3] - np.eye(3)).max() * extent < 0.1 and np.abs(relative[:3, 3] - shift).max() < 0.1
    return shift.astype(np.int64) if aligned else None
