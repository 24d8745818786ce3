"""UDFA Click's button "Next doubtful slice", in any Segment Editor: with a map, without one, and when that fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer

from doubles.click_bench import MATRIX, SHAPE, Bench, half_liver, image
from headless.samples import add_cine, add_volume, fake_result, ijk_to_ras, show_frame
from udfa.config import PreprocessingConfig
from udfa.errors import UDFAError
from udfa.inference import Progress


def doubt() -> np.ndarray:
    """Slice 4 is the most doubtful, then slice 1; they are 6 mm apart."""
    uncertainty = np.zeros(SHAPE, np.uint8)
    uncertainty[4, 10:14, 10:14] = 200
    uncertainty[1, 20:22, 20:22] = 200
    return uncertainty


def canSegment(bench: Bench, error: Exception | None = None) -> list[Any]:
    """Let the bench's model segment as well; returns the options that it was asked with."""
    asked: list[Any] = []

    def segment(volume: Any, options: Any = None, progress: Any = None, cancelled: Any = None) -> Any:
        asked.append(options)
        progress(Progress(3, SHAPE[0], None))
        if error is not None:
            raise error
        result = fake_result(half_liver())
        result.uncertainty = doubt()
        return result

    bench.segmenter.segment = segment
    for entry in bench.entries:
        entry.info.config = SimpleNamespace(
            network=entry.info.config.network, preprocessing=PreprocessingConfig(in_plane_spacing_mm=None)
        )
    return asked


def shownSlice(bench: Bench) -> float:
    """Position along the slice axis, in mm, of what the view shows."""
    return bench.widget.mrmlSliceNode().GetSliceToRAS().GetElement(2, 3)


def press(bench: Bench) -> str:
    bench.effect.options.nextDoubtful.click()
    bench.until(lambda: not bench.effect.doubts.busy)
    return bench.effect.options.doubt.text


def test_with_a_map_of_the_panel_each_press_shows_the_next_doubtful_slice(make):
    from UDFASegmentationLib.UncertaintyReview import writeUncertainty

    bench = make(half_liver())
    writeUncertainty(bench.volume, doubt(), "axial")
    assert press(bench) == "Doubtful slice 1 of 2"
    assert shownSlice(bench) == pytest.approx(bench.ras((4, 0, 0))[2])
    assert press(bench) == "Doubtful slice 2 of 2"
    assert shownSlice(bench) == pytest.approx(bench.ras((1, 0, 0))[2])
    assert press(bench) == "Doubtful slice 1 of 2"


def test_without_a_map_it_is_computed_once_and_no_segment_changes(make):
    bench = make(half_liver())
    before = bench.labelmaps()
    asked = canSegment(bench)
    assert press(bench) == "Doubtful slice 1 of 2"
    assert shownSlice(bench) == pytest.approx(bench.ras((4, 0, 0))[2])
    assert [options.uncertainty for options in asked] == [True]
    assert all((bench.labelmaps()[name] == before[name]).all() for name in before)
    press(bench)
    assert len(asked) == 1


def test_clicks_are_answered_while_the_map_is_being_computed(make):
    bench = make(half_liver())
    canSegment(bench)
    bench.click((1, 15, 12))
    bench.gate.clear()
    bench.effect.options.nextDoubtful.click()
    assert bench.effect.doubts.busy
    assert "Looking for doubt" in bench.effect.options.doubt.text
    bench.click((3, 15, 12))
    assert bench.effect.doubts.busy
    bench.gate.set()
    bench.until(lambda: not bench.effect.doubts.busy)
    assert "Doubtful slice" in bench.effect.options.doubt.text


@pytest.mark.parametrize("error", [UDFAError("no memory left"), ValueError("no memory left")])
def test_a_failure_is_told(make, error, caplog):
    bench = make(half_liver())
    canSegment(bench, error)
    assert press(bench) == "no memory left"
    assert ("could not be computed" in caplog.text) is isinstance(error, ValueError)


