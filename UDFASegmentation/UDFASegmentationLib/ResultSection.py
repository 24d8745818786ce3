"""What follows a run: the table, the surfaces, the uncertainty map. Follows corrections made afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from udfa.errors import UDFAError
from UDFASegmentationLib.Chores import Chores
from UDFASegmentationLib.FunctionSection import FunctionSection
from UDFASegmentationLib.ResultTable import ResultTable
from UDFASegmentationLib.RunSection import RunOutcome
from UDFASegmentationLib.SegmentMeasurement import measure, takeSnapshot
from UDFASegmentationLib.SequenceWriter import spreadSurfaces
from UDFASegmentationLib.UncertaintyReview import UncertaintyReview, jumpTo, writeUncertainty

MEASURE_DELAY_MS = 700
"""After the last change of a segment, before it is measured again: a brush stroke makes many changes."""


class ResultSection(VTKObservationMixin):
    """Shows the segmentation that the parameter node names as the result.

    Args:
        ui: The panel's widgets.
        chores: Measures in the background.
        showStatus: Shows a sentence to the user.
        onSegmentsChanged: Called some time after segments have changed.
    """

    def __init__(
        self, ui: Any, chores: Chores, showStatus: Callable[[str], None], onSegmentsChanged: Callable[[], None]
    ) -> None:
        super().__init__()
        import qt

        self._ui = ui
        self._chores = chores
        self._showStatus = showStatus
        self._onSegmentsChanged = onSegmentsChanged
        self._segmentationNode: Optional[Any] = None
        self._volumeNode: Optional[Any] = None
        self._uncertaintyNode: Optional[Any] = None
        self.runSettings: dict[str, Any] = {}
        """The user's choices for the last run in this session, for the record beside exported files."""
        self.table = ResultTable(ui, self._showSegment)
        self.function = FunctionSection(ui)
        self.review = UncertaintyReview()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(MEASURE_DELAY_MS)
        self._timer.connect("timeout()", self._followChange)
        ui.overlayCheckBox.connect("toggled(bool)", self._onOverlayToggled)
        ui.nextDoubtfulButton.connect("clicked()", self.showNextDoubtful)
        # After the button's own work, which is that of the frame that is shown.
        ui.show3DButton.connect("clicked()", lambda: spreadSurfaces(self._segmentationNode))
        self.follow(None)

    @property
    def segmentationNode(self) -> Optional[Any]:
        """The segmentation that is shown."""
        return self._segmentationNode

    def take(self, outcome: RunOutcome, parameterNode: Any) -> None:
        """Make the outcome of a run the result of the scene, its uncertainty map included."""
        volumeNode, uncertaintyNode = outcome.request.volumeNode, None
        self.runSettings = _plainSettings(outcome)
        if outcome.result.uncertainty is not None:
            same = parameterNode.resultVolume is volumeNode
            axis = outcome.request.info.config.preprocessing.slice_axis
            existing = parameterNode.uncertaintyVolume if same else None
            uncertaintyNode = writeUncertainty(volumeNode, outcome.result.uncertainty, axis, existing, outcome.frame)
        with slicer.util.NodeModify(parameterNode):
            parameterNode.resultVolume = volumeNode
            parameterNode.resultSegmentation = outcome.segmentationNode
            parameterNode.uncertaintyVolume = uncertaintyNode
        self._ui.resultCollapsibleButton.collapsed = False
        self.measureNow()

    def follow(self, parameterNode: Optional[Any]) -> None:
        """Show the result that a parameter node names; None shows nothing."""
        segmentationNode = parameterNode.resultSegmentation if parameterNode is not None else None
        volumeNode = parameterNode.resultVolume if parameterNode is not None else None
        uncertaintyNode = parameterNode.uncertaintyVolume if parameterNode is not None else None
        changed = segmentationNode is not self._segmentationNode or volumeNode is not self._volumeNode
        self._segmentationNode, self._volumeNode = segmentationNode, volumeNode
        if changed:
            self._observe(segmentationNode)
            self._ui.show3DButton.setSegmentationNode(segmentationNode)
            self._ui.exportButton.enabled = segmentationNode is not None
            self.measureNow()
        if uncertaintyNode is not self._uncertaintyNode:
            self._ui.overlayCheckBox.checked = False
            self._uncertaintyNode = uncertaintyNode
        self._ui.uncertaintyFrame.enabled = uncertaintyNode is not None

    def forget(self) -> None:
        """Let go of all nodes without touching the scene: it is about to be closed."""
        self.review.forget()
        self.runSettings = {}
        self.follow(None)

    def cleanup(self) -> None:
        """Let go of everything; the object cannot be used any more."""
        self.forget()
        self._timer.stop()
        self._timer.disconnect("timeout()", self._followChange)

    def measureNow(self) -> None:
        """Measure the segments in the background and show the table."""
        self._timer.stop()
        segmentationNode, volumeNode = self._segmentationNode, self._volumeNode
        self.function.follow(segmentationNode)
        if segmentationNode is None or volumeNode is None:
            self.table.show([])
            return
        try:
            snapshot = takeSnapshot(segmentationNode, volumeNode)
        except UDFAError:
            self.table.show([])
            return
        self._chores.request("measure", lambda: measure(snapshot), self.table.show)

    def showNextDoubtful(self) -> None:
        """Go to the next slice on which the network was least sure."""
        if self._uncertaintyNode is not None:
            self._showStatus(self.review.next(self._uncertaintyNode))

    def toggleOverlay(self) -> None:
        """Switch the uncertainty map on or off."""
        if self._uncertaintyNode is not None:
            self._ui.overlayCheckBox.checked = not self._ui.overlayCheckBox.checked

    def _onOverlayToggled(self, on: bool) -> None:
        if on and self._uncertaintyNode is not None:
            self.review.show(self._uncertaintyNode)
        else:
            self.review.hide()

    def _observe(self, segmentationNode: Optional[Any]) -> None:
        self.removeObservers()
        if segmentationNode is None:
            return
        # The node tells of its segments' events, too. Of a sequence each frame has segments of its own, and only the
        # node is modified when another frame is shown.
        events = slicer.vtkSegmentation
        for event in (
            vtk.vtkCommand.ModifiedEvent,
            events.SourceRepresentationModified,
            events.SegmentModified,
            events.SegmentAdded,
            events.SegmentRemoved,
        ):
            self.addObserver(segmentationNode, event, self._onSegmentationChanged)

    def _followChange(self) -> None:
        self.measureNow()
        self._onSegmentsChanged()

    def _onSegmentationChanged(self, caller: Any = None, event: Any = None) -> None:
        self._timer.start()

    def _showSegment(self, segmentID: str) -> None:
        node = self._segmentationNode
        if node is None or node.GetSegmentation().GetSegment(segmentID) is None:
            return
        center = node.GetSegmentCenterRAS(segmentID)
        if center is None:
            self._showStatus(_("This segment is empty."))
            return
        jumpTo((center[0], center[1], center[2]))


def _plainSettings(outcome: RunOutcome) -> dict[str, Any]:
    """The user's choices as plain JSON types, without nodes."""
    settings = outcome.request.settings
    return {
        "labels": list(settings.labels or outcome.request.info.config.labels),
        "remove_islands": settings.removeIslands,
        "device": settings.device,
        "precision": outcome.request.precision,
        "replace_existing": settings.replaceExisting,
        "all_frames": settings.allFrames,
        "uncertainty": settings.uncertainty,
    }
