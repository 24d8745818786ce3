"""Correction by clicks: a session that holds a volume, its labelmap, the clicks, and the edits they caused.

A click runs the decoder only: the encoder's features of a slice are cached. What the network answers is then put
through the rules of `udfa.edit_rules`, carried to neighbouring slices by those of `udfa.carry_rules`, and recorded as a
box delta that can be undone bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, Optional

import numpy as np
from numpy.typing import NDArray

from udfa.audit import Audit
from udfa.config import DEFAULT_CARRY_SLICES
from udfa.edit_rules import Aim
from udfa.errors import InvalidInputError
from udfa.geometry import Volume, canonical_orientation, reorient
from udfa.history import Box, Click, Edit, EditKind, History, delta, empty_edit
from udfa.inference import Segmenter
from udfa.slice_editor import Planes, SliceEditor
from udfa.slice_network import SliceNetwork
from udfa.standing import SliceClick, Standing

Position = tuple[int, int, int]
"""Voxel index (D, H, W) on the volume's own grid."""


@dataclass(frozen=True)
class SessionOptions:
    """What the user can set for corrections."""

    carry_slices: int = DEFAULT_CARRY_SLICES
    """How many slices up and down a correction may be carried; 0 edits the clicked slice only."""
    reach_mm: float = 60.0
    """How far from the click a correction may reach within a slice, in mm; twice as far where the label is new."""
    cache_bytes: int = 512 * 1024**2
    """Memory for cached encoder features."""
    undo_depth: int = 100
    """Edits that can be undone."""

    def __post_init__(self) -> None:
        if self.carry_slices < 0 or not 0 < self.reach_mm < np.inf or self.undo_depth < 1 or self.cache_bytes < 0:
            raise InvalidInputError(
                "carry_slices and cache_bytes must be at least 0, reach_mm above 0 and finite, undo_depth at least 1: "
                f"{self}."
            )


