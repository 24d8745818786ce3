"""What may happen between and during clicks: other selections, deleted nodes, failures, hidden segments, settings."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from doubles.click_bench import LIVER, SHAPE, SPLEEN, Bench, greedy_spleen, half_liver, truth
from fakes.clicks import stubborn
from udfa.audit import read_audit


def begin(bench: Bench, voxel: tuple[int, int, int] = (2, 15, 12)) -> None:
    """Click, and hold the answer back."""
    bench.gate.clear()
    bench.controller.click([bench.ras(voxel)], True)


def pause() -> None:
    for _ in range(20):
        slicer.app.processEvents()
        time.sleep(0.01)


def test_a_click_that_waits_stays_about_the_segment_that_was_selected(make):
    bench = make(greedy_spleen())
    bench.controller.carrySlices = 0
    begin(bench, (1, 15, 12))
    bench.controller.click([bench.ras((3, 15, 12))], True)
    bench.editor.select("spleen")
    bench.gate.set()
    bench.until(lambda: len(bench.prompts) == 2)
    assert [value for _, value, _ in bench.prompts] == [LIVER, LIVER]
    assert bench.labelmaps()["liver"][3, 15, 12]


def test_the_mask_of_a_waiting_click_is_that_of_its_own_segment(make):
    bench = make(half_liver())
    bench.editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    bench.controller.carrySlices = 0
    begin(bench, (1, 15, 12))
    # The liver may lose voxels of its own under this mask; the spleen's would be forbidden.
    bench.controller.click([bench.ras((2, 15, 5))], False)
    bench.editor.select("spleen")
    bench.gate.set()
    bench.until(lambda: len(bench.prompts) == 2)
    assert not bench.labelmaps()["liver"][2, 15, 5]


def test_deleting_the_volume_during_a_click_changes_nothing(make):
    bench = make(half_liver())
    before = bench.labelmaps()["liver"]
    grid_volume = bench.volume
    begin(bench)
    slicer.mrmlScene.RemoveNode(grid_volume)
    bench.gate.set()
    bench.settle()
    assert "volume was deleted" in bench.controller.status
    assert bench.editor.host.calls == []
    assert int(bench.labelmaps_on(grid_volume)["liver"].sum()) == int(before.sum())


def test_deleting_the_segmentation_during_a_click_is_safe(make):
    bench = make(half_liver())
    begin(bench)
    slicer.mrmlScene.RemoveNode(bench.segmentation)
    bench.gate.set()
    bench.settle()
    assert bench.editor.host.calls == []
    assert "Choose a segmentation" in bench.effect.options.status.text


def test_a_brush_stroke_during_a_click_is_kept_and_the_click_is_not_written(make):
    bench = make(half_liver())
    begin(bench)
    paint(bench, (slice(3, 4), slice(2, 5), slice(2, 5)))
    bench.gate.set()
    bench.settle()
    assert "click again" in bench.controller.status
    assert bench.labelmaps()["liver"][3, 2:5, 2:5].all()
    assert not bench.labelmaps()["liver"][2, 15, 12]
    bench.click((2, 15, 12))
    liver = bench.labelmaps()["liver"]
    assert liver[2, 15, 12]
    assert liver[3, 2:5, 2:5].all()


@pytest.mark.parametrize("put_away", [False, True])
def test_a_click_that_was_not_written_leaves_nothing_behind_that_counts_as_painted(make, put_away):
    bench = make(half_liver())
    begin(bench)
    if put_away:
        bench.editor.deactivate()
    paint(bench, (slice(0, 1), slice(2, 5), slice(2, 5)))
    bench.gate.set()
    bench.until(lambda: not bench.controller._run._outstanding)
    if put_away:
        bench.editor.activate()
    bench.settle()
    bench.click((2, 15, 12))
    # 16 rows x 6 columns in 4 slices, as if there had been no first attempt, and the 9 painted voxels.
    assert int(bench.labelmaps()["liver"].sum() - (half_liver() == LIVER).sum()) == 384 + 9
    assert bench.prompts == [((2, 15, 12), LIVER, True)]
    edits = read_audit(bench.segmentation.GetAttribute("UDFA.Audit")).edits
    assert [(edit.kind, edit.changed_voxels, edit.undone) for edit in edits] == [
        ("click", 384, True),
        ("manual", 9, False),
        ("click", 384, False),
    ]


def paint(bench: Bench, box: tuple[slice, slice, slice]) -> None:
    """Paint a box of the liver with another tool."""
    from UDFASegmentationLib.ClickGrid import clickGrid

    shape = tuple(piece.stop - piece.start for piece in box)
    modifier = clickGrid(bench.volume, bench.segmentation).modifier(np.ones(shape, bool), box)
    bench.editor.logic.SaveStateForUndo()
    add = bench.editor.logic.ModificationModeAdd
    bench.editor.logic.ModifySegmentByLabelmap(bench.segmentation, "liver", modifier, add, True, False)


def test_an_undo_during_a_click_takes_the_mark_of_the_click_before_it_away(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    bench.click((2, 15, 12))
    assert len(bench.prompts) == 1
    with bench.segmenter.lock:
        bench.controller.click([bench.ras((3, 15, 12))], True)
        bench.editor.logic.Undo()
        deadline = time.monotonic() + 0.4
        while time.monotonic() < deadline:
            slicer.app.processEvents()
    bench.settle()
    assert "click again" in bench.controller.status
    assert bench.prompts == []


@pytest.mark.parametrize("gone", ["liver", "spleen"])
def test_a_segment_that_is_removed_during_a_click_stays_removed(make, gone):
    bench = make(greedy_spleen())
    begin(bench)
    bench.segmentation.GetSegmentation().RemoveSegment(gone)
    bench.gate.set()
    bench.settle()
    assert bench.editor.host.calls == []
    left = {"liver": "spleen", "spleen": "liver"}[gone]
    assert set(bench.labelmaps()) == {left}
    bench.editor.select(left)
    bench.click((2, 15, 20 if left == "spleen" else 12))
    assert bench.prompts[-1][1] == {"liver": LIVER, "spleen": SPLEEN}[left]


def test_voxels_that_belong_to_no_segment_of_the_node_become_background(make):
    """The network says spleen, but the segmentation has no spleen."""
    labelmap = truth()
    labelmap[labelmap == SPLEEN] = LIVER
    bench = make(labelmap)
    assert set(bench.labelmaps()) == {"liver"}
    bench.click((2, 15, 20), positive=False)
    assert not bench.labelmaps()["liver"][2, 15, 20]
    assert "changed" in bench.controller.status


def test_a_segment_that_is_renamed_between_clicks_keeps_its_structure_by_terminology(make):
    bench = make(greedy_spleen())
    bench.click((1, 15, 12))
    bench.segmentation.GetSegmentation().GetSegment("spleen").SetName("Lien")
    bench.editor.select("spleen")
    bench.click((2, 15, 12), positive=False)
    assert bench.prompts[-1] == ((2, 15, 12), SPLEEN, False)


def test_a_segment_that_gets_a_structures_name_between_clicks_is_known_from_then_on(make):
    bench = make(half_liver())
    segmentation = bench.segmentation.GetSegmentation()
    segmentation.AddEmptySegment("blob", "Blob")
    bench.click((2, 15, 12))
    bench.editor.select("blob")
    assert "not one of the structures" in bench.effect.options.status.text
    segmentation.GetSegment("blob").SetName("Stomach")
    bench.settle()
    assert bench.effect.unavailable() == ""
    bench.click((0, 2, 2))
    assert bench.labelmaps()["blob"][0, 2, 2]


def test_a_failure_while_writing_is_told_and_the_next_click_sees_what_is_there(make, monkeypatch, caplog):
    bench = make(half_liver())

    def broken(*arguments: Any) -> None:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr("UDFASegmentationLib.ClickController.writeEdit", broken)
    assert "disk on fire" in bench.click((2, 15, 12))
    assert not bench.labelmaps()["liver"][2, 15, 12]
    monkeypatch.undo()
    bench.click((2, 15, 12))
    assert (bench.labelmaps()["liver"] == (truth() == LIVER)).all()
    assert bench.prompts == [((2, 15, 12), LIVER, True)]


@pytest.mark.parametrize(("answer", "first", "second"), [("cancel", 0, 0), ("yes", 0, 1), ("no", 0, 1)])
def test_the_question_about_a_hidden_segment_takes_the_place_of_the_first_click(make, answer, first, second):
    bench = make(half_liver())
    bench.segmentation.GetDisplayNode().SetSegmentVisibility("liver", False)
    bench.editor.host.hiddenSegmentAnswer = answer
    press, release = (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.LeftButtonReleaseEvent)
    interactor = bench.widget.interactor
    interactor.SetEventInformation(12, 16, 0, 0, "\0", 0, None)
    # The dialog swallows the release of the button.
    assert bench.effect.processInteractionEvents(interactor, press, bench.widget) is True
    interactor.SetEventInformation(20, 20, 0, 0, "\0", 0, None)
    assert not bench.effect.processInteractionEvents(interactor, vtk.vtkCommand.MouseMoveEvent, bench.widget)
    bench.settle()
    assert len(bench.prompts) == first
    for event in (press, release):
        bench.effect.processInteractionEvents(interactor, event, bench.widget)
    bench.settle()
    assert len(bench.prompts) + ("outside the source volume" in bench.controller.status) == second


def test_cache_and_undo_depth_are_those_of_the_settings(make):
    from UDFASegmentationLib.Settings import Preferences

    bench = make(half_liver())
    services = type(bench.effect).services
    type(bench.effect).services = services.__class__(
        services.models, services.load, lambda: Preferences(cacheMegabytes=96, undoDepth=7)
    )
    bench.effect.cleanup()
    bench.effect.activate()
    bench.click((2, 15, 12))
    session = bench.controller._session._session
    assert session.options.cache_bytes == 96 * 1024**2
    assert session.network.cache.budget_bytes == 96 * 1024**2
    # Twice: an edit by hand between two clicks takes a step as well.
    assert session.options.undo_depth == 14


def test_a_stroke_that_comes_back_to_a_voxel_keeps_its_path(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    bench.segmenter.opinion = stubborn
    path = [(2, 2, 2), (2, 2, 28), (2, 28, 28), (2, 2, 2), (2, 28, 2)]
    bench.click(*path)
    # On the way from (2, 28, 28) back to the first voxel.
    assert bench.labelmaps()["liver"][2, 15, 15]
    assert [position for position, _, _ in bench.prompts] == path


def test_a_stroke_ends_where_it_leaves_the_volume(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    bench.segmenter.opinion = stubborn
    # In at the left, out at the top, and in again at the bottom: a straight line would go through the middle.
    bench.click((2, 5, -4), (2, 5, 2), (2, 0, 12), (2, -9, 12), (2, 40, 12), (2, 31, 12))
    assert [position for position, _, _ in bench.prompts] == [(2, 5, 2), (2, 0, 12)]
    assert bench.labelmaps()["liver"][2, 0, 12]
    assert not bench.labelmaps()["liver"][2, 15, 12]


def test_a_volume_with_a_voxel_that_is_no_number_is_refused_as_it_is_for_segmenting(make):
    bench = make(half_liver())
    hu = slicer.util.arrayFromVolume(bench.volume).astype(np.float32)
    hu[0, 0, 0] = np.nan
    slicer.util.updateVolumeFromArray(bench.volume, hu)
    assert "1 voxels are NaN or infinite" in bench.click((2, 15, 12))
    assert bench.editor.host.calls == []
    slicer.util.updateVolumeFromArray(bench.volume, np.nan_to_num(hu))
    assert "384 voxels" in bench.click((2, 15, 12))


def test_the_status_shows_the_milliseconds_since_the_click(make):
    bench = make(half_liver())
    bench.gate.clear()
    bench.controller.click([bench.ras((2, 15, 12))], True)
    time.sleep(0.12)
    bench.gate.set()
    bench.settle()
    assert bench.controller.milliseconds >= 120
    assert f"{bench.controller.milliseconds} ms" in bench.effect.options.status.text


def test_closing_the_scene_lets_go_of_the_session_and_its_model(make):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    slicer.mrmlScene.Clear(False)
    pause()
    assert bench.controller._session is None
    assert bench.prompts == []
    assert bench.editor.errors == []


def test_closing_the_scene_lets_go_of_the_session_also_when_the_tool_was_put_away(make):
    """The module puts it away when the scene begins to close, before the effect hears of that."""
    bench = make(half_liver())
    bench.click((2, 15, 12))
    scene = slicer.mrmlScene
    tag = scene.AddObserver(scene.StartCloseEvent, lambda caller, event: bench.editor.deactivate(), 1.0)
    scene.Clear(False)
    scene.RemoveObserver(tag)
    assert bench.controller._session is None


def test_a_click_that_slicer_silently_does_not_write_is_told(make, monkeypatch):
    """Slicer only logs why it left the segments alone."""
    from doubles.scripted_effect import ScriptedEffect

    bench = make(half_liver())
    before = bench.labelmaps()["liver"]
    with monkeypatch.context() as patched:
        patched.setattr(ScriptedEffect, "modifySegmentByLabelmap", lambda *arguments: None)
        assert "did not take" in bench.click((2, 15, 12))
    assert bench.prompts == []
    assert (bench.labelmaps()["liver"] == before).all()
    assert "voxels in" in bench.click((2, 15, 12))
    assert bench.labelmaps()["liver"][2, 15, 12]


def test_an_effect_whose_editor_is_gone_is_connected_to_nothing(make):
    """Slicer destroys the effect after this; a signal that is connected would keep its Python side for ever."""
    bench = make(half_liver())
    bench.click((2, 15, 12))
    options, timer = bench.effect.options, bench.effect._timer
    bench.editor.deactivate()
    bench.effect.cleanup()
    buttons = (options.lockOthers, options.unlockAll, options.nextDoubtful)
    assert [thing.connectionCount() for thing in (options.carrySlices, options.locks, *buttons, timer)] == [0] * 6
    assert not any(getattr(slot, "__self__", None) is bench.effect for slot in slicer.app.quitSlots)


def test_while_the_reader_looks_the_slices_around_are_prepared(make):
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 2)
    bench.click((1, 15, 12))
    bench.until(lambda: bench.segmenter.encoded == SHAPE[0])
    bench.click((4, 15, 12))
    assert bench.segmenter.encoded == SHAPE[0]


def test_a_click_is_not_kept_waiting_by_preparations(make):
    """The next click comes while a slice is being prepared: it is answered after that one slice."""
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    encode, begun, goOn = bench.segmenter.encode, threading.Event(), threading.Event()

    def slow(tile):
        if bench.segmenter.encoded:
            begun.set()
            assert goOn.wait(10)
        return encode(tile)

    bench.segmenter.encode = slow
    bench.click((2, 15, 12))
    bench.until(begun.is_set)
    assert not bench.controller.busy
    bench.controller.click([bench.ras((2, 9, 14))], True)
    assert bench.controller.busy
    goOn.set()
    bench.settle()
    assert [position for position, _, _ in bench.prompts] == [(2, 15, 12), (2, 9, 14)]
    bench.until(lambda: bench.segmenter.encoded == 3)
    assert bench.editor.errors == []
