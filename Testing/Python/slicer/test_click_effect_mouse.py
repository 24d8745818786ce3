"""UDFA Click driven by mouse events in a slice view with Slicer's own displayable managers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from doubles.click_bench import LIVER, SPLEEN, Bench, benches, greedy_spleen, half_liver, truth

pytestmark = pytest.mark.rendering

SLICE = 2


class Mouse:
    """The user's hand: events at voxels of the shown slice."""

    def __init__(self, bench: Bench, view: Any) -> None:
        self.bench, self.view = bench, view
        self.interactor = bench.widget.interactor

    def pixel(self, row: int, column: int) -> tuple[int, int]:
        """Where a voxel of the shown slice is in the view."""
        ras_to_xy = np.linalg.inv(slicer.util.arrayFromVTKMatrix(self.view.node.GetXYToRAS()))
        x, y, z, _ = ras_to_xy @ [*self.bench.ras((SLICE, row, column)), 1.0]
        assert abs(z) < 0.01, "The voxel is not on the shown slice."
        return round(x), round(y)

    def send(self, event: str, xy: tuple[int, int], ctrl: bool = False) -> None:
        """Let something happen at a pixel."""
        self.interactor.SetEventInformation(*xy, int(ctrl), 0, "\0", 0, None)
        self.interactor.InvokeEvent(getattr(vtk.vtkCommand, event))

    def drag(self, *voxels: tuple[int, int], ctrl: bool = False) -> None:
        """Press at the first voxel (row, column), move over the others, let go at the last, and wait."""
        path = [self.pixel(*voxel) for voxel in voxels]
        self.send("LeftButtonPressEvent", path[0], ctrl)
        for xy in path[1:]:
            self.send("MouseMoveEvent", xy, ctrl)
        self.send("LeftButtonReleaseEvent", path[-1], ctrl)
        self.bench.settle()


@pytest.fixture
def open_bench(tmp_path_factory: pytest.TempPathFactory, scene: Any) -> Iterator[Any]:
    """Makes a bench around a real axial slice view that shows its volume."""
    from doubles.harness import installed
    from doubles.scripted_effect import ViewWidget, effectModules
    from headless.views import SliceView

    with ExitStack() as stack:
        stack.enter_context(installed(tmp_path_factory.mktemp("settings")))
        stack.enter_context(effectModules())
        view = stack.enter_context(SliceView("Axial", (160, 160)))
        style = slicer.vtkMRMLSliceViewInteractorStyle()
        style.SetDisplayableManagers(view.managers)
        style.SetSliceLogic(view.logic)
        view._interactor.SetInteractorStyle(None)
        style.SetInteractor(view._interactor)
        stack.callback(_release, style)
        create = stack.enter_context(benches())

        def make(labelmap: np.ndarray) -> tuple[Bench, Mouse]:
            bench = create(labelmap, widget=ViewWidget(view.node, view._interactor, view.renderer))
            bench.volume.CreateDefaultDisplayNodes()
            view.show(bench.volume)
            view.go_to(bench.ras((SLICE, 0, 0))[2])
            return bench, Mouse(bench, view)

        yield make


def _release(style: Any) -> None:
    """Let go of the view before it is closed."""
    style.SetInteractor(None)
    style.SetDisplayableManagers(None)
    style.SetSliceLogic(None)


def green(picture: np.ndarray) -> int:
    red, green_, blue = (picture[..., channel].astype(int) for channel in range(3))
    return int(np.count_nonzero((green_ > red + 60) & (green_ > blue + 60)))


def test_a_left_click_adds_and_ctrl_click_removes_at_the_place_of_the_mouse(open_bench):
    bench, mouse = open_bench(half_liver())
    mouse.drag((15, 12))
    assert bench.prompts == [((SLICE, 15, 12), LIVER, True)]
    assert (bench.labelmaps()["liver"] == (truth() == LIVER)).all()
    mouse.drag((9, 5), ctrl=True)
    assert bench.prompts[-1] == ((SLICE, 9, 5), LIVER, False)
    assert not bench.labelmaps()["liver"][SLICE, 9, 5]
    assert "ms" in bench.effect.options.status.text


