"""From clicks in a view to changed segments. Lives on the main thread; the network runs on the executor thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional

from slicer.i18n import tr as _

from udfa.errors import InvalidInputError, UDFAError
from udfa.models import ModelEntry
from UDFASegmentationLib.ClickGrid import ClickGrid, clickGrid
from UDFASegmentationLib.ClickLabels import LabelMatch, isLocked
from UDFASegmentationLib.ClickModels import ClickServices, chooseModel
from UDFASegmentationLib.ClickSession import ClickOutcome, ClickRequest, ClickSession, ClickSource
from UDFASegmentationLib.ClickWriter import editableVoxels, readSegments, writeEdit
from UDFASegmentationLib.SegmentationRun import Failure, RunListener, SegmentationRun
from UDFASegmentationLib.SegmentationWriter import LABELMAP
from UDFASegmentationLib.VolumeConversion import imageToNodeMatrix, readVolume

if TYPE_CHECKING:
    from udfa.history import Click

AUDIT = "UDFA.Audit"
"""Node attribute with the record of all clicks, a JSON document; older records of other models get .1, .2 and so on."""

Position = tuple[float, float, float]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClickTarget:
    """What clicks would work on now."""

    grid: ClickGrid
    entry: ModelEntry
    match: LabelMatch
    selectedID: str

    @property
    def key(self) -> tuple[Any, ...]:
        """Changes when a session is no longer valid."""
        volume = self.grid.volumeNode
        image = volume.GetImageData()
        matrix = tuple(imageToNodeMatrix(volume).ravel())
        voxels = (volume.GetID(), image.GetAddressAsString(""), image.GetMTime())
        return (*voxels, matrix, self.grid.segmentationNode.GetID(), self.entry.path)


@dataclass(frozen=True)
class _Wish:
    """A click that waits for its turn."""

    positions: tuple[Position, ...]
    positive: bool
    since: float


class ClickController:
    """Answers clicks, one at a time; of the clicks that come meanwhile, the last one is answered next.

    Args:
        scriptedEffect: The effect's host.
        services: Models and settings.
        onChanged: Called after the status or the clicks changed.
    """

    def __init__(self, scriptedEffect: Any, services: ClickServices, onChanged: Callable[[], None]) -> None:
        self.scriptedEffect = scriptedEffect
        self.carrySlices = 4
        self.status = ""
        self.milliseconds: Optional[int] = None
        self.clicks: tuple[Click, ...] = ()
        self.grid: Optional[ClickGrid] = None
        """Grid of the clicks."""
        self._services = services
        self._onChanged = onChanged
        self._run: Optional[SegmentationRun] = None
        self._session: Optional[ClickSession] = None
        self._key: tuple[Any, ...] = ()
        self._waiting: Optional[_Wish] = None
        self._fingerprint: Optional[tuple[Any, ...]] = None

    @property
    def busy(self) -> bool:
        """Whether a click is being answered."""
        return self._run is not None and self._run.busy

    def target(self) -> ClickTarget:
        """Return what clicks would work on.

        Raises:
            InvalidInputError: Clicks are not possible now; the message says why.
        """
        editor = self.scriptedEffect.parameterSetNode()
        segmentationNode = None if editor is None else editor.GetSegmentationNode()
        volumeNode = None if editor is None else editor.GetSourceVolumeNode()
        if segmentationNode is None:
            raise InvalidInputError(_("Choose a segmentation."))
        if volumeNode is None or volumeNode.GetImageData() is None:
            raise InvalidInputError(_("Choose the source volume of the segmentation."))
        segmentation = segmentationNode.GetSegmentation()
        selectedID = editor.GetSelectedSegmentID() or ""
        if segmentation.GetSegment(selectedID) is None:
            raise InvalidInputError(_("Choose the segment to correct."))
        if segmentation.GetSourceRepresentationName() != LABELMAP:
            raise InvalidInputError(_("Clicks need a segmentation that is stored as binary labelmap."))
        entry, match = chooseModel(self._services.models(), segmentationNode, selectedID)
        return ClickTarget(clickGrid(volumeNode, segmentationNode), entry, match, selectedID)

    def click(self, positions: Sequence[Position], positive: bool) -> None:
        """Answer a click (one position) or a stroke (several) on the selected segment.

        Args:
            positions: RAS in mm, in the world.
            positive: Whether they belong to the segment.
        """
        wish = _Wish(tuple(positions), positive, time.perf_counter())
        if self.busy:
            self._waiting = wish
            return
        try:
            self._start(wish)
        except UDFAError as error:
            self._say(str(error))

    def catchUp(self) -> None:
        """Let the clicks follow what happened to the segments elsewhere, such as an undo."""
        if self._session is None or self.busy:
            return
        try:
            target = self.target()
            if target.key == self._key and self._fingerprint != segmentsFingerprint(target.grid.segmentationNode):
                self._submit(target, None)
        except UDFAError as error:
            self._say(str(error))

    def stop(self) -> None:
        """Report nothing of the click under way any more: the tool is put away, or the scene closes."""
        self._waiting = None
        if self._run is not None:
            self._run.drop()
        # The thread may be in the middle of a click: what it changes is seen as undone at the next one.
        self._fingerprint = None

    def forget(self) -> None:
        """Let go of the session and its clicks as well."""
        self.stop()
        self._session, self._key, self.clicks, self.grid = None, (), (), None

    def shutdown(self) -> None:
        """End the thread; the object cannot be used any more."""
        self.forget()
        if self._run is not None:
            self._run.shutdown()

    def _start(self, wish: _Wish) -> None:
        target = self.target()
        segmentation = target.grid.segmentationNode.GetSegmentation()
        if isLocked(segmentation, target.selectedID):
            name = segmentation.GetSegment(target.selectedID).GetName()
            raise InvalidInputError(_("The segment '{name}' is locked.").format(name=name))
        if self._session is None or target.key != self._key:
            self._open(target)
        self._submit(target, wish)

    def _open(self, target: ClickTarget) -> None:
        """Begin a session for another volume, segmentation or model."""
        self.forget()
        preferences = self._services.preferences()
        services, path = self._services, target.entry.path
        earlier = target.grid.segmentationNode.GetAttribute(AUDIT) or ""
        source = ClickSource(
            loadModel=lambda: services.load(path, preferences),
            volume=readVolume(target.grid.volumeNode, copy=True),
            earlierAudit=earlier,
            cacheMegabytes=preferences.cacheMegabytes,
            undoDepth=2 * preferences.undoDepth,
        )
        self._session, self._key = ClickSession(source), target.key

    def _submit(self, target: ClickTarget, wish: Optional[_Wish]) -> None:
        session, node = self._session, target.grid.segmentationNode
        if session is None:
            raise UDFAError("There is no session.")
        fingerprint = segmentsFingerprint(node)
        request = ClickRequest()
        if fingerprint != self._fingerprint:
            request = replace(request, labelmap=readSegments(target.grid, target.match, target.selectedID))
        if wish is not None:
            found = dict.fromkeys(target.grid.voxelAt(position) for position in wish.positions)
            voxels = tuple(voxel for voxel in found if voxel is not None)
            if not voxels:
                raise InvalidInputError(_("The click is outside the source volume."))
            request = replace(
                request,
                positions=voxels,
                value=target.match.values[target.selectedID],
                positive=wish.positive,
                locked=target.match.lockedValues(node.GetSegmentation()),
                editable=editableVoxels(self.scriptedEffect, target.grid),
                carrySlices=self.carrySlices,
            )
        # Until the outcome is written, the session is ahead of the segments.
        self._fingerprint = None
        listener = RunListener(
            onProgress=lambda value: None,
            onDone=lambda outcome: self._finish(target, wish, fingerprint, outcome),
            onFailed=self._fail,
            onCancelled=self._next,
        )
        if self._run is None:
            self._run = SegmentationRun()
        self._run.start(lambda handle: session.answer(request), listener)
        if wish is not None:
            self._say(_("Working ..."))

    def _finish(
        self, target: ClickTarget, wish: Optional[_Wish], fingerprint: tuple[Any, ...], outcome: ClickOutcome
    ) -> None:
        """Write what came of a request into the scene, unless something else has changed it meanwhile."""
        node = target.grid.segmentationNode
        try:
            if node.GetScene() is None or segmentsFingerprint(node) != fingerprint:
                # The session notices at the next click that its edit did not take place.
                self._say(_("The segments changed during the click; click again."))
                return
            if outcome.edit is not None and outcome.edit.changed_voxels:
                writeEdit(self.scriptedEffect, target.grid, target.match, outcome.edit)
            self._fingerprint = segmentsFingerprint(node)
            self._keepAudit(node, outcome.audit)
            self.clicks, self.grid = outcome.clicks, target.grid
            if wish is None:
                self._onChanged()
            else:
                self.milliseconds = round(1000 * (time.perf_counter() - wish.since))
                self._say(self._describe(outcome))
        except UDFAError as error:
            self._say(str(error))
        finally:
            self._next()

    def _describe(self, outcome: ClickOutcome) -> str:
        edit = outcome.edit
        if edit is None or edit.note:
            return "" if edit is None else edit.note
        text = _("{voxels} voxels in {slices} slices changed, {ms} ms")
        return text.format(voxels=edit.changed_voxels, slices=len(edit.slices), ms=self.milliseconds)

    def _keepAudit(self, node: Any, audit: str) -> None:
        """Store the record of the clicks; one that this session does not continue is kept under another name."""
        earlier = node.GetAttribute(AUDIT)
        session = self._session
        if earlier and session is not None and not session.continuesAudit:
            number = 1
            while node.GetAttribute(f"{AUDIT}.{number}"):
                number += 1
            node.SetAttribute(f"{AUDIT}.{number}", earlier)
        if session is not None:
            session.continuesAudit = True
        node.SetAttribute(AUDIT, audit)

    def _fail(self, failure: Failure) -> None:
        if not isinstance(failure.error, UDFAError):
            _logger.error("A click failed:\n%s", failure.details)
        text = _("The packages that the network needs are not installed. Open the module UDFA Segmentation to do so.")
        self._say(text if isinstance(failure.error, ImportError) else str(failure.error))
        self._next()

    def _next(self) -> None:
        """Answer the click that came last while another was under way."""
        wish, self._waiting = self._waiting, None
        if wish is not None:
            self.click(wish.positions, wish.positive)

    def _say(self, text: str) -> None:
        self.status = text
        self._onChanged()


def segmentsFingerprint(segmentationNode: Any) -> tuple[Any, ...]:
    """Return something that is equal as long as no segment has changed, come or gone."""
    segmentation = segmentationNode.GetSegmentation()
    rows = []
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        image = segment.GetRepresentation(LABELMAP)
        state = None if image is None else (image.GetAddressAsString(""), image.GetMTime())
        rows.append((segmentation.GetNthSegmentID(n), segment.GetLabelValue(), state))
    return tuple(rows)
