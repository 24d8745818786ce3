"""How many states the Segment Editor may keep for undo: each is a copy of all that has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer

from headless.samples import add_volume, fake_model, fake_result

SHAPE = (10, 100, 100)
"""100,000 voxels of one byte when the labels reach from corner to corner."""


def segmentation(reach: int = 100) -> Any:
    """Liver and spleen in one labelmap, which fills `reach` rows of the volume."""
    from UDFASegmentationLib.SegmentationWriter import writeResult

    labelmap = np.zeros(SHAPE, np.uint8)
    labelmap[:, :reach, :50], labelmap[:, :reach, 50:] = 1, 2
    return writeResult(
        add_volume(np.zeros(SHAPE, np.int16)), fake_result(labelmap), fake_model(labelmap, "liver", "spleen")
    )


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """At most 2 MB for undo: 20 copies of the labelmap."""
    from UDFASegmentationLib import UndoMemory

    monkeypatch.setattr(UndoMemory, "MOST_BYTES", 2_100_000)
    return UndoMemory.UndoMemory()


def test_slicers_history_copies_the_whole_labelmap_for_every_state():
    from UDFASegmentationLib.UndoMemory import bytesPerState

    node = segmentation()
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(node.GetSegmentation())
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    before = image.GetReferenceCount()
    history.SaveState()
    assert image.GetReferenceCount() == before, "a copy, not the image itself"
    assert bytesPerState(node) == pytest.approx(100_000, rel=0.05), "the labelmap that both segments share, once"


def test_as_many_states_are_kept_as_fit_into_the_memory(limit: Any):
    assert limit.states(segmentation(100), 50) == 20
    assert limit.states(segmentation(50), 50) == 41


def test_the_user_may_want_fewer_states(limit: Any):
    assert limit.states(segmentation(), 7) == 7
    assert limit.states(None, 50) == 50


def test_no_fewer_states_are_kept_than_the_segment_editor_module_keeps(limit: Any, monkeypatch: pytest.MonkeyPatch):
    from UDFASegmentationLib import UndoMemory

    monkeypatch.setattr(UndoMemory, "MOST_BYTES", 1000)
    assert limit.states(segmentation(), 50) == 10


def test_surfaces_are_counted_too(limit: Any):
    node = segmentation(50)
    alone = limit.states(node, 500)
    node.CreateClosedSurfaceRepresentation()
    assert limit.states(node, 500) < alone


def test_a_labelmap_that_shrinks_again_as_by_undo_takes_no_state_away_and_adds_none(limit: Any):
    node = segmentation(50)
    assert limit.states(node, 50) == 41
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    image.SetExtent(0, 99, 0, 99, 0, 9)
    image.AllocateScalars(image.GetScalarType(), 1)
    assert limit.states(node, 50) == 20
    image.SetExtent(0, 99, 0, 9, 0, 9)
    image.AllocateScalars(image.GetScalarType(), 1)
    assert limit.states(node, 50) == 20, "the larger states may still be kept"
    assert limit.states(segmentation(50), 50) == 41, "another segmentation has a history of its own"


def test_a_large_ct_costs_no_more_than_a_gigabyte():
    from UDFASegmentationLib.UndoMemory import MOST_BYTES, statesThatFit

    assert MOST_BYTES <= 1_000_000_000
    for voxels in (256 * 256 * 12, 512 * 512 * 100, 512 * 512 * 300, 512 * 512 * 2000):
        states = statesThatFit(voxels, 50)
        assert states == 10 or states * voxels <= 1_000_000_000
        assert 10 <= states <= 50
