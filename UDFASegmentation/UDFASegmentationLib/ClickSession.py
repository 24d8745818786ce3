"""The part of a click that runs on the executor thread: a correction session, made when it is first needed.

Nothing here touches MRML or Qt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Optional

import numpy as np

from udfa.config import DEFAULT_CARRY_SLICES
from udfa.errors import UDFAError
from UDFASegmentationLib.ClickLayers import LayerReader, SegmentLayers
from UDFASegmentationLib.Contracts import LoadedModel
from UDFASegmentationLib.TritonGuard import tritonKeptOut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from udfa.audit import Audit, EditRecord
    from udfa.geometry import Volume
    from udfa.history import Click, Edit
    from udfa.interaction import CorrectionSession, Position


@dataclass(frozen=True)
class ClickRequest:
    """One click or stroke.

    Attributes:
        positions: Voxels (D, H, W) on the volume's grid; empty only catches up with the segments.
        value: Label value.
        positive: Whether the voxels belong to the label.
        segments: The segments now; None if they are as the last edit left them.
        locked: Label values that must not change.
        editable: Where the editor's masking allows changes; None everywhere.
        carrySlices: How many slices up and down a correction may be carried.
        record: The record of clicks that the segmentation has now.
    """

    positions: tuple[Position, ...] = ()
    value: int = 0
    positive: bool = True
    segments: Optional[SegmentLayers] = None
    locked: frozenset[int] = frozenset()
    editable: Optional[NDArray[np.bool_]] = None
    carrySlices: int = DEFAULT_CARRY_SLICES
    record: str = ""


@dataclass(frozen=True)
class ClickOutcome:
    """What came of a request.

    Attributes:
        edit: The edit to write into the segments; None if there was nothing to click.
        clicks: The clicks that stand now: not those that were refused, or that a later edit has overruled.
        audit: The record of all edits, a JSON document.
        followed: How the segments had changed since the last edit: same, undone, redone or manual.
    """

    edit: Optional[Edit]
    clicks: tuple[Click, ...]
    audit: str
    followed: str


@dataclass(frozen=True)
class ClickSource:
    """What a session is made of.

    Attributes:
        loadModel: Returns the model; called on the executor thread.
        volume: The source volume, with voxels of its own.
        earlierAudit: Record of earlier sessions on the same segmentation, continued if model and grid are the same.
        cacheMegabytes: Memory for image features.
        undoDepth: Edits that can be undone.
    """

    loadModel: Callable[[], LoadedModel]
    volume: Volume
    earlierAudit: str = ""
    cacheMegabytes: int = 512
    undoDepth: int = 100


class ClickSession:
    """Answers requests, one after the other, on one thread."""

    def __init__(self, source: ClickSource) -> None:
        self._source = source
        self._reader = LayerReader()
        self._session: Optional[CorrectionSession] = None
        self._model: Optional[LoadedModel] = None
        """Kept, because models live as long as somebody refers to them."""
        self.continuesAudit = False
        """Whether the record goes on where an earlier one ended; known after the first answer."""
        self._written = True
        self._record = source.earlierAudit

    def isAbout(self, volume: Volume) -> bool:
        """Whether an image on the same grid has the voxels that the session works on."""
        return bool(np.array_equal(self._source.volume.array, volume.array))

    def noteWritten(self, record: str) -> None:
        """The segments are as the last answer says, and have its record. Without this note its edit did not happen."""
        self._written, self._record = True, record

    def answer(self, request: ClickRequest) -> ClickOutcome:
        """Catch up with the segments, then click.

        Raises:
            UDFAError: The model cannot be loaded or cannot take the click.
        """
        followed = "same"
        if self._session is not None and request.record != self._record:
            self._goOnWith(request.record)
        if self._session is None:
            if request.segments is None:
                raise UDFAError("The first click needs the segments as they are.")
            self._session = self._start(self._reader.labelmap(request.segments, None))
        elif request.segments is not None:
            if not self._written:
                # What else has changed the segments is told apart from an edit that never reached them.
                self._session.undo()
            followed = self._session.follow(self._reader.labelmap(request.segments, self._session.labelmap))
        session = self._session
        self._written, edit = True, None
        if request.positions:
            session.lock(request.locked)
            session.restrict(request.editable)
            session.options = replace(session.options, carry_slices=request.carrySlices)
            # Somebody else may be segmenting with the same network.
            with session.segmenter.lock:
                edit = session.scribble(request.positions, request.value, request.positive)
            session.restrict(None)
            self._written = False
            self._reader.noteEdit()
        audit = "" if session.audit is None else session.audit.to_json()
        return ClickOutcome(edit, standing(session), audit, followed)

    def prepareAround(self, position: Position, stopped: Callable[[], bool]) -> None:
        """Compute what clicks near a voxel will need, until `stopped` says True."""
        if self._session is not None:
            self._session.prepare_around(position, stopped)

    def _goOnWith(self, record: str) -> None:
        """Take over what another editor has recorded meanwhile; if it went on from elsewhere, the two stay apart."""
        audit = None if self._session is None else self._session.audit
        if audit is not None:
            others, own = _continuedEdits(record, audit), len(audit.edits)
            self.continuesAudit = others[:own] == audit.edits
            audit.edits.extend(others[own:] if self.continuesAudit else ())
        self._record = record

    def _start(self, labelmap: NDArray[np.uint8]) -> CorrectionSession:
        source = self._source
        self._model = model = source.loadModel()
        with tritonKeptOut():
            from udfa.interaction import CorrectionSession, SessionOptions
        from udfa.audit import Audit, ModelReference
        from udfa.checks import check_volume

        check_volume(source.volume, model.engine.config.preprocessing)  # type: ignore[attr-defined]
        options = SessionOptions(cache_bytes=source.cacheMegabytes * 1024**2, undo_depth=source.undoDepth)
        audit = Audit(
            source.volume, [label.name for label in model.labels], ModelReference(model.name, model.contentSha256)
        )
        audit.edits.extend(_continuedEdits(source.earlierAudit, audit))
        self.continuesAudit = bool(audit.edits)
        return CorrectionSession(model.engine, source.volume, labelmap, options, audit)  # type: ignore[arg-type]


def standing(session: CorrectionSession) -> tuple[Click, ...]:
    """Return the clicks of a session that its labels honour."""
    labels = session.labelmap
    return tuple(c for c in session.clicks if (int(labels[c.position]) == c.value) == c.positive)


def _continuedEdits(earlier: str, audit: Audit) -> list[EditRecord]:
    """Edits of an earlier record, if it is about the same model and grid; else none."""
    from udfa.audit import read_audit

    try:
        old, new = read_audit(earlier), read_audit(audit.to_json())
    except UDFAError:
        return []
    return list(old.edits) if (old.model, old.image) == (new.model, new.image) else []
