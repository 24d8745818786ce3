"""From clicks in a view to changed segments. Lives on the main thread; the network runs on the executor thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, groupby, takewhile
from typing import TYPE_CHECKING, Any, Optional

from slicer.i18n import tr as _

from udfa.config import DEFAULT_CARRY_SLICES
from udfa.errors import InvalidInputError, UDFAError
from UDFASegmentationLib.ClickAudit import earlierAudit, keepAudit, keepBeside
from UDFASegmentationLib.ClickGrid import ClickGrid
from UDFASegmentationLib.ClickLayers import readLayers
from UDFASegmentationLib.ClickLocks import lockedSegments
from UDFASegmentationLib.ClickModels import ClickServices
from UDFASegmentationLib.ClickSession import ClickOutcome, ClickRequest, ClickSession, ClickSource
from UDFASegmentationLib.ClickTarget import (
    ClickTarget,
    Shown,
    checkFrame,
    findTarget,
    segmentsFingerprint,
    whatIsShown,
)
from UDFASegmentationLib.ClickWriter import editableVoxels, writeEdit
from UDFASegmentationLib.SegmentationRun import Failure, RunListener, SegmentationRun
from UDFASegmentationLib.VolumeConversion import readVolume

if TYPE_CHECKING:
    from udfa.history import Click

Position = tuple[float, float, float]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Wish:
    """A click on its way. It stays about the segment and the frame that it was made on."""

    positions: tuple[Position, ...]
    positive: bool
    segmentID: str
    carrySlices: int
    since: float
    shown: Shown


class ClickController:
    """Answers clicks, one at a time; of the clicks that come meanwhile, the last one is answered next.

    Args:
        scriptedEffect: The effect's host.
        services: Models and settings.
        onChanged: Called after the status or the clicks changed.
    """

    def __init__(self, scriptedEffect: Any, services: ClickServices, onChanged: Callable[[], None]) -> None:
        self.scriptedEffect = scriptedEffect
        self.carrySlices = DEFAULT_CARRY_SLICES
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
        self._voxels: tuple[Any, ...] = ()
        self._waiting: Optional[_Wish] = None
        self._fingerprint: Optional[tuple[Any, ...]] = None
        self._lastVoxel: Optional[tuple[int, int, int]] = None
        """Where the next clicks are expected; None if all is prepared for them."""
        self._preparing = False

    @property
    def busy(self) -> bool:
        """Whether a click is being answered."""
        return self._run is not None and self._run.busy and not self._preparing

    def target(self, segmentID: Optional[str] = None) -> ClickTarget:
        """Return what clicks on a segment, by default the selected one, would work on.

        Raises:
            InvalidInputError: Clicks are not possible now; the message says why.
        """
        return findTarget(self.scriptedEffect.parameterSetNode(), self._services.models(), segmentID)

    def click(self, positions: Sequence[Position], positive: bool) -> None:
        """Answer a click (one position) or a stroke (several) on the selected segment.

        Args:
            positions: RAS in mm, in the world.
            positive: Whether they belong to the segment.
        """
        editor = self.scriptedEffect.parameterSetNode()
        selected = "" if editor is None else editor.GetSelectedSegmentID() or ""
        shown = whatIsShown(editor)
        self._answer(_Wish(tuple(positions), positive, selected, self.carrySlices, time.perf_counter(), shown))

    def catchUp(self) -> None:
        """Let the clicks follow what happened to the segments elsewhere, such as an undo."""
        if self._session is None or self.busy:
            return
        if whatIsShown(self.scriptedEffect.parameterSetNode())[0] != self._key[0]:
            self.forget()
            self._onChanged()
            return
        try:
            target = self.target()
        except UDFAError:
            # Nothing to follow; `unavailable` of the effect says why, and the last click's own message stays.
            return
        try:
            if target.key == self._key and self._fingerprint != segmentsFingerprint(target.grid.segmentationNode):
                self._submit(target, None)
        except UDFAError as error:
            self._say(str(error))

    def stop(self) -> None:
        """Report nothing of the click under way any more: the tool is put away, or the scene closes."""
        if self.busy:
            self.status = ""
        self._waiting = self._lastVoxel = None
        self._dropRun()
        # The thread may be in the middle of a click: what it changes is seen as undone at the next one.
        self._fingerprint = None

    def _dropRun(self) -> None:
        self._preparing = False
        if self._run is not None:
            self._run.drop()

    def forget(self) -> None:
        """Let go of the session and its clicks as well."""
        self.stop()
        self._session, self._key, self.clicks, self.grid = None, (), (), None

    def shutdown(self) -> None:
        """End the thread; the object cannot be used any more."""
        self.forget()
        if self._run is not None:
            self._run.shutdown()

    def _answer(self, wish: _Wish) -> None:
        if self.busy:
            self._waiting = wish
            return
        try:
            self._start(wish)
        except UDFAError as error:
            self._say(str(error))

    def _start(self, wish: _Wish) -> None:
        target = self.target(wish.segmentID)
        if wish.shown != target.shown:
            raise InvalidInputError(_anotherFrame())
        checkFrame(target)
        node = target.grid.segmentationNode
        if target.segmentID in lockedSegments(node):
            name = node.GetSegmentation().GetSegment(target.segmentID).GetName()
            raise InvalidInputError(_("The segment '{name}' is locked.").format(name=name))
        if not self._goesOn(target):
            self._open(target)
        self._submit(target, wish)

    def _goesOn(self, target: ClickTarget) -> bool:
        """Whether the session is about what is shown now: the cine may have gone on to other frames, and come back."""
        if self._session is None or target.key != self._key:
            return False
        if target.shown[1] != self._voxels:
            if not self._session.isAbout(readVolume(target.grid.volumeNode)):
                return False
            self._voxels = target.shown[1]
        return True

    def _open(self, target: ClickTarget) -> None:
        """Begin a session for another volume, segmentation or model."""
        self.forget()
        preferences = self._services.preferences()
        services, path = self._services, target.entry.path
        source = ClickSource(
            loadModel=lambda: services.load(path, preferences),
            volume=readVolume(target.grid.volumeNode, copy=True),
            earlierAudit=earlierAudit(target.grid.segmentationNode),
            cacheMegabytes=preferences.cacheMegabytes,
            # An edit by hand in between takes a step of its own.
            undoDepth=2 * preferences.undoDepth,
        )
        self._session, self._key, self._voxels = ClickSession(source), target.key, target.shown[1]

    def _submit(self, target: ClickTarget, wish: Optional[_Wish]) -> None:
        session, node = self._session, target.grid.segmentationNode
        if session is None:
            raise UDFAError("There is no session.")
        fingerprint = segmentsFingerprint(node)
        request = ClickRequest() if wish is None else self._request(target, wish)
        request = replace(request, record=earlierAudit(node))
        if fingerprint != self._fingerprint:
            request = replace(request, segments=readLayers(target.grid, target.match, target.segmentID))
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
        if self._preparing:
            self._dropRun()
        if request.positions:
            self._lastVoxel = request.positions[-1]
        self._run.start(lambda handle: session.answer(request), listener)
        if wish is not None:
            self._say(_("Working ..."))

    def _request(self, target: ClickTarget, wish: _Wish) -> ClickRequest:
        """Return what the session is asked to do for a click."""
        found = groupby(target.grid.voxelAt(position) for position in wish.positions)
        # The path counts, so only what repeats at once is left out; it ends where it leaves the volume.
        inside = dropwhile(lambda voxel: voxel is None, (voxel for voxel, _same in found))
        voxels = tuple(takewhile(lambda voxel: voxel is not None, inside))
        if not voxels:
            raise InvalidInputError(_("The click is outside the source volume."))
        return ClickRequest(
            positions=voxels,
            value=target.match.values[target.segmentID],
            positive=wish.positive,
            locked=target.match.lockedValues(lockedSegments(target.grid.segmentationNode)),
            editable=editableVoxels(self.scriptedEffect.parameterSetNode(), target.grid, target.segmentID),
            carrySlices=wish.carrySlices,
        )

    def _finish(
        self, target: ClickTarget, wish: Optional[_Wish], fingerprint: tuple[Any, ...], outcome: ClickOutcome
    ) -> None:
        """Write what came of a request into the scene, unless something else has changed it meanwhile."""
        try:
            problem = target.missing()
            if not problem and whatIsShown(self.scriptedEffect.parameterSetNode())[0] != target.shown[0]:
                problem = _anotherFrame()
            if not problem and segmentsFingerprint(target.grid.segmentationNode) != fingerprint:
                problem = _("The segments changed during the click; click again.")
            if problem:
                # The session notices at the next click that its edit did not take place.
                self._say(problem)
                return
            self._write(target, outcome)
            if wish is None:
                self._onChanged()
            else:
                self.milliseconds = round(1000 * (time.perf_counter() - wish.since))
                self._say(self._describe(outcome))
        except UDFAError as error:
            self._say(str(error))
        except Exception as error:
            _logger.exception("The outcome of a click could not be written.")
            self._say(_("The click could not be written: {error}").format(error=error))
        finally:
            self._next()

    def _write(self, target: ClickTarget, outcome: ClickOutcome) -> None:
        node, session = target.grid.segmentationNode, self._session
        if outcome.edit is not None and outcome.edit.changed_voxels:
            before = segmentsFingerprint(node)
            writeEdit(self.scriptedEffect, target.grid, target.match, outcome.edit)
            if segmentsFingerprint(node) == before:
                raise UDFAError(_("Slicer did not take the change; its error log may say why."))
        self._fingerprint = segmentsFingerprint(node)
        if session is not None:
            keepAudit(node, outcome.audit, session.continuesAudit)
            session.continuesAudit = True
            session.noteWritten(outcome.audit)
            keepBeside(node)
        self.clicks, self.grid = outcome.clicks, target.grid

    def _describe(self, outcome: ClickOutcome) -> str:
        edit = outcome.edit
        if edit is None or edit.note:
            return "" if edit is None else edit.note
        text = _("{voxels} voxels in {slices} slices changed, {ms} ms")
        return text.format(voxels=edit.changed_voxels, slices=len(edit.slices), ms=self.milliseconds)

    def _fail(self, failure: Failure) -> None:
        if not isinstance(failure.error, UDFAError):
            _logger.error("A click failed:\n%s", failure.details)
        text = _("The packages that the network needs are not installed. Open the module UDFA Segmentation to do so.")
        self._say(text if isinstance(failure.error, ImportError) else str(failure.error))
        self._next()

    def _next(self) -> None:
        """Answer the click that came last while another was under way; without one, prepare for the next."""
        wish, self._waiting = self._waiting, None
        if wish is not None:
            self._answer(wish)
        elif not self.busy:
            self._prepare()

    def _prepare(self) -> None:
        """While the reader looks at the result, compute what clicks nearby will need; a click ends it."""
        session, voxel = self._session, self._lastVoxel
        if self._run is None or session is None or voxel is None:
            return
        listener = RunListener(
            onProgress=lambda value: None,
            onDone=lambda value: self._prepared(),
            onFailed=self._notPrepared,
            onCancelled=self._prepared,
        )
        self._preparing = True
        self._run.start(lambda handle: session.prepareAround(voxel, handle.cancelled), listener)

    def _prepared(self) -> None:
        self._preparing, self._lastVoxel = False, None

    def _notPrepared(self, failure: Failure) -> None:
        # Nobody has asked for it; the next click will say what is wrong.
        _logger.info("Preparing for the next click failed:\n%s", failure.details)
        self._prepared()

    def _say(self, text: str) -> None:
        self.status = text
        self._onChanged()


def _anotherFrame() -> str:
    return _("Another image or frame is shown since the click; click again.")
