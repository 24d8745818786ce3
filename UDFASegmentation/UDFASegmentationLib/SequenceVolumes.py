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

from UDFASegmentationLib.SequenceFrames import segmentationSequence, sequenceBrowser

TABLE_ROLE = "UDFA.VolumeTable"
CHART_ROLE = "UDFA.VolumeChart"
"""References of a segmentation to the nodes of its curve."""

FRAME_COLUMN = "Frame"

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def frameVolumesML(sequence: Any) -> list[dict[str, float]]:
    """Return the volume in mL of each segment by its ID, for each frame. Call it on the main thread.

    Args:
        sequence: Sequence of segmentations.
    """
    nodes = (sequence.GetNthDataNode(index) for index in range(sequence.GetNumberOfDataNodes()))
    return [{segmentID: _volumeML(segment) for segmentID, segment in _segments(node).items()} for node in nodes]


def showFrame(segmentationNode: Any, index: int) -> None:
    """Let the browser show a frame of the sequence of a segmentation."""
    browser, sequence = sequenceBrowser(segmentationNode), segmentationSequence(segmentationNode)
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
        segmentationNode: Gives the names of the columns.
        volumesML: What `frameVolumesML` returned.

    Returns:
        vtkMRMLTableNode.
    """
    table = _node(segmentationNode, TABLE_ROLE, "vtkMRMLTableNode", "volumes")
    with slicer.util.NodeModify(table):
        table.RemoveAllColumns()
        _addColumn(table, FRAME_COLUMN, [float(index + 1) for index in range(len(volumesML))])
        for segmentID, segment in _segments(segmentationNode).items():
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
    for segment in _segments(segmentationNode).values():
        chart.AddAndObservePlotSeriesNodeID(_series(chart.GetScene(), table, segment).GetID())
    return chart


def _segments(segmentationNode: Any) -> dict[str, Any]:
    """Segments by their IDs, in their order."""
    segmentation = segmentationNode.GetSegmentation()
    count = segmentation.GetNumberOfSegments()
    return {segmentation.GetNthSegmentID(index): segmentation.GetNthSegment(index) for index in range(count)}


def _volumeML(segment: Any) -> float:
    """Volume of a segment's labelmap; 0 without one."""
    image = segment.GetRepresentation(LABELMAP)
    scalars = None if image is None else image.GetPointData().GetScalars()
    if scalars is None:
        return 0.0
    count = np.count_nonzero(numpy_support.vtk_to_numpy(scalars) == segment.GetLabelValue())
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
