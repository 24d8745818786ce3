"""Clicks on a cine: image and segmentation are proxies of sequences, and the browser may move on at any moment.

A segmentation whose changes are saved to its sequence gets another vtkSegmentation with every frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer

from doubles.click_bench import LIVER, MATRIX, Bench, half_liver, image, truth
from headless.samples import add_cine, fake_result, show_frame
from udfa.audit import read_audit
from UDFASegmentationLib.Contracts import LoadedModel

AUDIT = "UDFA.Audit"


class Cine:
    """A bench whose segmentation, and if wanted its volume, show the frames of sequences.

    All frames have the same segments; frame n lacks n more of the liver's columns 10-15 than frame 0, which has half a
    liver. The images differ by n HU.
    """

    def __init__(self, bench: Bench, frames: int = 2, moving_image: bool = True, save_changes: bool = True) -> None:
        self.bench = bench
        self.browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Cine browser")
        self.images = self._sequence(bench.volume, frames, lambda n: self._image(n))
        self.segmentations = self._sequence(bench.segmentation, frames, lambda n: None)
        self.browser.SetAndObserveMasterSequenceNodeID(
            self.images.GetID() if moving_image else self.segmentations.GetID()
        )
        if moving_image:
            self.browser.AddSynchronizedSequenceNodeID(self.segmentations.GetID())
            self.browser.AddProxyNode(bench.volume, self.images, False)
        self.browser.AddProxyNode(bench.segmentation, self.segmentations, False)
        self.browser.SetSaveChanges(self.segmentations, save_changes)
        self.show(0)

    def _image(self, n: int) -> None:
        slicer.util.updateVolumeFromArray(self.bench.volume, image() + np.int16(n))

    def _sequence(self, node: Any, frames: int, change: Callable[[int], None]) -> Any:
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", node.GetName())
        for n in range(frames):
            change(n)
            sequence.SetDataNodeAtValue(node, str(n))
        return sequence

    def show(self, index: int) -> None:
        """Let the browser show a frame, as its slider does."""
        show_frame(self.browser, index)
        self.bench.settle()

    def liver(self, index: int) -> int:
        """Voxels of the liver in a frame's own node of the sequence."""
        node = self.segmentations.GetNthDataNode(index)
        return int((slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", self.bench.volume) > 0).sum())

    def edits(self, index: int) -> list[tuple[str, int, bool]]:
        """What the record of a frame's own node says."""
        audit = self.segmentations.GetNthDataNode(index).GetAttribute(AUDIT)
        edits = [] if audit is None else read_audit(audit).edits
        return [(edit.kind, edit.changed_voxels, edit.undone) for edit in edits]


HALF, WHOLE = int((half_liver() == LIVER).sum()), int((truth() == LIVER).sum())
CLICK, ADDED = (2, 15, 12), WHOLE - HALF


@pytest.mark.parametrize("moving_image", [True, False])
def test_the_marks_of_a_frame_are_not_shown_in_another(make, moving_image):
    bench = make(half_liver())
    cine = Cine(bench, moving_image=moving_image)
    bench.click(CLICK)
    assert len(bench.prompts) == 1
    cine.show(1)
    assert bench.prompts == []


@pytest.mark.parametrize("moving_image", [True, False])
def test_clicks_change_and_are_recorded_for_the_frame_that_is_shown(make, moving_image):
    bench = make(half_liver())
    cine = Cine(bench, 3, moving_image)
    bench.click(CLICK)
    cine.show(1)
    bench.click((1, 15, 12))
    cine.show(2)
    assert [cine.liver(n) for n in range(3)] == [WHOLE, WHOLE, HALF]
    assert [cine.edits(n) for n in range(3)] == [[("click", ADDED, False)], [("click", ADDED, False)], []]
    cine.show(0)
    bench.click((3, 15, 5), positive=False)
    assert [edit[0] for edit in cine.edits(0)] == ["click", "click"], "the record goes on, and nothing was painted"
    assert cine.edits(1) == [("click", ADDED, False)]


@pytest.mark.parametrize("moving_image", [True, False])
def test_a_click_that_is_answered_after_the_frame_has_moved_on_changes_no_frame(make, moving_image):
    bench = make(half_liver())
    cine = Cine(bench, moving_image=moving_image)
    bench.gate.clear()
    bench.controller.click([bench.ras(CLICK)], True)
    show_frame(cine.browser, 1)
    bench.gate.set()
    bench.settle()
    assert [cine.liver(n) for n in (0, 1)] == [HALF, HALF]
    assert [cine.edits(n) for n in (0, 1)] == [[], []]
    bench.click(CLICK)
    assert [cine.liver(n) for n in (0, 1)] == [HALF, WHOLE]
    assert cine.edits(1) == [("click", ADDED, False)]


@pytest.mark.parametrize("moving_image", [True, False])
def test_a_click_that_waits_is_not_answered_in_another_frame(make, moving_image):
    bench = make(half_liver())
    cine = Cine(bench, moving_image=moving_image)
    bench.gate.clear()
    bench.controller.click([bench.ras(CLICK)], True)
    bench.controller.click([bench.ras((3, 15, 12))], True)
    show_frame(cine.browser, 1)
    bench.gate.set()
    bench.settle()
    assert [cine.liver(n) for n in (0, 1)] == [HALF, HALF]


def test_a_click_that_waits_is_not_answered_on_another_frame_of_the_image_alone(make):
    bench = make(half_liver())
    cine = Cine(bench)
    cine.browser.RemoveSynchronizedSequenceNode(cine.segmentations.GetID())
    bench.controller.carrySlices = 0
    bench.gate.clear()
    bench.controller.click([bench.ras((1, 15, 12))], True)
    bench.controller.click([bench.ras((3, 15, 12))], True)
    show_frame(cine.browser, 1)
    bench.gate.set()
    bench.settle()
    assert "click again" in bench.controller.status
    liver = bench.labelmaps()["liver"]
    assert liver[1, 15, 12], "its answer is about the frame that was clicked in"
    assert not liver[3, 15, 12]


def test_a_click_is_not_written_on_the_grid_of_another_frame(make):
    """The patient has moved between the frames; the segmentation is of the first one."""
    bench = make(half_liver())
    moved = MATRIX.copy()
    moved[0, 3] += 3
    browser = add_cine({"0": image(), "1": image()}, {"0": MATRIX, "1": moved})
    bench.volume = show_frame(browser, 0)
    bench.editor.node.SetAndObserveSourceVolumeNode(bench.volume)
    before = int(bench.labelmaps()["liver"].sum())
    bench.gate.clear()
    bench.controller.click([bench.ras(CLICK)], True)
    show_frame(browser, 1)
    bench.gate.set()
    bench.settle()
    assert "click again" in bench.controller.status
    show_frame(browser, 0)
    assert int(bench.labelmaps()["liver"].sum()) == before
    bench.click(CLICK)
    assert (bench.labelmaps()["liver"] == (truth() == LIVER)).all()


def test_locks_are_those_of_the_frame(make):
    bench = make(half_liver())
    cine = Cine(bench)
    bench.editor.select("spleen")
    bench.effect.options.lockOthers.click()
    cine.show(1)
    bench.editor.select("liver")
    assert "changed" in bench.click(CLICK)
    cine.show(0)
    assert "locked" in bench.click(CLICK)
    assert [cine.liver(n) for n in (0, 1)] == [HALF, WHOLE]


def test_an_undo_in_another_frame_is_followed_there(make):
    """The effect listens to the segments that are shown, not to those that were shown when the tool was taken."""
    bench = make(half_liver())
    cine = Cine(bench)
    cine.show(1)
    bench.click(CLICK)
    bench.editor.logic.Undo()
    bench.until(lambda: bench.prompts == [])
    assert cine.edits(1) == [("click", ADDED, True)]


def test_nothing_is_said_to_be_working_when_the_frame_has_moved_on(make):
    bench = make(half_liver())
    cine = Cine(bench)
    bench.gate.clear()
    bench.controller.click([bench.ras(CLICK)], True)
    assert bench.effect.options.status.text == "Working ..."
    show_frame(cine.browser, 1)
    assert bench.effect.options.status.text == ""
    bench.gate.set()


@pytest.mark.parametrize("back", [True, False])
def test_looking_at_other_frames_of_the_image_ends_no_session_on_a_segmentation_of_its_own(make, back):
    bench = make(half_liver())
    cine = Cine(bench)
    cine.browser.RemoveSynchronizedSequenceNode(cine.segmentations.GetID())
    bench.click(CLICK)
    session = bench.controller._session
    cine.show(1)
    if back:
        cine.show(0)
    bench.undo()
    assert not bench.labelmaps()["liver"][CLICK]
    assert bench.prompts == []
    edits = read_audit(bench.segmentation.GetAttribute(AUDIT)).edits
    assert [(edit.kind, edit.undone) for edit in edits] == [("click", True)]
    bench.click(CLICK)
    assert (bench.controller._session is session) is back, "in the other frame, the network has to look at its image"


def test_a_segmentation_of_one_frame_takes_no_clicks_in_another(make):
    from UDFASegmentationLib.Provenance import describeFrame
    from UDFASegmentationLib.SequenceFrames import currentFrame

    bench = make(half_liver())
    cine = Cine(bench)
    cine.browser.RemoveSynchronizedSequenceNode(cine.segmentations.GetID())
    describeFrame(bench.segmentation, currentFrame(bench.volume))
    cine.show(1)
    status = bench.click(CLICK)
    assert "was made on frame 1 of 2; the volume shows frame 2 of 2" in status
    assert bench.editor.host.calls == []
    cine.show(0)
    assert "changed" in bench.click(CLICK)


@pytest.mark.parametrize("moving_image", [True, False])
def test_undo_after_moving_on_and_back_touches_no_other_frame(make, moving_image):
    bench = make(half_liver())
    cine = Cine(bench, moving_image=moving_image)
    bench.click(CLICK)
    cine.show(1)
    bench.click(CLICK)
    bench.undo()
    assert [cine.liver(n) for n in (0, 1)] == [WHOLE, HALF]
    assert bench.prompts == []
    assert cine.edits(1) == [("click", ADDED, True)]
    bench.redo()
    assert [cine.liver(n) for n in (0, 1)] == [WHOLE, WHOLE]
    assert cine.edits(1) == [("click", ADDED, False)]
    cine.show(0)
    assert not bench.editor.logic.CanUndo()
    assert cine.edits(0) == [("click", ADDED, False)]


def test_the_sequence_that_the_module_writes_is_corrected_frame_by_frame(make):
    """With a frame in which the network has found no liver at all: its segment is there, and empty."""
    from UDFASegmentationLib.SequenceFrames import allFrames
    from UDFASegmentationLib.SequenceWriter import writeSequence

    bench = make(half_liver())
    browser = add_cine({str(n): image() + np.int16(n) for n in range(3)}, dict.fromkeys("012", MATRIX))
    bench.volume = show_frame(browser, 0)
    found = [half_liver(), half_liver(), np.where(half_liver() == LIVER, 0, half_liver()).astype(np.uint8)]
    model = LoadedModel(bench.segmenter, bench.labels, "fake", "0123abcd")
    results = [fake_result(labelmap) for labelmap in found]
    bench.editor.deactivate()
    bench.segmentation = writeSequence(bench.volume, allFrames(bench.volume), results, model)
    bench.editor.logic.SetSegmentationNode(bench.segmentation)
    bench.editor.logic.SetSourceVolumeNode(bench.volume)
    bench.editor.select("liver")
    bench.editor.activate()
    counts, prompts = [], []
    for index in (2, 0, 1, 2):
        show_frame(browser, index)
        bench.settle()
        bench.click(CLICK)
        prompts.append(len(bench.prompts))
        counts.append(int(bench.labelmaps()["liver"].sum()))
    assert counts == [WHOLE] * 4
    assert prompts == [1] * 4
    sequence = browser.GetSequenceNode(bench.segmentation)
    records = [read_audit(sequence.GetNthDataNode(n).GetAttribute(AUDIT)).edits for n in range(3)]
    assert [[edit.changed_voxels for edit in edits] for edits in records] == [[ADDED], [ADDED], [WHOLE, 0]]
