"""Where clicks are marked: in every slice that goes through the clicked voxel, in whatever direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer

from headless.samples import add_volume, ijk_to_ras
from udfa.history import Click

SHAPE = (6, 32, 32)
UPRIGHT = np.diag([-1.0, -1.0, 1.0])


def tilted(degrees: float) -> np.ndarray:
    """Axes to left, posterior, superior, turned about the first."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ UPRIGHT


def axial_view(offset: float, thickness: float) -> Any:
    """An axial slice node of 100 x 100 pixels of 1 mm; `thickness` is what Slicer takes for the slices' distance."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    node.SetOrientationToAxial()
    node.SetDimensions(100, 100, 1)
    node.SetFieldOfView(100, 100, thickness)
    node.SetSliceOffset(offset)
    return node


def clicked(volume: Any, view: Any, xy: tuple[int, int] = (50, 50)) -> tuple[Click, Any]:
    """A click at a pixel of a view, and its grid."""
    from UDFASegmentationLib.ClickGrid import ClickGrid

    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    grid, ras = ClickGrid(volume, segmentation, SHAPE), [0.0, 0.0, 0.0]
    slicer.vtkSlicerSegmentEditorLogic.XyToRas(list(xy), ras, view)
    voxel = grid.voxelAt((ras[0], ras[1], ras[2]))
    assert voxel is not None
    return Click(voxel, 1, True), grid


def marks(view: Any, click: Click, grid: Any) -> list[tuple[float, float]]:
    from UDFASegmentationLib.ClickMarkers import pointsOnSlice

    return pointsOnSlice(view, [click], grid)


@pytest.mark.parametrize("spacing", [1.25, 1.3, 2.0, 5.0, 8.0, 9.9, 10.0])
def test_a_click_in_a_view_just_between_two_slices_is_marked(spacing: float):
    # Six slices around 0: the middle of the volume, where Slicer starts, lies between the third and the fourth.
    matrix = ijk_to_ras((1.37, 1.37, spacing), UPRIGHT, (21.0, 21.0, -2.5 * spacing))
    view = axial_view(0.0, spacing)
    click, grid = clicked(add_volume(np.zeros(SHAPE, np.int16), matrix), view)
    ((x, y),) = marks(view, click, grid)
    assert max(abs(x - 50), abs(y - 50)) <= 0.7


@pytest.mark.parametrize("degrees", [20.0, 45.0, 70.0])
def test_a_click_in_a_view_that_cuts_the_voxels_obliquely_is_marked(degrees: float):
    rotation = tilted(degrees)
    matrix = ijk_to_ras((1.3, 1.3, 8.0), rotation)
    matrix[:3, 3] = -matrix[:3, :3] @ [15.5, 15.5, 2.5]
    volume = add_volume(np.zeros(SHAPE, np.int16), matrix)
    for offset in np.linspace(-3.0, 3.0, 13):
        # Slicer takes the smallest spacing across the view: pixels, not slices.
        view = axial_view(float(offset), 1.3)
        click, grid = clicked(volume, view)
        assert len(marks(view, click, grid)) == 1, offset


def test_a_click_is_marked_through_the_whole_thickness_of_its_voxel_and_no_further():
    volume = add_volume(np.zeros(SHAPE, np.int16), ijk_to_ras((1.0, 1.0, 8.0), UPRIGHT, (16.0, 16.0, -20.0)))
    click, grid = clicked(volume, axial_view(4.0, 8.0))
    shown = [z for z in (-1.0, 0.5, 2.0, 4.0, 7.5, 8.5, 12.0) if marks(axial_view(z, 2.0), click, grid)]
    assert click.position[0] == 3, "its slice reaches from 0 to 8 mm"
    assert shown == [0.5, 2.0, 4.0, 7.5]


def test_under_a_transform_that_stretches_the_volume_marks_are_as_thick():
    volume = add_volume(np.zeros(SHAPE, np.int16), ijk_to_ras((1.0, 1.0, 2.0), UPRIGHT, (16.0, 16.0, -5.0)))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 1.0, 4.0, 1.0])))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    click, grid = clicked(volume, axial_view(3.0, 2.0))
    assert [bool(marks(axial_view(z, 2.0), click, grid)) for z in (-0.5, 0.5, 7.5, 8.5)] == [False, True, True, False]


def test_in_a_view_that_was_squeezed_to_nothing_no_click_is_marked():
    volume = add_volume(np.zeros(SHAPE, np.int16), ijk_to_ras((1.0, 1.0, 8.0), UPRIGHT, (16.0, 16.0, -20.0)))
    view = axial_view(4.0, 8.0)
    click, grid = clicked(volume, view)
    view.SetFieldOfView(100, 0, 8)
    assert marks(view, click, grid) == []
