"""What a reader corrected with clicks and saved from Slicer is what `udfa-train prepare corrections` reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import slicer.util

from doubles.click_bench import LIVER, SPLEEN, half_liver, image, truth
from headless.samples import ijk_to_ras, random_directions
from udfa.volume_io import read_volume
from udfa_training.cli import main

OBLIQUE = ijk_to_ras((1.0, 1.0, 2.0), random_directions(np.random.default_rng(4)), (10.0, 20.0, -5.0))


def prepared(source: Path, output: Path, *options: str) -> tuple[dict, np.ndarray, np.ndarray]:
    """Manifest, and image and labels of the only case."""
    command = ["prepare", "corrections", str(source), str(output), "--modality", "CT", "--licence", "mine"]
    assert main([*command, *options]) == 0
    manifest = json.loads((output / "manifest.json").read_text())
    (case,) = manifest["cases"]
    return manifest, read_volume(output / case["image"]).array, read_volume(output / case["label"]).array


@pytest.mark.parametrize("oblique", [False, True])
def test_clicks_saved_from_slicer_become_training_data(oblique: bool, make, tmp_path: Path):
    bench = make(half_liver(), OBLIQUE) if oblique else make(half_liver())
    bench.click((2, 15, 12))
    bench.click((3, 15, 8), positive=False)
    bench.undo()
    expected = bench.labelmaps()
    assert np.count_nonzero(expected["liver"]) > np.count_nonzero(half_liver() == LIVER)
    source = tmp_path / "source"
    source.mkdir()
    assert slicer.util.saveNode(bench.volume, str(source / "ct.nrrd"))
    assert slicer.util.saveNode(bench.segmentation, str(source / "ct organs.seg.nrrd"))
    manifest, pixels, labels = prepared(source, tmp_path / "data")
    # The stomach was looked for and not found: it has no segment, and no case has one.
    assert manifest["labels"] == ["spleen", "liver"]
    assert np.array_equal(pixels, image())
    assert np.array_equal(labels == 2, expected["liver"])
    assert np.array_equal(labels == 1, expected["spleen"])
    facts = manifest["cases"][0]["facts"]
    assert (facts["model"], facts["model_sha256"], facts["clicks"]) == ("fake", "0123abcd", 1)
    assert facts["corrected_labels"] == "liver"


def test_a_structure_drawn_by_hand_is_a_label_of_its_name(make, tmp_path: Path):
    bench = make(truth())
    segmentation = bench.segmentation.GetSegmentation()
    drawn = segmentation.AddEmptySegment("", "My lesion")
    lesion = np.zeros_like(truth())
    lesion[2, 10:12, 28:30] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(lesion, bench.segmentation, drawn, bench.volume)
    segmentation.AddEmptySegment("", "Gallbladder")
    source = tmp_path / "source" / "patient1"
    source.mkdir(parents=True)
    assert slicer.util.saveNode(bench.volume, str(source / "2 Abdomen.nrrd"))
    assert slicer.util.saveNode(bench.segmentation, str(source / "Segmentation.seg.nrrd"))
    manifest, _, labels = prepared(source.parent, tmp_path / "data")
    assert manifest["labels"] == ["spleen", "gallbladder", "liver", "my_lesion"]
    assert manifest["cases"][0]["name"] == "patient1"
    assert manifest["cases"][0]["voxels"]["gallbladder"] == 0
    assert np.array_equal(labels == 4, lesion)
    assert np.array_equal(labels == 3, truth() == LIVER)
    assert np.array_equal(labels == 1, truth() == SPLEEN)


def test_segments_that_overlap_in_slicer_are_read_from_both_layers(make, tmp_path: Path):
    bench = make(truth())
    inner = bench.segmentation.GetSegmentation().AddEmptySegment("", "Lesion")
    lesion = np.zeros_like(truth())
    lesion[2, 10:14, 6:10] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(lesion, bench.segmentation, inner, bench.volume)
    source = tmp_path / "source"
    source.mkdir()
    assert slicer.util.saveNode(bench.volume, str(source / "ct.nrrd"))
    assert slicer.util.saveNode(bench.segmentation, str(source / "ct.seg.nrrd"))
    manifest, _, labels = prepared(source, tmp_path / "data", "--labels", "liver,lesion")
    assert np.array_equal(labels == 2, lesion)
    assert np.array_equal(labels == 1, (truth() == LIVER) & (lesion == 0))
    assert "Segments that count as background: spleen." in manifest["notes"]
