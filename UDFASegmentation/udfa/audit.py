"""The record of a correction: every click with time, place and effect, as JSON. Free of torch.

Document, format version 1 (readers must pass over keys they do not know):

    format, format_version          "udfa-audit", 1
    package_version                 version of this package
    model                           {name, content_sha256}: the checkpoint that answered
    image                           {dimensions_ijk, spacing_mm_ijk, ijk_to_ras}: the grid; matrix by rows, in mm
    labels                          [{value, name}]: meaning of the values
    edits                           [edit], in the order in which they were made, undone ones included

    edit: number                    1, 2, 3, ...
          time                      when it was made, ISO 8601, UTC
          kind                      "click", "scribble" or "manual" (brush or eraser)
          label, value, sign        what the clicks were about, "+" or "-"; null for manual edits
          clicks                    [{ijk, ras_mm}]: places, in voxels and in mm
          changed_voxels, changed_ml
          effect                    {label name: {voxels, ml}}: what each label won (positive) or lost (negative)
          box_ijk                   [i0, i1, j0, j1, k0, k1], ends excluded; null when nothing changed
          slices                    slices that changed, along the slice axis
          seconds                   computing time
          undone                    whether it was taken back
          note                      why nothing changed, if so
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

import udfa
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.history import Edit
from udfa.volume_io import written_aside

AUDIT_FORMAT = "udfa-audit"
AUDIT_VERSION = 1

T = TypeVar("T", int, float)


@dataclass(frozen=True)
class ModelReference:
    """The checkpoint that answered."""

    name: str
    content_sha256: str


@dataclass(frozen=True)
class ClickRecord:
    """Place of a click."""

    ijk: tuple[int, int, int]
    ras_mm: tuple[float, float, float]


@dataclass(frozen=True)
class LabelEffect:
    """What a label won or lost."""

    voxels: int
    ml: float


@dataclass(frozen=True)
class EditRecord:
    """One edit; the fields are those of the document."""

    number: int
    time: str
    kind: str
    label: Optional[str]
    value: Optional[int]
    sign: Optional[str]
    clicks: tuple[ClickRecord, ...]
    changed_voxels: int
    changed_ml: float
    effect: Mapping[str, LabelEffect]
    box_ijk: Optional[tuple[int, int, int, int, int, int]]
    slices: tuple[int, ...]
    seconds: float
    undone: bool
    note: str


@dataclass(frozen=True)
class AuditDocument:
    """A whole record, as it is read back."""

    model: ModelReference
    package_version: str
    image: Mapping[str, Any]
    labels: Mapping[int, str]
    edits: tuple[EditRecord, ...]


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class Audit:
    """Records the edits of a session.

    Attributes:
        volume: The corrected volume; only its geometry is used.
        labels: Names of the labels 1..K.
        model: The checkpoint.
        clock: Gives the time of an edit.
        edits: What was recorded.
    """

    volume: Volume
    labels: Sequence[str]
    model: ModelReference
    clock: Callable[[], datetime] = _now
    edits: list[EditRecord] = field(default_factory=list)
    _done: list[int] = field(default_factory=list)
    _undone: list[int] = field(default_factory=list)

    def add(self, edit: Edit) -> None:
        """Record an edit that has just been made."""
        self._done.append(len(self.edits))
        if edit.changed_voxels:
            self._undone.clear()
        self.edits.append(self._record(edit))

    def undone(self) -> None:
        """Note that the last edit that stands was taken back."""
        self._mark(self._done, self._undone, True)

    def redone(self) -> None:
        """Note that the edit taken back last was made again."""
        self._mark(self._undone, self._done, False)

    def to_json(self) -> str:
        """Return the record as the text of a JSON document."""
        volume = self.volume
        document = {
            "format": AUDIT_FORMAT,
            "format_version": AUDIT_VERSION,
            "package_version": udfa.__version__,
            "model": asdict(self.model),
            "image": {
                "dimensions_ijk": list(reversed(volume.array.shape)),
                "spacing_mm_ijk": list(reversed(volume.spacing_mm)),
                "ijk_to_ras": ijk_to_ras(volume).tolist(),
            },
            "labels": [{"value": value, "name": name} for value, name in enumerate(self.labels, start=1)],
            "edits": [asdict(edit) for edit in self.edits],
        }
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: Path) -> None:
        """Write the record, never half."""
        with written_aside(path) as aside:
            aside.write_text(self.to_json(), encoding="utf-8")

    def _mark(self, source: list[int], target: list[int], undone: bool) -> None:
        index = source.pop()
        target.append(index)
        self.edits[index] = replace(self.edits[index], undone=undone)

    def _record(self, edit: Edit) -> EditRecord:
        first = edit.clicks[0] if edit.clicks else None
        changed = edit.changed_voxels
        matrix = ijk_to_ras(self.volume)
        return EditRecord(
            number=len(self.edits) + 1,
            time=self.clock().isoformat(timespec="milliseconds"),
            kind=edit.kind,
            label=None if first is None else self.labels[first.value - 1],
            value=None if first is None else first.value,
            sign=None if first is None else "+" if first.positive else "-",
            clicks=tuple(_click_record(click.position, matrix) for click in edit.clicks),
            changed_voxels=changed,
            changed_ml=self._millilitres(changed),
            effect=self._effect(edit),
            box_ijk=_box_ijk(edit) if changed else None,
            slices=edit.slices,
            seconds=round(edit.seconds, 4),
            undone=False,
            note=edit.note,
        )

    def _effect(self, edit: Edit) -> dict[str, LabelEffect]:
        won = np.bincount(edit.after.ravel(), minlength=256)
        lost = np.bincount(edit.before.ravel(), minlength=256)
        balance = (won - lost).tolist()
        return {
            self._name(value): LabelEffect(voxels, self._millilitres(voxels))
            for value, voxels in enumerate(balance)
            if voxels and value
        }

    def _name(self, value: int) -> str:
        return self.labels[value - 1] if value <= len(self.labels) else f"label_{value}"

    def _millilitres(self, voxels: int) -> float:
        return round(voxels * float(np.prod(self.volume.spacing_mm)) / 1000, 6)


def ijk_to_ras(volume: Volume) -> NDArray[np.float64]:
    """Return the (4, 4) matrix from voxel indices (I, J, K) to RAS in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(volume.direction)[:, ::-1] * np.asarray(volume.spacing_mm)[::-1]
    matrix[:3, 3] = volume.origin_mm
    matrix[:2] *= -1
    return matrix + 0.0


