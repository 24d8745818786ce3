"""The uncertainty map in the scene: written, laid over the image, and walked through slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import slicer
import slicer.util
from slicer.i18n import tr as _

from UDFASegmentationLib.DoubtfulSlices import DOUBT_THRESHOLD, DoubtfulSlice, rankSlices
from UDFASegmentationLib.Provenance import describeFrame
from UDFASegmentationLib.SequenceFrames import Frame, frameVolume
from UDFASegmentationLib.VolumeConversion import imageToNodeMatrix, readVolume

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLOR_NODE_ID = "vtkMRMLColorTableNodeIron"
OVERLAY_OPACITY = 0.6
SLICE_AXIS = "UDFA.SliceAxis"
"""Attribute of the map: along which axis the network's slices lie."""

IMAGE_ROLE = "UDFA.Image"
"""Node reference of the map to the volume that was segmented."""


def writeUncertainty(
    volumeNode: Any,
    uncertainty: NDArray[np.uint8],
    sliceAxis: str,
    existing: Optional[Any] = None,
    frame: Optional[Frame] = None,
) -> Any:
    """Write the uncertainty map of a run into the scene, on exactly the volume's grid.

    Args:
        volumeNode: The volume that was segmented.
        uncertainty: (D, H, W) on its grid.
        sliceAxis: axial or acquisition.
        existing: Map of an earlier run of the same volume, which is overwritten; None makes a new node.
        frame: The frame that was segmented, if the volume shows a sequence.
    """
    scene = volumeNode.GetScene()
    node = existing
    if node is None:
        name = scene.GenerateUniqueName(_("{name} uncertainty").format(name=volumeNode.GetName()))
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, uncertainty)
    # The array starts at voxel 0, whatever the extent of the volume starts with.
    gridNode = frameVolume(volumeNode, frame)
    matrix = imageToNodeMatrix(gridNode)
    matrix[:3, 3] = (matrix @ [*gridNode.GetImageData().GetExtent()[::2], 1.0])[:3]
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.SetAttribute(SLICE_AXIS, sliceAxis)
    node.SetNodeReferenceID(IMAGE_ROLE, volumeNode.GetID())
    describeFrame(node, frame)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(COLOR_NODE_ID)
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 255)
    # Certain voxels are transparent, so that the image stays visible.
    display.AutoThresholdOff()
    display.SetThreshold(DOUBT_THRESHOLD, 255)
    display.ApplyThresholdOn()
    return node


class UncertaintyReview:
    """Shows a map over the image, and goes from one doubtful slice to the next."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[Optional[str], float]] = {}
        self._slices: Sequence[DoubtfulSlice] = ()
        self._rankedFor: Optional[tuple[str, int]] = None
        self._next = 0

    @property
    def shown(self) -> bool:
        """Whether the overlay is on."""
        return bool(self._before)

    def show(self, node: Any) -> None:
        """Lay the map over the slice views; what was there is remembered."""
        if self.shown:
            self.hide()
        for composite in _compositeNodes():
            self._before[composite.GetID()] = (composite.GetForegroundVolumeID(), composite.GetForegroundOpacity())
        slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=OVERLAY_OPACITY)

    def hide(self) -> None:
        """Take the map off the slice views and put back what was there before."""
        for identifier, (volumeID, opacity) in self._before.items():
            composite = slicer.mrmlScene.GetNodeByID(identifier)
            if composite is not None:
                known = volumeID if volumeID and slicer.mrmlScene.GetNodeByID(volumeID) else None
                composite.SetForegroundVolumeID(known)
                composite.SetForegroundOpacity(opacity)
        self._before.clear()

    def forget(self) -> None:
        """Let go of everything, without touching the scene: for a scene that closes."""
        self._before.clear()
        self._slices, self._rankedFor, self._next = (), None, 0

    def next(self, node: Any) -> str:
        """Move the slice views to the next doubtful slice of a map; returns what to tell the user."""
        key = (node.GetID(), node.GetImageData().GetMTime())
        if key != self._rankedFor:
            self._slices = rankSlices(readVolume(node), node.GetAttribute(SLICE_AXIS) or "axial")
            self._rankedFor, self._next = key, 0
        if not self._slices:
            return _("There is no doubtful slice.")
        number = self._next % len(self._slices)
        self._next = number + 1
        jumpTo(worldPosition(node, self._slices[number].index))
        return _("Doubtful slice {number} of {count}").format(number=number + 1, count=len(self._slices))


def worldPosition(volumeNode: Any, index: tuple[int, int, int]) -> tuple[float, float, float]:
    """Return the RAS position in mm of a voxel (D, H, W index), with the volume's parent transform."""
    first = volumeNode.GetImageData().GetExtent()[::2]
    ijk = [index[2] + first[0], index[1] + first[1], index[0] + first[2], 1.0]
    local, world = (imageToNodeMatrix(volumeNode) @ ijk)[:3], [0.0, 0.0, 0.0]
    volumeNode.TransformPointToWorld(local, world)
    return (world[0], world[1], world[2])


def jumpTo(position: tuple[float, float, float]) -> None:
    """Move all slice views to a RAS position, by offset only."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position, slicer.vtkMRMLSliceNode.OffsetJumpSlice)


def _compositeNodes() -> list[Any]:
    className = "vtkMRMLSliceCompositeNode"
    count = slicer.mrmlScene.GetNumberOfNodesByClass(className)
    return [slicer.mrmlScene.GetNthNodeByClass(i, className) for i in range(count)]
