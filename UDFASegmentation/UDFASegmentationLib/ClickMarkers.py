"""Marks the clicks in the slice views: a green plus where voxels belong, a red dash where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import slicer
import slicer.util
import vtk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from udfa.history import Click
    from UDFASegmentationLib.ClickGrid import ClickGrid

SIZE_PIXELS = 14
COLORS = {True: (0.1, 0.95, 0.2), False: (1.0, 0.25, 0.2)}
"""RGB of positive and negative clicks."""

ROUNDING = 1e-3
"""A slice may run this far outside a voxel, as a share of the voxel, and still counts as going through it."""


class ClickMarkers:
    """Draws the clicks of a session in slice views.

    Args:
        scriptedEffect: The effect's host, which knows the views' renderers.
    """

    def __init__(self, scriptedEffect: Any) -> None:
        self._scriptedEffect = scriptedEffect
        self._views: dict[str, tuple[Any, dict[bool, _Marks]]] = {}

    def show(self, viewWidget: Any, clicks: Sequence[Click], grid: Optional[ClickGrid]) -> None:
        """Draw in one slice view the clicks that lie on its slice."""
        node = self._scriptedEffect.viewNode(viewWidget)
        marks = self._marks(viewWidget, node)
        for positive, mark in marks.items():
            points = [] if grid is None else pointsOnSlice(node, [c for c in clicks if c.positive == positive], grid)
            mark.setPoints(points)
        self._scriptedEffect.scheduleRender(viewWidget)

    def clear(self) -> None:
        """Take all marks out of the views."""
        for viewWidget, marks in self._views.values():
            for mark in marks.values():
                self._scriptedEffect.removeActor2D(viewWidget, mark.actor)
            self._scriptedEffect.scheduleRender(viewWidget)
        self._views.clear()

    def _marks(self, viewWidget: Any, node: Any) -> dict[bool, _Marks]:
        name = node.GetID()
        if name not in self._views:
            marks = {positive: _Marks(positive) for positive in (True, False)}
            for mark in marks.values():
                self._scriptedEffect.addActor2D(viewWidget, mark.actor)
            self._views[name] = (viewWidget, marks)
        return self._views[name][1]


class _Marks:
    """The marks of one kind in one view."""

    def __init__(self, positive: bool) -> None:
        shape = vtk.vtkGlyphSource2D()
        shape.FilledOff()
        shape.CrossOff()
        if positive:
            shape.SetGlyphTypeToCross()
        else:
            shape.SetGlyphTypeToDash()
        shape.SetScale(SIZE_PIXELS)
        self._points = vtk.vtkPolyData()
        glyph = vtk.vtkGlyph2D()
        glyph.SetInputData(self._points)
        glyph.SetSourceConnection(shape.GetOutputPort())
        glyph.ScalingOff()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputConnection(glyph.GetOutputPort())
        mapper.ScalarVisibilityOff()
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(mapper)
        self.actor.GetProperty().SetColor(*COLORS[positive])
        self.actor.GetProperty().SetLineWidth(2)
        self.setPoints([])

    def setPoints(self, xy: Sequence[tuple[float, float]]) -> None:
        """Show marks at positions in pixels, none others."""
        points = vtk.vtkPoints()
        for x, y in xy:
            points.InsertNextPoint(x, y, 0)
        self._points.SetPoints(points)
        self._points.Modified()
        self.actor.SetVisibility(bool(xy))


def pointsOnSlice(sliceNode: Any, clicks: Sequence[Click], grid: ClickGrid) -> list[tuple[float, float]]:
    """Return where clicks lie in a slice view, in pixels; those whose voxel the slice does not go through are left out.

    A view may lie between two slices of the volume, cut its voxels obliquely, or move in finer steps than its slices.
    """
    xyToRas = slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS())
    if not clicks or np.linalg.det(xyToRas) == 0:
        # A view that has been squeezed to nothing shows nothing.
        return []
    rasToXY = np.linalg.inv(xyToRas)
    reach = (1 + ROUNDING) * _halfThickness(rasToXY[2, :3], clicks[0], grid)
    found = []
    for click in clicks:
        x, y, z, _ = rasToXY @ [*grid.positionOf(click.position), 1.0]
        if abs(z) <= reach:
            found.append((float(x), float(y)))
    return found


def _halfThickness(normal: NDArray[np.float64], click: Click, grid: ClickGrid) -> float:
    """How far a click's voxel reaches from its centre along a view's normal, in the view's slices."""
    d, h, w = click.position
    centre = np.asarray(grid.positionOf(click.position))
    neighbours = [grid.positionOf(voxel) for voxel in ((d + 1, h, w), (d, h + 1, w), (d, h, w + 1))]
    return float(np.abs((np.asarray(neighbours) - centre) @ normal).sum() / 2)