def read_audit(text: str, where: str = "audit") -> AuditDocument:
    """Read the text of a JSON record back.

    Args:
        text: What `Audit.to_json` returned.
        where: Name of the source, for messages.

    Raises:
        InvalidInputError: It is no record, damaged, or of a newer version.
    """
    try:
        document = json.loads(text)
        # Numbers and letters that JSON does not have would be found when the record is written again: too late.
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
        if document["format"] != AUDIT_FORMAT:
            raise ValueError(f"format is {document['format']!r}")
        if document["format_version"] > AUDIT_VERSION:
            raise InvalidInputError(
                f"{where} has format version {document['format_version']}, this UDFA reads up to {AUDIT_VERSION}. "
                f"Update the extension."
            )
        return AuditDocument(
            model=ModelReference(str(document["model"]["name"]), str(document["model"]["content_sha256"])),
            package_version=str(document["package_version"]),
            image=dict(document["image"]),
            labels={int(row["value"]): str(row["name"]) for row in document["labels"]},
            edits=tuple(_edit_record(row) for row in document["edits"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{where} is no record of corrections, or damaged ({error}).") from error


def _edit_record(row: Mapping[str, Any]) -> EditRecord:
    box = None if row["box_ijk"] is None else tuple(int(edge) for edge in row["box_ijk"])
    if box is not None and len(box) != 6:
        raise ValueError(f"box_ijk has {len(box)} entries, not 6")
    return EditRecord(
        number=int(row["number"]),
        time=datetime.fromisoformat(row["time"]).isoformat(timespec="milliseconds"),
        kind=str(row["kind"]),
        label=None if row["label"] is None else str(row["label"]),
        value=None if row["value"] is None else int(row["value"]),
        sign=None if row["sign"] is None else str(row["sign"]),
        clicks=tuple(ClickRecord(_triple(c["ijk"], int), _triple(c["ras_mm"], float)) for c in row["clicks"]),
        changed_voxels=int(row["changed_voxels"]),
        changed_ml=float(row["changed_ml"]),
        effect={str(n): LabelEffect(int(e["voxels"]), float(e["ml"])) for n, e in row["effect"].items()},
        box_ijk=box,  # type: ignore[arg-type]
        slices=tuple(int(index) for index in row["slices"]),
        seconds=float(row["seconds"]),
        undone=bool(row["undone"]),
        note=str(row["note"]),
    )


def _triple(values: Sequence[Any], kind: type[T]) -> tuple[T, T, T]:
    i, j, k = (kind(value) for value in values)  # type: ignore[call-arg]
    return (i, j, k)


def _click_record(position: tuple[int, int, int], matrix: NDArray[np.float64]) -> ClickRecord:
    k, j, i = position
    x, y, z = (matrix @ [i, j, k, 1])[:3].round(4).tolist()
    return ClickRecord((i, j, k), (x + 0.0, y + 0.0, z + 0.0))


def _box_ijk(edit: Edit) -> tuple[int, int, int, int, int, int]:
    depth, height, width = edit.box
    return (width.start, width.stop, height.start, height.stop, depth.start, depth.stop)
