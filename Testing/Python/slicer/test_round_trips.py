"""What was written is still there after saving and loading: voxels, places, names, terminology and provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from headless.boot import clear_scene
from headless.reading import read_by_position, read_with_slicer, segment_ids
from headless.samples import (
    add_transform,
    add_volume,
    fake_model,
    ijk_to_ras,
    random_directions,
    random_labelmap,
    random_matrix,
)
from udfa.labels import KNOWN_LABELS
from UDFASegmentationLib.SegmentationLogic import SegmentationLogic

SHAPE = (6, 7, 8)
LABELS = ["spleen", "right_kidney", "liver"]


def tag(segment: Any, name: str) -> str | None:
    value = vtk.reference("")
    return value.get() if segment.GetTag(name, value) else None


def check_segments(node: Any) -> None:
    assert segment_ids(node) == LABELS
    for name in LABELS:
        segment, label = node.GetSegmentation().GetSegment(name), KNOWN_LABELS[name]
        assert segment.GetName() == label.title
        assert segment.GetTerminology() == label.terminology()
        np.testing.assert_allclose(segment.GetColor(), label.color01, atol=1e-5)
        assert tag(segment, "UDFA.Model") == "fake"
        assert tag(segment, "UDFA.ModelSHA256") == "0123abcd"


@pytest.mark.parametrize("seed", range(5))
def test_a_seg_nrrd_file_brings_the_labelmap_back_voxel_for_voxel(seed: int, tmp_path: Path):
    random = np.random.default_rng(seed)
    labelmap = random_labelmap(random, SHAPE, 3)
    volume = add_volume(matrix=random_matrix(random))
    node = SegmentationLogic().segmentVolume(volume, fake_model(labelmap))
    path = tmp_path / "abdomen.seg.nrrd"
    assert slicer.util.saveNode(node, str(path))
    loaded = slicer.util.loadSegmentation(str(path))
    assert loaded is not node
    check_segments(loaded)
    np.testing.assert_array_equal(read_with_slicer(loaded, volume), labelmap)
    np.testing.assert_array_equal(read_by_position(loaded, volume), labelmap)


def test_a_file_of_one_layer_is_written_although_there_are_several_segments(tmp_path: Path):
    labelmap = random_labelmap(np.random.default_rng(0), SHAPE, 3)
    node = SegmentationLogic().segmentVolume(add_volume(), fake_model(labelmap))
    path = tmp_path / "abdomen.seg.nrrd"
    assert slicer.util.saveNode(node, str(path), {"useCompression": 0})
    header = path.read_bytes().split(b"\n\n")[0].decode()
    assert "dimension: 3" in header
    assert [f"Segment{i}_LabelValue:={i + 1}" in header for i in range(3)] == [True, True, True]


def test_a_scene_bundle_brings_everything_back_under_its_transform(tmp_path: Path):
    random = np.random.default_rng(11)
    labelmap = random_labelmap(random, SHAPE, 3)
    # The voxels are the labels: Slicer may flip the axes of a volume when it loads it, moving voxels and labels alike.
    volume = add_volume(labelmap.astype(np.int16), random_matrix(random), name="Abdomen")
    volume.SetAndObserveTransformNodeID(add_transform(ijk_to_ras(rotation=random_directions(random))).GetID())
    SegmentationLogic().segmentVolume(volume, fake_model(labelmap))
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    clear_scene()
    slicer.util.loadScene(str(path))
    volume, node = slicer.util.getNode("Abdomen"), slicer.util.getNode("Abdomen segmentation")
    check_segments(node)
    assert node.GetParentTransformNode() is volume.GetParentTransformNode() is not None
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    assert node.GetAttribute("UDFA.Model") == "fake"
    assert node.GetAttribute("UDFA.EmptyLabels") == ""
    voxels = slicer.util.arrayFromVolume(volume)
    assert sorted(np.unique(voxels)) == [0, 1, 2, 3]
    np.testing.assert_array_equal(read_by_position(node, volume), voxels)
    np.testing.assert_array_equal(read_with_slicer(node, volume), voxels)
