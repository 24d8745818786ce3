"""Writes the results of all frames of a sequence as a sequence of segmentations that plays with its volumes.

Every frame has the same segments, empty ones included, so that colours, visibility and corrections go on from frame to
frame. The segmentation in the scene is the new sequence's proxy node; what is corrected on it is kept in its frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import slicer

from udfa.errors import InvalidInputError
from UDFASegmentationLib.Contracts import LoadedModel, SegmentationSettings
from UDFASegmentationLib.SceneChange import sceneChange
from UDFASegmentationLib.SegmentationWriter import SURFACE, checkFits, frameNode, placeBeside
from UDFASegmentationLib.SequenceFrames import Frame, frameVolume, sequenceBrowser, shownSequence

if TYPE_CHECKING:
    from udfa.inference import SegmentationResult


def writeSequence(
    volumeNode: Any,
    frames: Sequence[Frame],
    results: Sequence[SegmentationResult],
    model: LoadedModel,
    settings: Optional[SegmentationSettings] = None,
) -> slicer.vtkMRMLSegmentationNode:
    """Write the results of all frames into the scene. Call it on the main thread.

    Args:
        volumeNode: The volume that shows the sequence; it must be in a scene.
        frames: The frames that were segmented.
        results: What the engine returned for each of them.
        model: The model that made them.
        settings: Which labels were wanted, and whether with closed surfaces; where to write is of no matter, the
            sequence is always a new one.

    Returns:
        The segmentation node that shows the frame which the volume shows.

    Raises:
        InvalidInputError: The sequence is gone, or does not fit the results any more. The scene is as it was before.
    """
    settings = settings or SegmentationSettings()
    browser, source = sequenceBrowser(volumeNode), shownSequence(volumeNode)
    if source is None or source.GetNumberOfDataNodes() != len(frames):
        raise InvalidInputError(
            f"The sequence of the volume '{volumeNode.GetName()}' was changed during the run. Segment it again."
        )
    nodes = []
    for frame, result in zip(frames, results):
        gridNode = frameVolume(volumeNode, frame)
        checkFits(volumeNode, gridNode, result)
        nodes.append(frameNode(gridNode, frame, result, model, settings))
    scene = volumeNode.GetScene()
    with sceneChange(scene) as added:
        sequence = _emptySequence(scene, source, f"{volumeNode.GetName()} segmentation")
        added.append(sequence)
        for frame, node in zip(frames, nodes):
            node.SetName(sequence.GetName())
            sequence.SetDataNodeAtValue(node, source.GetNthIndexValue(frame.index))
    proxy = _proxy(browser, sequence)
    # The transform first: Slicer turns the geometry into that of the node's own space.
    proxy.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    proxy.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    placeBeside(proxy, volumeNode)
    return proxy


def spreadSurfaces(segmentationNode: Any) -> None:
    """Make the closed surfaces of all frames, or take them away, as the frame that is shown has them.

    Args:
        segmentationNode: The node that shows a sequence of segmentations; others are left as they are.
    """
    sequence = shownSequence(segmentationNode)
    if sequence is None:
        return
    wanted = segmentationNode.GetSegmentation().ContainsRepresentation(SURFACE)
    for index in range(sequence.GetNumberOfDataNodes()):
        node = sequence.GetNthDataNode(index)
        has = node.GetSegmentation().ContainsRepresentation(SURFACE)
        if wanted and not has:
            node.CreateClosedSurfaceRepresentation()
        elif has and not wanted:
            node.RemoveClosedSurfaceRepresentation()


def _emptySequence(scene: Any, source: Any, name: str) -> Any:
    """Add a sequence with the index of another one."""
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", scene.GenerateUniqueName(name))
    sequence.SetIndexName(source.GetIndexName())
    sequence.SetIndexUnit(source.GetIndexUnit())
    sequence.SetIndexType(source.GetIndexType())
    return sequence


def _proxy(browser: Any, sequence: Any) -> slicer.vtkMRMLSegmentationNode:
    """Let a browser show a sequence, and keep changes of what it shows; returns the node that shows it."""
    # As Slicer does itself when a sequence is added: a browser that records would take nothing out of it.
    browser.SetPlaybackActive(False)
    browser.SetRecordingActive(False)
    browser.AddSynchronizedSequenceNode(sequence)
    browser.SetSaveChanges(sequence, True)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    if proxy.GetDisplayNode() is None:
        proxy.CreateDefaultDisplayNodes()
    return proxy
