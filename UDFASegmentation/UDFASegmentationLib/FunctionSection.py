"""Ventricular function of a segmented cine sequence: numbers, the way to end-diastole and end-systole, the curve."""

from __future__ import annotations

import math
from typing import Any, Optional

import slicer
from slicer.i18n import tr as _

from udfa.cardiac import CardiacFunction, Measure, cardiac_function
from UDFASegmentationLib.SequenceFrames import shownSequence
from UDFASegmentationLib.SequenceVolumes import FrameVolumes, hasTable, showFrame, writeChart, writeTable


class FunctionSection:
    """Shows what the volumes of all frames tell; hidden where there are none.

    Args:
        ui: The panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._segmentationNode: Optional[Any] = None
        self._volumes = FrameVolumes()
        self._volumesML: list[dict[str, float]] = []
        self.function: Optional[CardiacFunction] = None
        """What is shown; None for other sequences than those of hearts."""
        ui.endDiastoleButton.connect("clicked()", lambda: self._show(self.function and self.function.end_diastole))
        ui.endSystoleButton.connect("clicked()", lambda: self._show(self.function and self.function.end_systole))
        ui.volumeCurveButton.connect("clicked()", self.showCurve)
        self.follow(None)

    def follow(self, segmentationNode: Optional[Any]) -> None:
        """Measure a segmentation's sequence and show what it tells; a table in the scene follows."""
        sequence = shownSequence(segmentationNode)
        before = self._volumesML
        self._segmentationNode = segmentationNode if sequence is not None else None
        self._volumesML = self._volumes.measureML(sequence)
        self.function = cardiac_function(self._volumesML)
        ui = self._ui
        ui.functionFrame.setVisible(len(self._volumesML) > 1)
        ui.functionLabel.text = functionText(self.function) if self.function is not None else ""
        for widget in (ui.functionLabel, ui.endDiastoleButton, ui.endSystoleButton):
            widget.setVisible(self.function is not None)
        if self._segmentationNode is not None and self._volumesML != before and hasTable(self._segmentationNode):
            writeTable(self._segmentationNode, self._volumesML)

    def showCurve(self) -> None:
        """Write the volumes of all frames into the scene and plot them."""
        if self._segmentationNode is not None:
            table = writeTable(self._segmentationNode, self._volumesML)
            slicer.modules.plots.logic().ShowChartInLayout(writeChart(self._segmentationNode, table))

    def _show(self, frame: Optional[int]) -> None:
        if frame is not None and self._segmentationNode is not None:
            showFrame(self._segmentationNode, frame)


def functionText(function: CardiacFunction) -> str:
    """Return the numbers as lines, a ventricle each, with the frames that they come from, counted from 1."""
    measures = function.measures()
    lines = [_line(measures, ventricle) for ventricle in ("LV", "RV")]
    lines.append(
        _("End-diastole: frame {ed}; end-systole: frame {es}.").format(
            ed=function.end_diastole + 1, es=function.end_systole + 1
        )
    )
    if function.without_left:
        frames = ", ".join(str(index + 1) for index in function.without_left)
        lines.append(_("No left ventricle was found in frame {frames}.").format(frames=frames))
    return "\n".join(line for line in lines if line)


def _line(measures: list[Measure], ventricle: str) -> str:
    # Of a ventricle that is empty at end-diastole the ejection fraction cannot be told.
    own = [measure for measure in measures if measure.name.startswith(ventricle) and not math.isnan(measure.value)]
    texts = [f"{measure.name.split(' ', 1)[1]} {measure.value:.0f} {measure.unit}" for measure in own]
    return f"{ventricle}: {', '.join(texts)}" if texts else ""
