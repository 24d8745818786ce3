"""Makes clicks and strokes of mouse events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import vtk

PRESSES = (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.LeftButtonDoubleClickEvent)
"""The second of two quick clicks comes as a double click."""

STEP_PIXELS = 3
"""Smaller movements of the mouse are jitter, not a stroke."""

Position = tuple[float, float, float]


class ClickStroke:
    """The stroke under way: from pressing the left button to letting it go, in one view."""

    def __init__(self) -> None:
        self._viewWidget: Any = None
        self._positive = True
        self._positions: list[Position] = []
        self._lastXY = (0, 0)
        self._finished: Optional[tuple[list[Position], bool]] = None

    def take(self, interactor: Any, eventId: int, viewWidget: Any, ras: Sequence[float]) -> bool:
        """Take an event of a view; returns whether it belonged to a stroke.

        Args:
            interactor: The view's vtkRenderWindowInteractor.
            eventId: vtkCommand event.
            viewWidget: The view.
            ras: Where the mouse is, in the world, in mm.
        """
        position = (float(ras[0]), float(ras[1]), float(ras[2]))
        xy = interactor.GetEventPosition()
        if eventId in PRESSES:
            # Qt reports the Mac's Cmd key as Control.
            self._positive = not interactor.GetControlKey()
            self._viewWidget, self._positions, self._lastXY = viewWidget, [position], xy
            return True
        if self._viewWidget != viewWidget:
            return False
        if eventId == vtk.vtkCommand.MouseMoveEvent:
            self._move(xy, position)
            return True
        if eventId == vtk.vtkCommand.LeftButtonReleaseEvent:
            self._move(xy, position)
            self._finished = (self._positions, self._positive)
            self.cancel()
            return True
        return False

    def finished(self) -> Optional[tuple[list[Position], bool]]:
        """Return the stroke that has just ended, once: positions in the world, and whether they belong."""
        finished, self._finished = self._finished, None
        return finished

    def cancel(self) -> None:
        """Forget the stroke under way."""
        self._viewWidget, self._positions = None, []

    def _move(self, xy: tuple[int, int], position: Position) -> None:
        if max(abs(a - b) for a, b in zip(xy, self._lastXY)) >= STEP_PIXELS:
            self._positions.append(position)
            self._lastXY = xy
