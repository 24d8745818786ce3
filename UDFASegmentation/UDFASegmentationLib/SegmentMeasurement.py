"""Volume and mean intensity of the segments in the scene: read on the main thread, measured on any thread.

Reading copies only the box that segments fill, so that the scene may change while the numbers are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

from udfa.geometry import Volume
from udfa.labels import Label
from udfa.statistics import label_statistics
from UDFASegmentationLib import Provenance
from UDFASegmentationLib.SequenceFrames import frameVolume
from UDFASegmentationLib.VolumeConversion import imageToNodeMatrix, readVolume

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
GRID_TOLERANCE = 1e-3
"""Largest difference in mm (or cosine) between two grids that count as the same."""


@dataclass(frozen=True)
class MeasuredSegment:
    """One line of the result table."""

    segmentID: str
    """ID in the segmentation; the label's name where there is no segment."""
    title: str
    color: tuple[float, float, float]
    """Components 0 to 1."""
    volumeML: float
    meanIntensity: float
    """NaN when the segment is empty."""
    status: str


@dataclass(frozen=True)
class SegmentGroup:
    """Segments that share a labelmap, and the image in the same box. Copies: safe on any thread.

    Attributes:
        labelmap: (D, H, W) uint8.
        image: The image in the same box.
        values: Line number in the table to value in the labelmap.
    """

    labelmap: NDArray[np.uint8]
    image: Volume
    values: dict[int, int]


@dataclass(frozen=True)
class Snapshot:
    """All that is needed to measure a segmentation.

    Attributes:
        rows: Lines of the table without numbers.
        groups: Voxels.
    """

    rows: list[MeasuredSegment]
    groups: list[SegmentGroup]


def takeSnapshot(segmentationNode: Any, volumeNode: Any) -> Snapshot:
    """Copy what is needed to measure a segmentation on a volume. Call it on the main thread.

    Of a sequence, the frame that was segmented is measured, whichever is shown.

    Raises:
        InvalidInputError: The volume cannot be read.
    """
    gridNode = frameVolume(volumeNode, Provenance.recordedFrame(segmentationNode))
    volume = readVolume(gridNode)
    segmentation = segmentationNode.GetSegmentation()
    rows: list[MeasuredSegment] = []
    layers: dict[Any, tuple[Any, dict[int, int]]] = {}
    groups: list[SegmentGroup] = []
    for i in range(segmentation.GetNumberOfSegments()):
        segmentID = segmentation.GetNthSegmentID(i)
        segment = segmentation.GetSegment(segmentID)
        rows.append(_row(segmentID, segment))
        image = segment.GetRepresentation(LABELMAP)
        if image is None or image.IsEmpty():
            continue
        sameSpace = segmentationNode.GetParentTransformNode() is volumeNode.GetParentTransformNode()
        if sameSpace and _onGridOf(image, gridNode):
            layers.setdefault(image.GetAddressAsString(""), (image, {}))[1][i] = int(segment.GetLabelValue())
        else:
            groups.append(_resampledGroup(segmentationNode, segmentID, volumeNode, volume, i))
    groups += [_group(image, gridNode, volume, values) for image, values in layers.values()]
    return Snapshot(rows + _missingRows(segmentationNode, {row.segmentID for row in rows}), groups)


def measure(snapshot: Snapshot) -> list[MeasuredSegment]:
    """Fill in the numbers. May be called on any thread; takes about a second for a large CT."""
    rows = list(snapshot.rows)
    for group in snapshot.groups:
        labels = {value: Label(str(line), str(line), (0, 0, 0)) for line, value in group.values.items()}
        measured = {row.value: row for row in label_statistics(group.labelmap, group.image, labels)}
        for line, value in group.values.items():
            found = measured[value]
            rows[line] = replace(rows[line], volumeML=found.volume_ml, meanIntensity=found.mean_intensity)
    return rows


def _row(segmentID: str, segment: Any) -> MeasuredSegment:
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    status = logic.GetSegmentStatusAsHumanReadableString(logic.GetSegmentStatus(segment))
    red, green, blue = segment.GetColor()
    return MeasuredSegment(segmentID, segment.GetName(), (red, green, blue), 0.0, math.nan, status)


def _missingRows(segmentationNode: Any, present: set[str]) -> list[MeasuredSegment]:
    """Lines for the structures that the last run looked for and did not find."""
    from udfa.labels import describe

    names = (segmentationNode.GetAttribute(Provenance.EMPTY_LABELS) or "").split(", ")
    labels = [describe(name) for name in names if name and name not in present]
    return [MeasuredSegment(label.name, label.title, label.color01, 0.0, math.nan, "Not found") for label in labels]


def _onGridOf(image: Any, volumeNode: Any) -> bool:
    """Whether a labelmap's voxels are the volume's, so that they can be compared index by index."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    own = slicer.util.arrayFromVTKMatrix(matrix)
    if not np.allclose(own, imageToNodeMatrix(volumeNode), rtol=0, atol=GRID_TOLERANCE):
        return False
    inner, outer = image.GetExtent(), volumeNode.GetImageData().GetExtent()
    return all(outer[2 * a] <= inner[2 * a] and inner[2 * a + 1] <= outer[2 * a + 1] for a in range(3))


def _group(image: Any, volumeNode: Any, volume: Volume, values: dict[int, int]) -> SegmentGroup:
    extent, first = image.GetExtent(), volumeNode.GetImageData().GetExtent()[::2]
    shape = tuple(extent[2 * a + 1] - extent[2 * a] + 1 for a in (2, 1, 0))
    voxels = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
    box = tuple(slice(extent[2 * a] - first[a], extent[2 * a + 1] - first[a] + 1) for a in (2, 1, 0))
    return SegmentGroup(voxels.astype(np.uint8), replace(volume, array=volume.array[box].copy()), values)


def _resampledGroup(segmentationNode: Any, segmentID: str, volumeNode: Any, volume: Volume, line: int) -> SegmentGroup:
    """A segment on another grid than the volume: resampled to it by Slicer."""
    array: Optional[NDArray[np.uint8]] = slicer.util.arrayFromSegmentBinaryLabelmap(
        segmentationNode, segmentID, volumeNode
    )
    if array is None:
        array = np.zeros(volume.array.shape, dtype=np.uint8)
    labelmap = (array > 0).astype(np.uint8)
    return SegmentGroup(labelmap, replace(volume, array=volume.array.copy()), {line: 1})
