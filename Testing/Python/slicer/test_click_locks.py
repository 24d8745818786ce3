"""Locks of UDFA Click: set in the effect's options, kept through undo, files and scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import slicer.util

from doubles.click_bench import Bench, greedy_spleen, half_liver
from headless.boot import clear_scene


def rows(bench: Bench) -> dict[str, bool]:
    """The list of locks as the user sees it."""
    import qt

    locks = bench.effect.options.locks
    items = [locks.item(n) for n in range(locks.count)]
    return {item.text(): item.checkState() == qt.Qt.Checked for item in items}


def tick(bench: Bench, name: str, on: bool = True) -> None:
    """Tick a segment in the list, as the user does."""
    import qt

    locks = bench.effect.options.locks
    (item,) = [locks.item(n) for n in range(locks.count) if locks.item(n).text() == name]
    item.setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)


def locked(node: Any) -> set[str]:
    from UDFASegmentationLib.ClickLocks import lockedSegments

    return set(lockedSegments(node))


def test_the_options_list_every_segment_and_ticking_one_locks_it(make):
    bench = make(greedy_spleen())
    assert rows(bench) == {"Liver": False, "Spleen": False}
    before = bench.labelmaps()["spleen"]
    tick(bench, "Spleen")
    assert locked(bench.segmentation) == {"spleen"}
    bench.click((2, 15, 12))
    assert (bench.labelmaps()["spleen"] == before).all()
    tick(bench, "Spleen", False)
    bench.click((2, 15, 12))
    assert not bench.labelmaps()["spleen"][2, 15, 12]


def test_the_buttons_lock_all_but_the_selected_segment_and_let_all_go(make):
    bench = make(half_liver())
    bench.effect.options.lockOthers.click()
    assert rows(bench) == {"Liver": False, "Spleen": True}
    bench.editor.select("spleen")
    bench.effect.options.lockOthers.click()
    assert rows(bench) == {"Liver": True, "Spleen": False}
    bench.effect.options.unlockAll.click()
    assert locked(bench.segmentation) == set()


def test_the_list_follows_segments_that_come_go_change_places_and_are_renamed(make):
    bench = make(half_liver())
    segmentation = bench.segmentation.GetSegmentation()
    segmentation.AddEmptySegment("extra", "Extra")
    bench.settle()
    assert set(rows(bench)) == {"Liver", "Spleen", "Extra"}
    segmentation.GetSegment("extra").SetName("Other")
    bench.settle()
    assert set(rows(bench)) == {"Liver", "Spleen", "Other"}
    segmentation.RemoveSegment("extra")
    bench.settle()
    assert set(rows(bench)) == {"Liver", "Spleen"}
    segmentation.ReorderSegments(["spleen"], "liver")
    bench.settle()
    assert list(rows(bench)) == ["Spleen", "Liver"]


def test_an_undo_of_the_editor_takes_no_lock_away(make):
    bench = make(greedy_spleen())
    bench.editor.host.setParameter("CarrySlices", 0)
    start = bench.labelmaps()["spleen"]
    bench.click((2, 15, 12))
    tick(bench, "Spleen")
    bench.undo()
    assert locked(bench.segmentation) == {"spleen"}
    assert rows(bench)["Spleen"]
    # Slicer brings back the segment as it was, tags included; they are put right.
    assert bench.segmentation.GetSegmentation().GetSegment("spleen").HasTag("UDFA.Locked")
    bench.click((3, 15, 12))
    assert (bench.labelmaps()["spleen"] == start).all()


def test_locks_are_saved_in_seg_nrrd_files(make, tmp_path: Path):
    bench = make(half_liver())
    tick(bench, "Spleen")
    path = tmp_path / "corrected.seg.nrrd"
    assert slicer.util.saveNode(bench.segmentation, str(path))
    loaded = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(loaded)
    assert locked(loaded) == {"spleen"}


def test_locks_and_the_record_of_clicks_are_saved_with_the_scene(make, tmp_path: Path):
    bench = make(half_liver())
    tick(bench, "Spleen")
    bench.click((2, 15, 12))
    record = bench.segmentation.GetAttribute("UDFA.Audit")
    bundle = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(bundle))
    bench.editor.deactivate()
    clear_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(bundle))
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    assert locked(node) == {"spleen"}
    from udfa.audit import read_audit

    assert read_audit(node.GetAttribute("UDFA.Audit")) == read_audit(record)


def test_a_damaged_list_of_locks_counts_as_none(make):
    bench = make(half_liver())
    for text in ("[1", "[]", '{"spleen": "yes"}'):
        bench.segmentation.SetAttribute("UDFA.Locked", text)
        assert locked(bench.segmentation) == set()


def test_locks_on_imported_segments_count(make):
    bench = make(half_liver())
    tick(bench, "Liver")
    tick(bench, "Liver", False)
    segmentation = bench.segmentation.GetSegmentation()
    segmentation.AddEmptySegment("imported", "Imported")
    segmentation.GetSegment("imported").SetTag("UDFA.Locked", "1")
    bench.settle()
    assert locked(bench.segmentation) == {"imported"}


def test_after_an_undo_that_brought_back_other_locks_redo_is_still_possible(make):
    bench = make(greedy_spleen())
    bench.click((2, 15, 12))
    after = bench.labelmaps()["liver"]
    tick(bench, "Spleen")
    bench.undo()
    assert bench.editor.logic.CanRedo()
    bench.redo()
    assert (bench.labelmaps()["liver"] == after).all()
    assert rows(bench)["Spleen"]
    assert len(bench.prompts) == 1


def test_a_lock_that_is_set_after_an_undo_leaves_redo_possible(make):
    bench = make(greedy_spleen())
    bench.click((2, 15, 12))
    bench.undo()
    tick(bench, "Spleen")
    bench.settle()
    assert bench.editor.logic.CanRedo()
    assert bench.segmentation.GetSegmentation().GetSegment("spleen").HasTag("UDFA.Locked")


def test_after_a_lock_was_set_the_segmentation_wants_to_be_saved_again(make, tmp_path: Path):
    bench = make(half_liver())
    assert slicer.util.saveNode(bench.segmentation, str(tmp_path / "saved.seg.nrrd"))
    assert not bench.segmentation.GetModifiedSinceRead()
    tick(bench, "Spleen")
    assert bench.segmentation.GetModifiedSinceRead()


def test_edits_after_a_lock_are_noticed_again(make):
    bench = make(half_liver())
    tick(bench, "Spleen")
    heard = []
    segmentation = bench.segmentation.GetSegmentation()
    segmentation.AddObserver(segmentation.SegmentModified, lambda caller, event: heard.append(event))
    segmentation.GetSegment("spleen").SetName("Other")
    assert len(heard) == 1
