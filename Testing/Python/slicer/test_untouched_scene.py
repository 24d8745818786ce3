"""After an error or a cancel the scene is as it was: the same nodes, with the same content."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util

from headless.reading import internal_voxels, segment_ids
from headless.samples import add_transform, add_volume, cancel_after, fake_model, fake_result, random_labelmap
from udfa.errors import CancelledError, InvalidInputError, UDFAError
from UDFASegmentationLib import Provenance, SegmentationWriter
from UDFASegmentationLib.Contracts import SegmentationSettings
from UDFASegmentationLib.SegmentationLogic import SegmentationLogic

SHAPE = (6, 7, 8)
LABELS = ["spleen", "right_kidney", "liver"]


@pytest.fixture
def labelmap() -> np.ndarray:
    return random_labelmap(np.random.default_rng(1), SHAPE, 3)


@pytest.fixture
def volume() -> Any:
    node = add_volume()
    node.SetAndObserveTransformNodeID(add_transform(np.eye(4)).GetID())
    return node


@pytest.fixture
def given(volume: Any, labelmap: np.ndarray) -> Any:
    """A segmentation the user has worked on."""
    node = SegmentationWriter.writeResult(volume, fake_result(labelmap[::-1].copy()), fake_model(labelmap))
    node.GetDisplayNode().SetSegmentVisibility("liver", False)
    node.SetAttribute("Reviewer", "A. B.")
    return node


def times() -> dict[str, int]:
    """Modification time of every node, of its image data and of its segmentation."""
    state = {}
    for node in all_nodes():
        parts = [node]
        parts += [node.GetImageData()] if node.IsA("vtkMRMLVolumeNode") else []
        parts += [node.GetSegmentation()] if node.IsA("vtkMRMLSegmentationNode") else []
        state[node.GetID()] = max(part.GetMTime() for part in parts if part is not None)
    return state


def all_nodes() -> list[Any]:
    scene = slicer.mrmlScene
    return [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]


def saved() -> str:
    """The scene as it would be written to a file: all nodes with their properties, attributes and references."""
    slicer.mrmlScene.SetSaveToXMLString(1)
    slicer.mrmlScene.Commit()
    slicer.mrmlScene.SetSaveToXMLString(0)
    return slicer.mrmlScene.GetSceneXMLString()


def content(node: Any) -> Any:
    """Everything that matters of a segmentation node, for comparison."""
    segmentation = node.GetSegmentation()
    segments = {}
    for segment_id in segment_ids(node):
        segment = segmentation.GetSegment(segment_id)
        visible = node.GetDisplayNode().GetSegmentVisibility(segment_id)
        segments[segment_id] = (
            segment.GetName(),
            segment.GetColor(),
            segment.GetTerminology(),
            frozenset(internal_voxels(node, segment_id)),
            visible,
        )
    attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames()}
    references = node.GetTransformNodeID(), node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole())
    return list(segments), segments, segmentation.GetNumberOfLayers(), attributes, references


def settings(given: Any) -> SegmentationSettings:
    return SegmentationSettings(segmentationNode=given, replaceExisting=True, closedSurface=True)


@pytest.mark.parametrize("into_given", [False, True])
def test_an_error_in_the_engine_touches_nothing(volume, given, labelmap, into_given):
    before = times()
    model = fake_model(labelmap, error=UDFAError("Memory ran out."))
    with pytest.raises(UDFAError, match="Memory ran out"):
        SegmentationLogic().segmentVolume(volume, model, settings(given) if into_given else None)
    assert times() == before


@pytest.mark.parametrize("call", [1, 4, 7])
def test_a_cancel_at_the_start_in_the_middle_or_just_before_writing_touches_nothing(volume, given, labelmap, call):
    before = times()
    with pytest.raises(CancelledError):
        SegmentationLogic().segmentVolume(volume, fake_model(labelmap), settings(given), cancelled=cancel_after(call))
    assert times() == before


def test_an_unusable_volume_touches_nothing(given):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    before = times()
    with pytest.raises(InvalidInputError):
        SegmentationLogic().segmentVolume(empty, fake_model(np.zeros(SHAPE, np.uint8)))
    assert times() == before


@pytest.mark.parametrize("step", ["label_box", "_insert", "Provenance.describeRun"])
def test_a_failure_while_writing_a_new_segmentation_leaves_nothing_behind(volume, labelmap, monkeypatch, step):
    monkeypatch.setattr(f"UDFASegmentationLib.SegmentationWriter.{step}", failing)
    before = saved()
    assert 'name="CT"' in before
    with pytest.raises(RuntimeError, match="out of luck"):
        SegmentationLogic().segmentVolume(volume, fake_model(labelmap), SegmentationSettings(closedSurface=True))
    assert saved() == before


@pytest.mark.parametrize("replace", [False, True])
def test_a_failure_at_the_very_end_takes_back_what_was_written_into_a_given_segmentation(
    volume, given, labelmap, monkeypatch, replace
):
    original = Provenance.describeRun

    def describe_and_fail(*arguments: Any) -> None:
        original(*arguments)
        failing()

    monkeypatch.setattr(Provenance, "describeRun", describe_and_fail)
    before, scene_before = content(given), saved()
    changed = fake_model(labelmap, "liver", "aorta", "spleen")
    with pytest.raises(RuntimeError, match="out of luck"):
        SegmentationLogic().segmentVolume(
            volume, changed, SegmentationSettings(segmentationNode=given, replaceExisting=replace)
        )
    assert content(given) == before
    assert saved() == scene_before


def test_a_failure_takes_back_transform_and_geometry_of_an_empty_segmentation(volume, labelmap, monkeypatch):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "output")
    before = saved()
    monkeypatch.setattr(Provenance, "describeRun", failing)
    with pytest.raises(RuntimeError, match="out of luck"):
        SegmentationLogic().segmentVolume(volume, fake_model(labelmap), SegmentationSettings(segmentationNode=node))
    assert saved() == before
    assert segment_ids(node) == []
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    assert node.GetSegmentation().GetConversionParameter(name) == ""


def failing(*arguments: Any, **named: Any) -> None:
    raise RuntimeError("out of luck")
