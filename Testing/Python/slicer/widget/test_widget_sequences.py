"""A sequence's proxy volume in the panel: chosen, segmented, and held on to while the browser moves on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import slicer
import slicer.util

from doubles.pythonqt import FileDialogs
from headless.samples import add_cine, ijk_to_ras, show_frame


@pytest.fixture
def browser(scene, _doubles):
    """Two phases of 6 x 5 x 4 voxels (D, H, W) with blocks of 100 and 300, the first one in the slice views."""
    slicer.app.layoutManager().createViews()
    frames = {}
    for name, value, rows in (("end-diastole", 100, slice(1, 4)), ("end-systole", 300, slice(1, 3))):
        frames[name] = np.full((6, 5, 4), -1000, np.int16)
        frames[name][1:5, rows, 1:3] = value
    browser = add_cine(frames)
    slicer.util.setSliceViewerLayers(background=show_frame(browser, 0))
    return browser


def test_the_proxy_volume_in_the_slice_views_is_chosen_and_the_panel_tells_its_frame(browser, opened):
    opened.settle()
    assert opened.ui.inputSelector.currentNode() is show_frame(browser, 0)
    assert "frame 1 of 2, phase end-diastole" in opened.ui.checkLabel.text
    show_frame(browser, 1)
    opened.until(lambda: "frame 2 of 2, phase end-systole" in opened.ui.checkLabel.text)
    opened.settle()


def test_a_run_holds_on_to_the_frame_it_began_with(browser, opened, fake):
    opened.settle()
    fake.hold()
    opened.click("segmentButton")
    opened.until(fake.reached.is_set)
    proxy = show_frame(browser, 1)
    fake.release()
    opened.settle()
    assert fake.volumes[0].array.max() == 100
    node = opened.panel.parameterNode.resultSegmentation
    assert node.GetName() == "Cine frame 1 segmentation"
    # The first block: 4 x 3 x 2 voxels of 100.
    assert slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", proxy).sum() == 24
    liver = opened.panel.result.table.rows[0]
    assert (liver.title, liver.meanIntensity) == ("Liver", 100.0)
    assert "Segmented: frame 1 of 2, phase end-diastole." in opened.ui.statusLabel.text


def test_the_frame_is_the_one_shown_when_the_button_is_pressed_not_when_torch_is_ready(browser, harness, fake):
    def warmUp():
        fake.gate.wait(20)

    harness.open(models=fake, installer=None, warmUp=warmUp)
    harness.widget.enter()
    harness.settle()
    fake.hold()
    harness.click("segmentButton")
    show_frame(browser, 1)
    fake.release()
    harness.settle()
    assert fake.volumes[0].array.max() == 100
    assert harness.panel.parameterNode.resultSegmentation.GetAttribute("UDFA.Frame") == "1/2 phase end-diastole"


def test_the_exported_record_names_the_frame(browser, opened, tmp_path):
    show_frame(browser, 1)
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    FileDialogs.answers.append(str(tmp_path / "systole.seg.nrrd"))
    next(a for a in opened.ui.exportButton.menu().actions() if ".seg.nrrd" in a.text).trigger()
    document = json.loads((tmp_path / "systole.provenance.json").read_text(encoding="utf-8"))
    assert document["run"]["frame"] == "frame 2 of 2, phase end-systole"


@pytest.mark.usefixtures("_doubles", "scene")
def test_the_uncertainty_map_lies_on_the_grid_of_its_frame():
    from UDFASegmentationLib.SequenceFrames import currentFrame
    from UDFASegmentationLib.UncertaintyReview import writeUncertainty

    voxels = np.zeros((3, 4, 5), np.uint8)
    browser = add_cine({"a": voxels, "b": voxels}, {"a": ijk_to_ras((2.0, 2.0, 8.0))})
    proxy = show_frame(browser, 0)
    frame = currentFrame(proxy)
    show_frame(browser, 1)
    assert writeUncertainty(proxy, voxels, "axial", frame=frame).GetSpacing() == pytest.approx((2.0, 2.0, 8.0))


def test_deleting_the_sequence_during_a_run_leaves_the_result_on_its_volume(browser, opened, fake, scene):
    opened.settle()
    fake.hold()
    opened.click("segmentButton")
    opened.until(fake.reached.is_set)
    sequence, proxy = browser.GetMasterSequenceNode(), show_frame(browser, 0)
    scene.RemoveNode(browser)
    scene.RemoveNode(sequence)
    fake.release()
    opened.settle()
    node = opened.panel.parameterNode.resultSegmentation
    assert slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", proxy).sum() == 24
