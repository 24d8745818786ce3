"""Edits of a labelmap as box deltas, and the undo history made of them. Free of torch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Optional

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
"""Region of a (D, H, W) labelmap."""

EditKind = Literal["click", "scribble", "manual"]

EMPTY_BOX: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True)
class Click:
    """One prompt.

    Attributes:
        position: Voxel (D, H, W) of the volume's own grid.
        value: Label value the click is about.
        positive: True: the voxel belongs to the label. False: it does not.
    """

    position: tuple[int, int, int]
    value: int
    positive: bool


@dataclass(frozen=True)
class Edit:
    """One change of the labelmap.

    Attributes:
        box: Smallest region outside of which nothing changed; empty slices when nothing changed at all.
        before: Labels in the box before the change, uint8.
        after: Labels in the box after the change, uint8.
        clicks: The clicks that caused it; empty for a manual edit.
        slices: Slices that changed, as indices along the session's `slice_axis`.
        seconds: Time the edit took.
        kind: click, scribble, or manual (brush and eraser strokes made elsewhere).
        note: Why nothing changed, if so.
        painted_flip: Voxels of the box that became, or ceased to be, protected as painted by hand; None for no voxel.
    """

    box: Box
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    clicks: tuple[Click, ...] = ()
    slices: tuple[int, ...] = ()
    seconds: float = 0.0
    kind: EditKind = "click"
    note: str = ""
    painted_flip: Optional[NDArray[np.bool_]] = None

    @property
    def changed_voxels(self) -> int:
        """Number of voxels that differ."""
        return int(np.count_nonzero(self.before != self.after))


def empty_edit(clicks: tuple[Click, ...], kind: EditKind) -> Edit:
    """Return the edit of clicks that change nothing."""
    nothing = np.zeros((0, 0, 0), dtype=np.uint8)
    return Edit(EMPTY_BOX, nothing, nothing, clicks, kind=kind)


def delta(
    before: NDArray[np.uint8], after: NDArray[np.uint8], offset: tuple[int, int, int] = (0, 0, 0)
) -> Optional[tuple[Box, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Return the smallest box in which two labelmaps differ, with copies of both there; None if they are equal.

    Args:
        before: (D, H, W) labels.
        after: (D, H, W) labels of the same shape.
        offset: Added to the box, for labelmaps that are themselves a region of a larger one.
    """
    planes = np.flatnonzero([bool((a != b).any()) for a, b in zip(before, after)])
    if len(planes) == 0:
        return None
    first, last = int(planes[0]), int(planes[-1]) + 1
    footprint = (before[first:last] != after[first:last]).any(axis=0)
    rows, columns = np.flatnonzero(footprint.any(axis=1)), np.flatnonzero(footprint.any(axis=0))
    ranges = ((first, last), (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1))
    inner = tuple(slice(a, b) for a, b in ranges)
    d, h, w = (slice(a + o, b + o) for (a, b), o in zip(ranges, offset))
    return (d, h, w), before[inner].copy(), after[inner].copy()


@dataclass
class History:
    """Undo and redo of edits, bit-exact, to a fixed depth.

    Attributes:
        depth: Number of edits that can be undone.
    """

    depth: int = 100
    _done: deque[Edit] = field(default_factory=deque)
    _undone: list[Edit] = field(default_factory=list)

    def push(self, edit: Edit) -> None:
        """Record an edit that has been applied; if it changed anything, what was undone cannot be redone any more."""
        self._done.append(edit)
        if edit.changed_voxels:
            self._undone.clear()
        while len(self._done) > self.depth:
            self._done.popleft()

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to redo."""
        return bool(self._undone)

    def steps_to(self, wanted: NDArray[np.uint8], labelmap: NDArray[np.uint8], back: bool) -> int:
        """Return after how many undos (back) or redos a labelmap would be as wanted; 0 if it never would.

        Args:
            wanted: (D, H, W).
            labelmap: (D, H, W) as it stands.
            back: Count undos, else redos.
        """
        edits = self._done if back else self._undone
        if not edits:
            return 0
        state, differing = labelmap.copy(), int(np.count_nonzero(labelmap != wanted))
        for steps, edit in enumerate(reversed(edits), start=1):
            part, goal = state[edit.box], wanted[edit.box]
            differing -= int(np.count_nonzero(part != goal))
            part[...] = edit.before if back else edit.after
            differing += int(np.count_nonzero(part != goal))
            if differing == 0:
                return steps
        return 0

    def undo(self, labelmap: NDArray[np.uint8], painted: Optional[NDArray[np.bool_]] = None) -> Optional[Edit]:
        """Take the last edit back, in place; returns it, or None when there is none.

        Args:
            labelmap: (D, H, W).
            painted: (D, H, W) voxels protected as painted by hand, if any ever were.
        """
        if not self._done:
            return None
        edit = self._done.pop()
        self._undone.append(edit)
        labelmap[edit.box] = edit.before
        _flip(painted, edit)
        return edit

    def redo(self, labelmap: NDArray[np.uint8], painted: Optional[NDArray[np.bool_]] = None) -> Optional[Edit]:
        """Apply the last undone edit again, in place; returns it, or None when there is none. Arguments as in undo."""
        if not self._undone:
            return None
        edit = self._undone.pop()
        self._done.append(edit)
        labelmap[edit.box] = edit.after
        _flip(painted, edit)
        return edit


def _flip(painted: Optional[NDArray[np.bool_]], edit: Edit) -> None:
    if painted is not None and edit.painted_flip is not None:
        painted[edit.box] ^= edit.painted_flip
