"""Volumes of real sequence browsers: which frame they show, and results that stay with their frame."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import slicer
import slicer.util

from headless.reading import read_with_slicer
from headless.samples import add_cine, add_volume, fake_model, fake_result, ijk_to_ras, show_frame
from UDFASegmentationLib import Provenance
from UDFASegmentationLib.SegmentationWriter import writeResult
from UDFASegmentationLib.SegmentMeasurement import measure, takeSnapshot
from UDFASegmentationLib.SequenceFrames import Frame, currentFrame, frameVolume

SHAPE = (3, 4, 5)
PHASES = {name: np.full(SHAPE, value, np.int16) for name, value in (("end-diastole", 100), ("end-systole", 300))}


def labelmap():
    array = np.zeros(SHAPE, np.uint8)
    array[1, 1:3, 2:4] = 1
    return array


def test_the_shown_frame_is_known_by_number_count_and_value():
    browser = add_cine(PHASES)
    assert currentFrame(show_frame(browser, 1)) == Frame(1, 2, "phase end-systole")
    assert currentFrame(show_frame(browser, 1)).title == "frame 2 of 2, phase end-systole"
    assert currentFrame(add_volume()) is None


def test_index_values_that_are_just_numbers_are_not_told():
    browser = add_cine({"0": PHASES["end-diastole"], "1": PHASES["end-systole"]})
    assert currentFrame(show_frame(browser, 1)).title == "frame 2 of 2"


def test_a_slicer_without_sequences_has_single_volumes(monkeypatch):
    monkeypatch.setattr(slicer, "modules", SimpleNamespace())
    assert currentFrame(add_volume()) is None


def test_the_voxels_of_a_frame_are_found_after_the_browser_has_moved_on():
    browser = add_cine(PHASES)
    proxy = show_frame(browser, 0)
    frame = currentFrame(proxy)
    assert frameVolume(proxy, frame) is proxy
    show_frame(browser, 1)
    assert slicer.util.arrayFromVolume(proxy).max() == 300
    assert slicer.util.arrayFromVolume(frameVolume(proxy, frame)).max() == 100


def test_without_its_sequence_a_volume_stands_for_itself():
    browser = add_cine(PHASES)
    proxy = show_frame(browser, 1)
    frame = currentFrame(proxy)
    slicer.mrmlScene.RemoveNode(browser)
    assert frameVolume(proxy, frame) is proxy
    assert frameVolume(proxy, None) is proxy


def test_the_result_names_its_frame():
    proxy = show_frame(add_cine(PHASES), 1)
    node = writeResult(proxy, fake_result(labelmap()), fake_model(labelmap(), "liver"), frame=currentFrame(proxy))
    assert node.GetName() == "Cine frame 2 segmentation"
    assert node.GetAttribute("UDFA.Frame") == "2/2 phase end-systole"
    assert Provenance.recordedFrame(node) == Frame(1, 2, "phase end-systole")


def test_a_later_run_on_an_ordinary_volume_forgets_the_frame():
    proxy, model = show_frame(add_cine(PHASES), 1), fake_model(labelmap(), "liver")
    node = writeResult(proxy, fake_result(labelmap()), model, frame=currentFrame(proxy))
    Provenance.describeFrame(node, None)
    assert Provenance.recordedFrame(node) is None


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "x/2 y", "/", "-1/2"])
def test_an_unreadable_record_of_a_frame_counts_as_none(text):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetAttribute("UDFA.Frame", text)
    assert Provenance.recordedFrame(node) is None


def test_a_result_lies_on_the_grid_of_its_frame_when_another_frame_lies_elsewhere():
    matrices = {"end-diastole": ijk_to_ras((2.0, 2.0, 8.0)), "end-systole": ijk_to_ras(origin=(50.0, 60.0, 70.0))}
    browser = add_cine(PHASES, matrices)
    proxy = show_frame(browser, 0)
    frame = currentFrame(proxy)
    show_frame(browser, 1)
    node = writeResult(proxy, fake_result(labelmap()), fake_model(labelmap(), "liver"), frame=frame)
    show_frame(browser, 0)
    np.testing.assert_array_equal(read_with_slicer(node, proxy), labelmap())
    corner = [0.0] * 6
    node.GetSegmentation().GetSegment("liver").GetBounds(corner)
    # Voxels 2..3, 1..2, 1..1 of 2 x 2 x 8 mm; bounds go through the outer voxel corners.
    assert corner == pytest.approx([3.0, 7.0, 1.0, 5.0, 4.0, 12.0])


def test_intensities_are_those_of_the_segmented_frame_whichever_is_shown():
    browser = add_cine(PHASES)
    proxy = show_frame(browser, 0)
    node = writeResult(proxy, fake_result(labelmap()), fake_model(labelmap(), "liver"), frame=currentFrame(proxy))
    show_frame(browser, 1)
    (row,) = measure(takeSnapshot(node, proxy))
    assert (row.volumeML, row.meanIntensity) == (pytest.approx(0.004), 100.0)