def test_a_map_that_cannot_be_written_is_told(make, monkeypatch, caplog):
    from UDFASegmentationLib import ClickDoubts

    bench = make(half_liver())
    canSegment(bench)
    monkeypatch.setattr(ClickDoubts, "writeUncertainty", lambda *arguments, **named: 1 // 0)
    assert "division" in press(bench)
    assert "could not be shown" in caplog.text


def test_without_a_model_or_a_volume_it_says_why(make):
    bench = make(half_liver())
    bench.entries.clear()
    assert "No installed model takes clicks" in press(bench)
    bench.editor.node.SetAndObserveSourceVolumeNode(None)
    assert not bench.effect.options.nextDoubtful.enabled


def test_a_map_of_another_grid_does_not_count(make):
    from UDFASegmentationLib.ClickDoubts import uncertaintyOf
    from UDFASegmentationLib.UncertaintyReview import writeUncertainty

    bench = make(half_liver())
    other = add_volume(np.zeros(SHAPE, np.int16), ijk_to_ras((1.0, 1.0, 3.0)))
    writeUncertainty(other, doubt(), "axial")
    add_volume(doubt(), name="no map")
    assert uncertaintyOf(bench.volume) is None
    mine = writeUncertainty(bench.volume, doubt(), "axial")
    assert uncertaintyOf(bench.volume) is mine


def test_the_map_of_another_image_on_the_same_grid_does_not_count(make):
    """Such as another phase of the same examination."""
    from UDFASegmentationLib.ClickDoubts import uncertaintyOf
    from UDFASegmentationLib.UncertaintyReview import writeUncertainty

    bench = make(half_liver())
    other = add_volume(np.zeros(SHAPE, np.int16), MATRIX)
    found = writeUncertainty(other, doubt(), "axial")
    assert uncertaintyOf(other) is found
    assert uncertaintyOf(bench.volume) is None
    slicer.mrmlScene.RemoveNode(other)
    assert uncertaintyOf(bench.volume) is None


def test_each_frame_of_a_cine_has_its_own_map(make):
    bench = make(half_liver())
    asked = canSegment(bench)
    browser = add_cine({"0": image(), "1": image() + np.int16(1)}, dict.fromkeys("01", MATRIX))
    cine = show_frame(browser, 0)
    bench.editor.node.SetAndObserveSourceVolumeNode(cine)
    assert [press(bench), press(bench)] == ["Doubtful slice 1 of 2", "Doubtful slice 2 of 2"]
    assert len(asked) == 1
    show_frame(browser, 1)
    assert press(bench) == "Doubtful slice 1 of 2"
    assert len(asked) == 2
    show_frame(browser, 0)
    assert press(bench) == "Doubtful slice 1 of 2"
    assert len(asked) == 2


def test_a_map_that_is_ready_after_the_frame_has_moved_on_moves_no_view(make):
    bench = make(half_liver())
    canSegment(bench)
    browser = add_cine({"0": image(), "1": image() + np.int16(1)}, dict.fromkeys("01", MATRIX))
    bench.editor.node.SetAndObserveSourceVolumeNode(show_frame(browser, 0))
    before = shownSlice(bench)
    bench.gate.clear()
    bench.effect.options.nextDoubtful.click()
    show_frame(browser, 1)
    bench.gate.set()
    bench.until(lambda: not bench.effect.doubts.busy)
    assert bench.effect.options.doubt.text == "Another frame is shown meanwhile."
    assert shownSlice(bench) == before


def test_putting_the_tool_away_or_closing_the_scene_stops_the_computation(make):
    bench = make(half_liver())
    canSegment(bench)
    for end in (bench.editor.deactivate, lambda: slicer.mrmlScene.Clear(False)):
        bench.gate.clear()
        bench.effect.options.nextDoubtful.click()
        assert bench.effect.doubts.busy
        end()
        assert not bench.effect.doubts.busy
        bench.gate.set()
        bench.editor.activate()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
