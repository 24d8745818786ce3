"""Volumes of the segments in all frames of a sequence, and the curve that they make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

from UDFASegmentationLib.SequenceFrames import sequenceBrowser, shownSequence

TABLE_ROLE = "UDFA.VolumeTable"
CHART_ROLE = "UDFA.VolumeChart"
"""References of a segmentation to the nodes of its curve."""

FRAME_COLUMN = "Frame"

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


class FrameVolumes:
    """Counts the voxels of the segments in all frames, and not again those that have not changed since the last time.

    Of a large 4D CT counting takes seconds, and is asked for whenever another frame is shown.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], float] = {}

    def measureML(self, sequence: Any) -> list[dict[str, float]]:
        """Return the volume in mL of each segment by its ID, for each frame. Call it on the main thread.

        Args:
            sequence: Sequence of segmentations; None has no frames.
        """
        before, self._known = self._known, {}
        found = []
        for node in _frameNodes(sequence):
            found.append({segmentID: self._take(segment, before) for segmentID, segment in _segments(node).items()})
        return found

    def _take(self, segment: Any, before: Mapping[tuple[Any, ...], float]) -> float:
        image = segment.GetRepresentation(LABELMAP)
        if image is None:
            return 0.0
        state = (image.GetAddressAsString(""), image.GetMTime(), segment.GetLabelValue())
        self._known[state] = before[state] if state in before else _volumeML(image, segment.GetLabelValue())
        return self._known[state]


def showFrame(segmentationNode: Any, index: int) -> None:
    """Let the browser show a frame of the sequence of a segmentation."""
    browser, sequence = sequenceBrowser(segmentationNode), shownSequence(segmentationNode)
    if browser is None or sequence is None:
        return
    # A sequence that plays would go on to other frames at once.
    browser.SetPlaybackActive(False)
    # The browser counts the items of its master sequence.
    item = browser.GetMasterSequenceNode().GetItemNumberFromIndexValue(sequence.GetNthIndexValue(index))
    if item >= 0:
        browser.SetSelectedItemNumber(item)


def hasTable(segmentationNode: Any) -> bool:
    """Whether the volumes of a segmentation's frames are in the scene as a table."""
    return segmentationNode.GetNodeReference(TABLE_ROLE) is not None


def writeTable(segmentationNode: Any, volumesML: Sequence[Mapping[str, float]]) -> Any:
    """Write the volumes of all frames into the scene as a table; one that is there already is filled again.

    Args:
        segmentationNode: Its frames give the names of the columns.
        volumesML: What `FrameVolumes.measureML` returned.

    Returns:
        vtkMRMLTableNode.
    """
    table = _node(segmentationNode, TABLE_ROLE, "vtkMRMLTableNode", "volumes")
    with slicer.util.NodeModify(table):
        table.RemoveAllColumns()
        _addColumn(table, FRAME_COLUMN, [float(index + 1) for index in range(len(volumesML))])
        for segmentID, segment in _segmentsOfAllFrames(segmentationNode).items():
            _addColumn(table, _column(segment), [frame.get(segmentID, 0.0) for frame in volumesML])
    return table


def writeChart(segmentationNode: Any, table: Any) -> Any:
    """Write a chart of a table that `writeTable` returned into the scene; one that is there already is used again.

    Returns:
        vtkMRMLPlotChartNode.
    """
    chart = _node(segmentationNode, CHART_ROLE, "vtkMRMLPlotChartNode", "volume curve")
    _removeSeries(chart)
    chart.SetTitle(segmentationNode.GetName())
    chart.SetXAxisTitle(FRAME_COLUMN)
    chart.SetYAxisTitle("Volume (mL)")
    for segment in _segmentsOfAllFrames(segmentationNode).values():
        chart.AddAndObservePlotSeriesNodeID(_series(chart.GetScene(), table, segment).GetID())
    return chart


def _segments(segmentationNode: Any) -> dict[str, Any]:
    """Segments by their IDs, in their order."""
    segmentation = segmentationNode.GetSegmentation()
    count = segmentation.GetNumberOfSegments()
    return {segmentation.GetNthSegmentID(index): segmentation.GetNthSegment(index) for index in range(count)}


def _frameNodes(sequence: Any) -> list[Any]:
    count = 0 if sequence is None else sequence.GetNumberOfDataNodes()
    return [sequence.GetNthDataNode(index) for index in range(count)]


def _segmentsOfAllFrames(segmentationNode: Any) -> dict[str, Any]:
    """Segments by their IDs, each as in the first frame that has it, whichever frame is shown."""
    found: dict[str, Any] = {}
    for node in _frameNodes(shownSequence(segmentationNode)):
        for segmentID, segment in _segments(node).items():
            found.setdefault(segmentID, segment)
    return found


def _volumeML(image: Any, labelValue: int) -> float:
    """Volume of a value in a labelmap; 0 without voxels."""
    scalars = image.GetPointData().GetScalars()
    if scalars is None:
        return 0.0
    count = np.count_nonzero(numpy_support.vtk_to_numpy(scalars) == labelValue)
    return float(count * math.prod(image.GetSpacing()) / 1000)


def _node(segmentationNode: Any, role: str, className: str, suffix: str) -> Any:
    node = segmentationNode.GetNodeReference(role)
    if node is None:
        name = f"{segmentationNode.GetName()} {suffix}"
        node = segmentationNode.GetScene().AddNewNodeByClass(className, name)
        segmentationNode.SetNodeReferenceID(role, node.GetID())
    return node


def _column(segment: Any) -> str:
    return f"{segment.GetName()} (mL)"


def _addColumn(table: Any, name: str, values: Sequence[float]) -> None:
    column = vtk.vtkDoubleArray()
    column.SetName(name)
    for value in values:
        column.InsertNextValue(value)
    table.AddColumn(column)


def _removeSeries(chart: Any) -> None:
    for series in [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]:
        if series is not None:
            chart.GetScene().RemoveNode(series)
    chart.RemoveAllPlotSeriesNodeIDs()


def _series(scene: Any, table: Any, segment: Any) -> Any:
    series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", segment.GetName())
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(FRAME_COLUMN)
    series.SetYColumnName(_column(segment))
    series.SetPlotType(series.PlotTypeScatter)
    series.SetColor(*segment.GetColor())
    return series