class CorrectionSession:
    """Corrects one labelmap by clicks.

    Label values that the model does not know are kept as if they were locked.

    Args:
        segmenter: Holds the network, with a prompt encoder, and where it runs.
        volume: The scalar volume, any orientation.
        labelmap: (D, H, W) uint8 on the volume's grid; copied.
        options: Settings; `carry_slices` and `reach_mm` of `options` may be exchanged at any time.
        audit: Records every edit, if given.

    Raises:
        InvalidInputError: The checkpoint takes no clicks, or labelmap and volume do not fit.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        volume: Volume,
        labelmap: NDArray[np.uint8],
        options: Optional[SessionOptions] = None,
        audit: Optional[Audit] = None,
    ) -> None:
        if segmenter.network.prompt_encoder is None:
            raise InvalidInputError("This checkpoint takes no clicks: it has no prompt encoder. Choose another.")
        if labelmap.shape != volume.array.shape:
            raise InvalidInputError(f"Labelmap {labelmap.shape} and volume {volume.array.shape} differ in shape.")
        if labelmap.dtype != np.uint8:
            raise InvalidInputError(f"The labelmap is of type {labelmap.dtype}, but must be uint8.")
        self.segmenter = segmenter
        self.options = options or SessionOptions()
        self.labelmap = np.array(labelmap, order="C")
        self.clicks: list[Click] = []
        # What the clicks of each edit said and did, by edit: the same voxel may be clicked again, to another effect.
        self._said: list[tuple[SliceClick, ...]] = []
        self._unsaid: list[tuple[SliceClick, ...]] = []
        self.locked: frozenset[int] = frozenset()
        self.audit = audit
        self._editable: Optional[NDArray[np.bool_]] = None
        self._painted: Optional[NDArray[np.bool_]] = None
        self._orientation = canonical_orientation(volume, segmenter.config.preprocessing.slice_axis)
        canonical = reorient(volume, self._orientation)
        self.network = SliceNetwork(segmenter, canonical, self.options.cache_bytes)
        # A view: what is written to canonical slices stands in `labelmap` at once.
        self._labels = np.asarray(self._orientation.apply(self.labelmap), dtype=np.uint8)
        self._history = History(self.options.undo_depth)

    @property
    def slice_axis(self) -> int:
        """Axis of the volume's own (D, H, W) grid across which the slices are stacked."""
        return self._orientation.permutation[0]

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to redo."""
        return self._history.can_redo

    def lock(self, values: Iterable[int]) -> None:
        """Set the label values that must neither lose nor gain voxels; background cannot be locked."""
        values = frozenset(int(value) for value in values)
        if 0 in values:
            raise InvalidInputError("Background cannot be locked. Use `restrict` to keep voxels as they are.")
        self.locked = values

    def restrict(self, editable: Optional[NDArray[np.bool_]]) -> None:
        """Allow clicks to change the given voxels only, as the Segment Editor's masking does; None allows all.

        Args:
            editable: (D, H, W) on the volume's grid; not copied.

        Raises:
            InvalidInputError: It does not fit the volume.
        """
        if editable is not None and (editable.shape != self.labelmap.shape or editable.dtype != np.bool_):
            raise InvalidInputError(
                f"The mask is {editable.dtype} {editable.shape}, but must be bool {self.labelmap.shape}."
            )
        self._editable = editable

    def prepare(self, position: Position) -> None:
        """Compute and cache what a click at a voxel will need first, for idle moments."""
        z, row, column = self._to_canonical(self._checked(position))
        self.network.prepare(z, (row, column))

    def prepare_around(self, position: Position, stopped: Callable[[], bool]) -> None:
        """Compute and cache, for idle moments, what carried clicks near a voxel will need, the nearest slices first.

        Args:
            position: Voxel (D, H, W), such as that of the last click.
            stopped: Asked again and again; True ends the work.
        """
        z, row, column = self._to_canonical(self._checked(position))
        # A click so far away as the carrying goes may carry as far again.
        reach = max(1, 2 * self.options.carry_slices)
        near = range(max(0, z - reach), min(len(self._labels), z + reach + 1))
        self.network.prepare_ahead(sorted(near, key=lambda other: abs(other - z)), (row, column), stopped)

    def click(self, position: Position, value: int, positive: bool = True) -> Edit:
        """Correct the labelmap around one voxel. See `scribble`."""
        return self.scribble([position], value, positive)

    def scribble(self, positions: Sequence[Position], value: int, positive: bool = True) -> Edit:
        """Correct the labelmap along a stroke; one edit.

        Args:
            positions: Voxels (D, H, W) on the volume's grid; those on the straight lines between them count, too.
            value: Label value 1..K.
            positive: The voxels belong to the label, or do not.

        Returns:
            The edit, already applied; with an empty box and a note when nothing was to be changed.

        Raises:
            InvalidInputError: There is no position, one is outside the volume, or the label is unknown.
        """
        started = time.perf_counter()
        value = self._checked_value(value)
        clicks = tuple(Click(self._checked(position), value, bool(positive)) for position in positions)
        if not clicks:
            raise InvalidInputError("A scribble needs at least one position.")
        kind: EditKind = "click" if len(clicks) == 1 else "scribble"
        planes, said = ({}, self._said_by(clicks)) if value in self.locked else self._changed_planes(clicks)
        note = "" if planes else self._note(clicks)
        edit = self._commit(planes, clicks, kind)
        self.clicks.extend(clicks)
        self._said.append(said)
        edit = replace(edit, seconds=time.perf_counter() - started, note=note)
        self._push(edit)
        return edit

    def take_up(self, labelmap: NDArray[np.uint8]) -> Optional[Edit]:
        """Take up changes made elsewhere (brush, eraser); returns them as an edit, None if there are none.

        Later clicks leave what was painted as it is, unless they are made on it.

        Raises:
            InvalidInputError: The labelmap does not fit.
        """
        self._check_labelmap(labelmap)
        found = delta(self.labelmap, labelmap)
        if found is None:
            return None
        box, before, after = found
        if self._painted is None:
            self._painted = np.zeros(self.labelmap.shape, dtype=bool)
        flip = (before != after) & ~self._painted[box]
        self.labelmap[box] = after
        self._painted[box] ^= flip
        edit = Edit(box, before, after, (), self._changed_slices(box, before, after), 0.0, "manual", "", flip)
        self._push(edit)
        return edit

    def follow(self, labelmap: NDArray[np.uint8]) -> Literal["same", "undone", "redone", "manual"]:
        """Catch up with a labelmap that was changed elsewhere, by brush or eraser or by an undo or redo there.

        If it is what one or several `undo` or `redo` would give, these are done, so that the clicks follow; edits
        without effect are passed over. Anything else is taken up as a manual edit.

        Raises:
            InvalidInputError: The labelmap does not fit.
        """
        self._check_labelmap(labelmap)
        if np.array_equal(labelmap, self.labelmap):
            return "same"
        ways = [(self._history.steps_to(labelmap, self.labelmap, back), back) for back in (True, False)]
        steps, back = min((way for way in ways if way[0]), key=lambda way: way[0], default=(0, True))
        if steps == 0:
            self.take_up(labelmap)
            return "manual"
        for _ in range(steps):
            _ = self.undo() if back else self.redo()
        return "undone" if back else "redone"

    def undo(self) -> Optional[Edit]:
        """Take the last edit back, its clicks included; None when there is none."""
        edit = self._history.undo(self.labelmap, self._painted)
        if edit is not None and edit.clicks:
            del self.clicks[-len(edit.clicks) :]
            self._unsaid.append(self._said.pop())
        if edit is not None and self.audit is not None:
            self.audit.undone()
        return edit

    def redo(self) -> Optional[Edit]:
        """Apply the last undone edit again, its clicks included; None when there is none."""
        edit = self._history.redo(self.labelmap, self._painted)
        if edit is not None and edit.clicks:
            self.clicks.extend(edit.clicks)
            self._said.append(self._unsaid.pop())
        if edit is not None and self.audit is not None:
            self.audit.redone()
        return edit

    def _push(self, edit: Edit) -> None:
        self._history.push(edit)
        if not self._history.can_redo:
            self._unsaid.clear()
        if self.audit is not None:
            self.audit.add(edit)

    def _check_labelmap(self, labelmap: NDArray[np.uint8]) -> None:
        if labelmap.shape != self.labelmap.shape or labelmap.dtype != np.uint8:
            raise InvalidInputError(
                f"The labelmap is {labelmap.dtype} {labelmap.shape}, but must be uint8 {self.labelmap.shape}."
            )

    def _checked(self, position: Position) -> Position:
        if len(position) != 3 or not all(0 <= p < n for p, n in zip(position, self.labelmap.shape)):
            raise InvalidInputError(f"Voxel {tuple(position)} is outside the volume {self.labelmap.shape} (D, H, W).")
        d, h, w = (int(p) for p in position)
        return (d, h, w)

    def _checked_value(self, value: int) -> int:
        count = len(self.segmenter.config.labels)
        if not 1 <= value <= count:
            raise InvalidInputError(f"Label value {value} is unknown; this model has 1..{count}.")
        return int(value)

    def _note(self, clicks: Sequence[Click]) -> str:
        """Why clicks change nothing."""
        value, positive = clicks[0].value, clicks[0].positive
        if value in self.locked:
            return f"{self.segmenter.config.labels[value - 1]} is locked."
        open_clicks = [c for c in clicks if (int(self.labelmap[c.position]) == value) != positive]
        if not open_clicks:
            return "The clicked voxel is already as wanted."
        if self._editable is not None and not any(self._editable[c.position] for c in open_clicks):
            return "The clicked voxel is outside the region that may be edited."
        return "The clicked voxel belongs to a label that is locked, or that this model does not know."

    def _to_canonical(self, position: Position) -> Position:
        """Voxel (D, H, W) of the volume's grid -> canonical (slice, row, column)."""
        source = [position[axis] for axis in self._orientation.permutation]
        shape = self._labels.shape
        z, row, column = (n - 1 - p if f else p for p, n, f in zip(source, shape, self._orientation.flips))
        return z, row, column

    def _canonical_mask(self, mask: Optional[NDArray[np.bool_]]) -> Optional[NDArray[np.bool_]]:
        return None if mask is None else np.asarray(self._orientation.apply(mask), dtype=np.bool_)

    def _changed_planes(self, clicks: Sequence[Click]) -> tuple[Planes, tuple[SliceClick, ...]]:
        """New labels of the canonical slices that clicks change, and what the clicks say and do there."""
        points: dict[int, list[tuple[int, int]]] = {}
        for position in stroke([click.position for click in clicks]):
            z, row, column = self._to_canonical(position)
            points.setdefault(z, []).append((row, column))
        standing = Standing(
            labels=self._labels,
            locked=self.locked,
            editable=self._canonical_mask(self._editable),
            painted=self._canonical_mask(self._painted),
            clicks=list(chain.from_iterable(self._said)),
            spacing_mm=self.network.volume.spacing_mm[1:],
            detail_mm=self.network.detail_mm,
        )
        aim = Aim(clicks[0].value, clicks[0].positive, self.options.reach_mm)
        editor = SliceEditor(self.network, standing.taken_back(aim, points), aim)
        planes = editor.change(points, self.options.carry_slices)
        places = [self._to_canonical(click.position) for click in clicks]
        # A stroke across slices also speaks for those between its positions, where it has changed something.
        missed = points.keys() & editor.made.keys() - {z for z, _, _ in places}
        places += [next(place for place in editor.strengths if place[0] == z) for z in sorted(missed)]
        said = (
            SliceClick(*place, aim.value, aim.positive, editor.strengths.get(place, 0.0), editor.made)
            for place in places
        )
        return planes, tuple(said)

    def _said_by(self, clicks: Sequence[Click]) -> tuple[SliceClick, ...]:
        """What clicks without any effect say."""
        return tuple(SliceClick(*self._to_canonical(c.position), c.value, c.positive) for c in clicks)

    def _changed_slices(self, box: Box, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[int, ...]:
        """Indices along the slice axis at which the contents of a box differ."""
        others = tuple(axis for axis in range(3) if axis != self.slice_axis)
        along = np.flatnonzero((before != after).any(axis=others)) + box[self.slice_axis].start
        return tuple(int(index) for index in along)

    def _commit(self, planes: Planes, clicks: tuple[Click, ...], kind: EditKind) -> Edit:
        """Write new slices into the labelmap and return the change as an edit on the volume's own grid."""
        if not planes:
            return empty_edit(clicks, kind)
        low, high = min(planes), max(planes) + 1
        before = self._labels[low:high].copy()
        for z, plane in planes.items():
            self._labels[z][plane.region] = plane.labels
        found = delta(before, self._labels[low:high], (low, 0, 0))
        if found is None:
            return empty_edit(clicks, kind)
        box, old, new = found
        source_box = self._orientation.invert_box(box, self._labels.shape)
        old = np.ascontiguousarray(self._orientation.invert(old))
        new = np.ascontiguousarray(self._orientation.invert(new))
        slices = self._changed_slices(source_box, old, new)
        flip: Optional[NDArray[np.bool_]] = None
        if self._painted is not None:
            flip = (old != new) & self._painted[source_box]
            self._painted[source_box] ^= flip
            flip = flip if flip.any() else None
        return Edit(source_box, old, new, clicks, slices, kind=kind, painted_flip=flip)


def stroke(positions: Sequence[Position]) -> list[Position]:
    """Return the voxels of a stroke: the positions and those on the straight lines between them, each once."""
    path = [positions[0]]
    for start, end in zip(positions, positions[1:]):
        steps = max(abs(b - a) for a, b in zip(start, end))
        for step in range(1, steps + 1):
            d, h, w = (round(a + (b - a) * step / steps) for a, b in zip(start, end))
            path.append((d, h, w))
    return list(dict.fromkeys(path))
