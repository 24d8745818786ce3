"""The Segment Editor effect "UDFA Click": what Slicer calls, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Optional

import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from udfa.config import DEFAULT_CARRY_SLICES
from udfa.errors import UDFAError
from UDFASegmentationLib.ClickAudit import earlierAudit, keepBeside
from UDFASegmentationLib.ClickController import ClickController
from UDFASegmentationLib.ClickDoubts import ClickDoubts
from UDFASegmentationLib.ClickLocks import restoreLocks
from UDFASegmentationLib.ClickMarkers import ClickMarkers
from UDFASegmentationLib.ClickModels import ClickServices, slicerServices
from UDFASegmentationLib.ClickOptions import CARRY_SLICES, ClickOptions
from UDFASegmentationLib.ClickStroke import PRESSES, ClickStroke

NAME = "UDFA Click"
ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
CURSOR_CENTRE = (10, 10)
"""Pixel of the cursor's picture that points."""

FOLLOW_DELAY_MS = 150
"""Changes made elsewhere are looked at when none has come for this long."""


class ClickEffect(AbstractScriptedSegmentEditorEffect):
    """Corrects the selected segment by clicks and strokes in slice views."""

    services: ClassVar[Optional[ClickServices]] = None
    """Shared by all editors; None until the effect is first used."""

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.name = NAME
        scriptedEffect.title = _("UDFA Click")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.controller: Optional[ClickController] = None
        self.doubts: Optional[ClickDoubts] = None
        self.options: Optional[ClickOptions] = None
        self._markers = ClickMarkers(scriptedEffect)
        self._stroke = ClickStroke()
        self._observed: list[tuple[Any, int]] = []
        self._observedNode: Any = None
        self._timer: Optional[Any] = None
        self._closed: Optional[tuple[Any, int]] = None
        """The scene and the observer of its being closed, which stays while the tool is put away."""

    def icon(self) -> Any:
        """Return the icon."""
        return qt.QIcon(str(ICONS / "UDFAClick.png"))

    def createCursor(self, viewWidget: Any) -> Any:
        """Return a small cross; Slicer would make a cursor of the icon, as large as the icon."""
        return qt.QCursor(qt.QPixmap(str(ICONS / "UDFAClickCursor.png")), *CURSOR_CENTRE)

    def helpText(self) -> str:
        """Return what the help box shows."""
        return _(
            "<html>Corrects the selected segment by clicks in slice views, with the network that segmented it.<br>"
            "<b>Left click</b>: this place belongs to the segment.<br>"
            "<b>Ctrl</b> (Mac: Cmd) <b>+ left click</b>: it does not.<br>"
            "<b>Drag</b>: the same along a stroke.<p>"
            "Masking, overwrite mode and undo are those of the Segment Editor. "
            "Segments that are ticked as locked are never changed.</html>"
        )

    def setupOptionsFrame(self) -> None:
        """Make the widgets."""
        self.options = ClickOptions(self.scriptedEffect, self.updateMRMLFromGUI, self.nextDoubtfulSlice)

    def setMRMLDefaults(self) -> None:
        """Set the parameters that are not set; called whenever the editor gets another parameter node."""
        self.scriptedEffect.setParameterDefault(CARRY_SLICES, DEFAULT_CARRY_SLICES)
        if self._observed:
            self._observe()

    def updateGUIFromMRML(self) -> None:
        """Show the parameters, and whether clicks are possible."""
        if self.options is None:
            return
        if self._observed and self._segmentationNode() is not self._observedNode:
            self._segmentationChanged()
        reason = self.unavailable()
        status = reason or ("" if self.controller is None else self.controller.status)
        self.options.update(status, "" if self.doubts is None else self.doubts.status, not reason)

    def updateMRMLFromGUI(self) -> None:
        """Store what the user changed."""
        if self.options is not None and self.scriptedEffect.parameterSetNode() is not None:
            self.options.store()
            self.updateGUIFromMRML()

    def activate(self) -> None:
        """The user takes the tool."""
        if self.controller is None:
            cls = type(self)
            if cls.services is None:
                ClickEffect.services = slicerServices()
            self.controller = ClickController(self.scriptedEffect, cls.services, self._refresh)
            self.doubts = ClickDoubts(cls.services, self.controller.target, self._refresh)
        if self._timer is None:
            self._timer = qt.QTimer()
            self._timer.setSingleShot(True)
            self._timer.setInterval(FOLLOW_DELAY_MS)
            self._timer.connect("timeout()", self._follow)
        if self._closed is None:
            scene = slicer.mrmlScene
            self._closed = (scene, scene.AddObserver(scene.EndCloseEvent, self._onSceneCloses))
        self._observe()
        self._timer.start()
        self._refresh()

    def deactivate(self) -> None:
        """The user puts the tool away; a click under way is dropped."""
        self._stroke.cancel()
        if self._timer is not None:
            self._timer.stop()
        for part in (self.controller, self.doubts):
            if part is not None:
                part.stop()
        self._stopObserving()
        self._markers.clear()

    def cleanup(self) -> None:
        """The editor goes away. Connected signals would keep the effect alive."""
        self.deactivate()
        for part in (self.controller, self.doubts):
            if part is not None:
                part.shutdown()
        if self._timer is not None:
            self._timer.disconnect("timeout()", self._follow)
        if self._closed is not None:
            self._closed[0].RemoveObserver(self._closed[1])
        if self.options is not None:
            self.options.cleanup()
        self.controller = self.doubts = self._timer = self._closed = self.options = None

    def unavailable(self) -> str:
        """Return why clicks are not possible, empty if they are."""
        if self.controller is None:
            return ""
        try:
            self.controller.target()
        except UDFAError as error:
            return str(error)
        return ""

    def nextDoubtfulSlice(self) -> None:
        """Move the slice views to the next slice on which the network was not sure."""
        editor = self.scriptedEffect.parameterSetNode()
        if self.doubts is not None and editor is not None:
            self.doubts.next(editor.GetSourceVolumeNode())

    def processInteractionEvents(self, callerInteractor: Any, eventId: int, viewWidget: Any) -> bool:
        """Take left clicks and strokes in slice views; True keeps the event from others."""
        if self.controller is None or viewWidget.className() != "qMRMLSliceWidget":
            return False
        if eventId in PRESSES:
            if callerInteractor.GetShiftKey() or callerInteractor.GetAltKey():
                # These belong to the view's own actions.
                return False
            if self.scriptedEffect.confirmCurrentSegmentVisible() != self.scriptedEffect.ConfirmedWithoutDialog:
                # The question has swallowed the release of the button; the view must not get half of a click.
                self._stroke.cancel()
                return True
        xy = callerInteractor.GetEventPosition()
        taken = self._stroke.take(callerInteractor, eventId, viewWidget, self.xyToRas(xy, viewWidget))
        finished = self._stroke.finished()
        if finished is not None:
            self.controller.carrySlices = self.scriptedEffect.integerParameter(CARRY_SLICES)
            self.controller.click(*finished)
        return taken

    def processViewNodeEvents(self, callerViewNode: Any, eventId: int, viewWidget: Any) -> None:
        """A view moved: its marks move with it."""
        if callerViewNode.IsA("vtkMRMLSliceNode") and self.scriptedEffect.active():
            self._mark(viewWidget)

    def sourceVolumeNodeChanged(self) -> None:
        """Another volume: the clicks on the former one are over."""
        self._forget()
        if self.controller is not None:
            self._refresh()

    def layoutChanged(self) -> None:
        """Views came or went."""
        self._markers.clear()
        self._refresh()

    def _refresh(self) -> None:
        self.updateGUIFromMRML()
        if self.controller is None or not self.scriptedEffect.active():
            return
        layout = slicer.app.layoutManager()
        for name in layout.sliceViewNames() if layout is not None else ():
            self._mark(layout.sliceWidget(name))

    def _mark(self, viewWidget: Any) -> None:
        """Mark the clicks in a slice view, if it shows the segmentation: Slicer does not tell how others move."""
        node = self._segmentationNode()
        display = None if node is None else node.GetDisplayNode()
        shown = display is None or display.IsDisplayableInView(self.scriptedEffect.viewNode(viewWidget).GetID())
        if self.controller is not None:
            self._markers.show(viewWidget, self.controller.clicks if shown else (), self.controller.grid)

    def _observe(self) -> None:
        """Listen to the editor's choices, to the segmentation, for undo and other tools, and to the scene."""
        self._stopObserving()
        self._observedNode = node = self._segmentationNode()
        editor, scene = self.scriptedEffect.parameterSetNode(), slicer.mrmlScene
        if editor is not None:
            # Slicer does not tell effects that another segment was selected.
            self._listen(editor, vtk.vtkCommand.ModifiedEvent, self._onEditor)
        if node is not None:
            segmentation = node.GetSegmentation()
            self._listen(segmentation, segmentation.SourceRepresentationModified, self._onSegments)
            self._listen(segmentation, segmentation.SegmentModified, self._onSegments)
            self._listen(segmentation, segmentation.SegmentAdded, self._onSegments)
            self._listen(segmentation, segmentation.SegmentRemoved, self._onSegments)
            self._listen(segmentation, segmentation.SegmentsOrderModified, self._onSegments)
            self._listen(node, node.SegmentationChangedEvent, self._onFrame)
            if earlierAudit(node):
                keepBeside(node)
        self._listen(scene, scene.StartCloseEvent, self._onSceneCloses)

    def _listen(self, thing: Any, event: int, callback: Any) -> None:
        self._observed.append((thing, thing.AddObserver(event, callback)))

    def _stopObserving(self) -> None:
        for thing, tag in self._observed:
            thing.RemoveObserver(tag)
        self._observed.clear()

    def _segmentationNode(self) -> Any:
        editor = self.scriptedEffect.parameterSetNode()
        return None if editor is None else editor.GetSegmentationNode()

    def _segmentationChanged(self) -> None:
        """Another segmentation is edited: the clicks on the former one are over."""
        self._observe()
        self._forget()

    def _forget(self) -> None:
        self._stroke.cancel()
        self._markers.clear()
        for part in (self.controller, self.doubts):
            if part is not None:
                part.forget()

    def _onEditor(self, caller: Any, event: Any) -> None:
        self.updateGUIFromMRML()

    def _onSegments(self, caller: Any, event: Any) -> None:
        if self._timer is not None:
            self._timer.start()

    def _onFrame(self, caller: Any, event: Any) -> None:
        """A sequence browser has moved on: the node has the segments of another frame."""
        self._segmentationChanged()
        self._refresh()

    def _onSceneCloses(self, caller: Any, event: Any) -> None:
        self._forget()

    def _follow(self) -> None:
        """The segments have changed, by an undo or another tool."""
        node = self._segmentationNode()
        if node is not None:
            restoreLocks(node)
        if self.controller is not None and self.controller.busy and self._timer is not None:
            # A click is being answered; what has happened meanwhile is looked at after it.
            self._timer.start()
        elif self.controller is not None:
            self.controller.catchUp()
        self.updateGUIFromMRML()