def test_a_drag_is_one_stroke(open_bench):
    bench, mouse = open_bench(half_liver())
    mouse.drag((10, 12), (15, 12), (20, 13))
    assert [position for position, _, _ in bench.prompts] == [(SLICE, 10, 12), (SLICE, 15, 12), (SLICE, 20, 13)]
    assert bench.editor.host.calls.count("saveStateForUndo") == 1


def test_shift_click_and_movement_without_a_button_are_left_to_the_view(open_bench):
    bench, mouse = open_bench(half_liver())
    mouse.interactor.SetEventInformation(*mouse.pixel(15, 12), 0, 1, "\0", 0, None)
    for event in (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.MouseMoveEvent):
        assert bench.effect.processInteractionEvents(mouse.interactor, event, bench.widget) is False
    mouse.interactor.SetEventInformation(*mouse.pixel(15, 12), 0, 0, "\0", 0, None)
    assert not bench.effect.processInteractionEvents(mouse.interactor, vtk.vtkCommand.MouseMoveEvent, bench.widget)
    bench.settle()
    assert bench.prompts == []


def test_a_click_is_marked_in_its_slice_only_and_undo_takes_the_mark_away(open_bench):
    bench, mouse = open_bench(half_liver())
    bench.segmentation.GetDisplayNode().SetVisibility(False)
    assert green(mouse.view.render()) == 0
    bench.segmentation.GetDisplayNode().SetVisibility(True)
    mouse.drag((15, 12))
    bench.segmentation.GetDisplayNode().SetVisibility(False)
    assert green(mouse.view.render()) > 10
    mouse.view.go_to(bench.ras((SLICE + 1, 0, 0))[2])
    assert green(mouse.view.render()) == 0
    mouse.view.go_to(bench.ras((SLICE, 0, 0))[2])
    assert green(mouse.view.render()) > 10
    bench.undo()
    assert green(mouse.view.render()) == 0
    bench.redo()
    assert green(mouse.view.render()) > 10
    bench.editor.deactivate()
    assert green(mouse.view.render()) == 0


def test_a_view_that_does_not_show_the_segmentation_gets_no_marks(open_bench):
    """Slicer tells the effect nothing of such a view, so the marks would stay where they are when it moves."""
    bench, _mouse = open_bench(half_liver())
    bench.segmentation.GetDisplayNode().AddViewNodeID("vtkMRMLSliceNodeGreen")
    bench.click((SLICE, 15, 12))
    assert len(bench.prompts) == 1
    assert not any(actor.GetVisibility() for _view, actor in bench.editor.host.actors)
    bench.segmentation.GetDisplayNode().RemoveAllViewNodeIDs()
    bench.click((SLICE, 14, 12))
    assert any(actor.GetVisibility() for _view, actor in bench.editor.host.actors)


def test_quick_clicks_which_qt_reports_as_double_clicks_are_clicks(open_bench):
    bench, mouse = open_bench(half_liver())
    xy = mouse.pixel(15, 12)
    for event in ("LeftButtonDoubleClickEvent", "LeftButtonReleaseEvent"):
        mouse.send(event, xy)
    bench.settle()
    assert bench.prompts == [((SLICE, 15, 12), LIVER, True)]


def test_with_masking_outside_visible_segments_clicks_in_the_view_take_nothing_from_the_neighbour(open_bench):
    bench, mouse = open_bench(greedy_spleen())
    bench.editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideVisibleSegments)
    before = bench.labelmaps()["spleen"]
    for column in (11, 12, 14, 20):
        mouse.drag((15, column))
    assert (bench.labelmaps()["spleen"] == before).all()


def test_a_session_of_clicks_strokes_and_undos_ends_where_it_began(open_bench):
    bench, mouse = open_bench(greedy_spleen())
    start = bench.labelmaps()
    mouse.drag((15, 12))
    bench.editor.select("spleen")
    mouse.drag((10, 6), (18, 6))
    mouse.drag((12, 20), ctrl=True)
    assert {value for _, value, _ in bench.prompts} == {LIVER, SPLEEN}
    while bench.editor.logic.CanUndo():
        bench.undo()
    assert all((bench.labelmaps()[name] == start[name]).all() for name in start)
    assert bench.prompts == []
