"""Load the sample CT, segment, read the table, save: with real checkpoints and real MRML."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util

from doubles.harness import MODULE_FILE
from doubles.pythonqt import FileDialogs

RESOURCES = MODULE_FILE.parent / "Resources"
SAMPLE = RESOURCES / "SampleData" / "abdomen_ct.nii.gz"


def walk(harness, tmp_path: Path) -> list[list[str]]:
    """Do what the README's tutorial tells; return the lines of the saved table."""
    volume = slicer.util.loadVolume(str(SAMPLE))
    slicer.util.setSliceViewerLayers(background=volume)
    harness.open(installer=None)
    harness.widget.enter()
    assert harness.ui.inputSelector.currentNode() is volume
    harness.ui.uncertaintyCheckBox.checked = True
    harness.settle(60)
    harness.click("segmentButton")
    harness.settle(1800)
    assert harness.ui.statusLabel.text.startswith("Done in"), harness.ui.statusLabel.text
    FileDialogs.answers += [str(tmp_path / "volumes.csv"), str(tmp_path / "case.seg.nrrd")]
    harness.click("saveTableButton")
    action = next(a for a in harness.ui.exportButton.menu().actions() if ".seg.nrrd" in a.text)
    action.trigger()
    with (tmp_path / "volumes.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_walk_with_a_tiny_checkpoint_of_random_weights(harness, tmp_path):
    lines = walk(harness, tmp_path)
    assert [line[0] for line in lines] == ["Segment", "Liver", "Spleen"]
    node = slicer.util.loadSegmentation(str(tmp_path / "case.seg.nrrd"))
    shown = harness.panel.parameterNode.resultSegmentation
    volume = harness.panel.parameterNode.inputVolume
    for segmentID in shown.GetSegmentation().GetSegmentIDs():
        saved = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume)
        assert np.array_equal(saved, slicer.util.arrayFromSegmentBinaryLabelmap(shown, segmentID, volume))
    uncertainty = slicer.util.arrayFromVolume(harness.panel.parameterNode.uncertaintyVolume)
    assert uncertainty.shape == slicer.util.arrayFromVolume(volume).shape
    # Random weights are unsure nearly everywhere.
    assert uncertainty.mean() > 30
    harness.click("nextDoubtfulButton")
    assert harness.ui.statusLabel.text.startswith("Doubtful slice 1 of")


def test_the_walk_with_the_bundled_checkpoint_finds_the_organs(harness, tmp_path, monkeypatch):
    import udfa.models

    monkeypatch.setattr(udfa.models, "bundled_folder", lambda: RESOURCES / "models")
    lines = walk(harness, tmp_path)
    assert harness.panel.models.current.name == "abdomen-ct-mini"
    found = {line[0]: (float(line[1]), line[2]) for line in lines[1:]}
    # A whole liver and spleen, in mL and HU.
    assert 1000 < found["Liver"][0] < 2500
    assert 20 < float(found["Liver"][1]) < 200
    assert 80 < found["Spleen"][0] < 500
    assert harness.ui.estimateLabel.text.startswith("112 slices: about")


def test_the_modules_own_test_passes(harness, models, monkeypatch):
    """What runs inside Slicer, here on the doubles; without the checks of runs, which follow one by one."""
    from UDFASegmentation import UDFASegmentationTest
    from UDFASegmentationLib import SlicerChecks

    monkeypatch.setattr(SlicerChecks, "canRun", lambda: False)
    UDFASegmentationTest("runTest").runTest()


@pytest.mark.parametrize("name", ["checkRun", "checkSequence", "checkCancel"])
def test_the_modules_own_checks_of_runs_pass_with_the_bundled_checkpoint(harness, monkeypatch, name):
    import udfa.models
    from UDFASegmentation import UDFASegmentationLogic
    from UDFASegmentationLib import SlicerChecks

    monkeypatch.setattr(udfa.models, "bundled_folder", lambda: RESOURCES / "models")
    getattr(SlicerChecks, name)(UDFASegmentationLogic())


def test_the_modules_own_checks_notice_a_segmentation_left_behind(harness, monkeypatch, models):
    """A check that cannot fail would be worthless: here cancelling is made to do nothing."""
    from UDFASegmentation import UDFASegmentationLogic
    from UDFASegmentationLib import SlicerChecks
    from UDFASegmentationLib.SegmentationRun import SegmentationRun

    monkeypatch.setattr(SegmentationRun, "cancel", lambda self: None)
    monkeypatch.setattr(SlicerChecks, "CANCEL_SECONDS", 600.0)
    with pytest.raises(AssertionError, match="left a segmentation behind"):
        SlicerChecks.checkCancel(UDFASegmentationLogic())
