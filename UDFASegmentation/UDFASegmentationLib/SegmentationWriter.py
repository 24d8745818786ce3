"""Writes a labelmap into a segmentation node: everything is built aside first, the scene changes at the end, in one go.

All new segments share one labelmap (one layer), cropped to what is not empty, on exactly the volume's grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import slicer
import vtk

from udfa.errors import InvalidInputError, UDFAError
from udfa.postprocessing import label_box
from UDFASegmentationLib import Provenance
from UDFASegmentationLib.Contracts import LoadedModel, SegmentationSettings, wantedLabels
from UDFASegmentationLib.SceneChange import sceneChange
from UDFASegmentationLib.SequenceFrames import Frame, frameVolume
from UDFASegmentationLib.VolumeConversion import (
    labelsInImage,
    moveToSegmentation,
    orientedImage,
    presentLabels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from udfa.inference import SegmentationResult
    from udfa.labels import Label

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


@dataclass(frozen=True)
class _Draft:
    """A finished result that is not in the scene yet.

    Attributes:
        segments: Label and segment, in label order; the segments share one labelmap.
        empty: Labels without a voxel.
        notes: What the user should know, in plain words.
    """

    segments: list[tuple[Label, slicer.vtkSegment]]
    empty: list[Label]
    notes: list[str]


def writeResult(
    volumeNode: Any,
    result: SegmentationResult,
    model: LoadedModel,
    settings: Optional[SegmentationSettings] = None,
    frame: Optional[Frame] = None,
) -> slicer.vtkMRMLSegmentationNode:
    """Write a result into the scene. Call it on the main thread.

    A new node gets the volume's parent transform and geometry and is named after it. In a given node all segments
    are kept as they are, except, with `replaceExisting`, those that have the ID or name of a label of this run: they
    get the new voxels and keep their ID, colour and place in the list.

    Args:
        volumeNode: The volume that was segmented; it must be in a scene.
        result: What the engine returned; its labelmap is (D, H, W) on the volume's grid.
        model: The model that made it.
        settings: Where and how to write; None creates a new segmentation node.
        frame: The frame that was read, if the volume shows a sequence: the result lies on that frame's grid, also when
            another frame is shown by now.

    Returns:
        The segmentation node. Its attributes `UDFA.*` tell model, device, seconds, empty labels and notes.

    Raises:
        InvalidInputError: The result does not fit the volume, or the given segmentation cannot take it. The scene is
            as it was before.
    """
    settings = settings or SegmentationSettings()
    gridNode = frameVolume(volumeNode, frame)
    checkFits(volumeNode, gridNode, result)
    target = settings.segmentationNode
    checkTarget(target, volumeNode)
    draft = _draft(volumeNode, gridNode, result, model, settings)
    scene = volumeNode.GetScene()
    with sceneChange(scene, target) as added:
        node = target
        if node is None:
            shown = f" frame {frame.index + 1}" if frame is not None else ""
            name = scene.GenerateUniqueName(f"{volumeNode.GetName()}{shown} segmentation")
            node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
            added.append(node)
        _adoptGeometry(node, volumeNode, gridNode)
        _insert(node, draft, model, settings)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            added.append(node.GetDisplayNode())
        Provenance.describeRun(node, model, result, [label.name for label in draft.empty], draft.notes)
        Provenance.describeFrame(node, frame)
    placeBeside(node, volumeNode)
    return node


def frameNode(
    gridNode: Any, frame: Frame, result: SegmentationResult, model: LoadedModel, settings: SegmentationSettings
) -> slicer.vtkMRMLSegmentationNode:
    """Return the result of one frame as a segmentation node of its own that is in no scene yet.

    All wanted labels have a segment, also those without a voxel, so that the frames of a sequence are alike.

    Args:
        gridNode: A volume on the frame's grid.
        frame: The frame.
        result: What the engine returned; its labelmap is (D, H, W) on that grid.
        model: The model that made it.
        settings: Which labels are wanted, and whether with closed surfaces.

    Raises:
        UDFAError: Slicer cannot make the closed surfaces.
    """
    labels = wantedLabels(model, settings)
    present = presentLabels(result.labelmap)
    image = orientedImage(result.labelmap, _labelledBox(result.labelmap), gridNode)
    node = slicer.vtkMRMLSegmentationNode()
    for value, label in labels.items():
        segment = _segment(label, value, image)
        Provenance.describeSegment(segment, model)
        node.GetSegmentation().AddSegment(segment, label.name)
    _setGeometry(node, gridNode)
    empty = [label.name for value, label in labels.items() if value not in present]
    Provenance.describeRun(node, model, result, empty, [])
    Provenance.describeFrame(node, frame)
    if settings.closedSurface:
        _makeSurfaces(node)
    return node


def checkFits(volumeNode: Any, gridNode: Any, result: SegmentationResult) -> None:
    """Check that a result has the shape of the grid that it is for, and that its volume is still there.

    Raises:
        InvalidInputError: It has not, or it is not.
    """
    imageData = gridNode.GetImageData()
    shape = (0, 0, 0) if imageData is None else tuple(reversed(imageData.GetDimensions()))
    if volumeNode.GetScene() is None:
        raise InvalidInputError(f"The volume '{volumeNode.GetName()}' is no longer in the scene. Segment it again.")
    if tuple(result.labelmap.shape) != shape:
        raise InvalidInputError(
            f"The result has {tuple(result.labelmap.shape)} voxels (D, H, W), but the volume '{volumeNode.GetName()}' "
            f"has {shape}: it was changed during the run. Segment it again."
        )


def checkTarget(node: Optional[Any], volumeNode: Any) -> None:
    """Check that a segmentation node can take the segments of a volume; call it before a long run.

    Args:
        node: Segmentation node that is in the scene already, or None for a new one.
        volumeNode: The volume.

    Raises:
        InvalidInputError: The node is in another scene or in none, or is not stored as labelmaps.
    """
    if node is None:
        return
    if node.GetScene() is not volumeNode.GetScene():
        raise InvalidInputError(
            f"The segmentation '{node.GetName()}' is not in the scene of the volume. Choose another segmentation."
        )
    segmentation = node.GetSegmentation()
    source = segmentation.GetSourceRepresentationName()
    if segmentation.GetNumberOfSegments() > 0 and source != LABELMAP:
        raise InvalidInputError(
            f"The segmentation '{node.GetName()}' is stored as {source.lower()}, to which labelmaps cannot be added "
            f"without converting its segments. Choose a new segmentation, or make binary labelmap its source "
            f"representation in the Segmentations module."
        )


def _isUnused(node: Any) -> bool:
    """Whether the node is new or as empty as new, so that it may take over the volume's parent transform."""
    return node.GetSegmentation().GetNumberOfSegments() == 0 and node.GetParentTransformNode() is None


def _draft(
    volumeNode: Any, gridNode: Any, result: SegmentationResult, model: LoadedModel, settings: SegmentationSettings
) -> _Draft:
    """Build the segments aside, in the space of the node that they are for."""
    labels = wantedLabels(model, settings)
    present, note = presentLabels(result.labelmap) & set(labels), ""
    if not present:
        return _Draft([], list(labels.values()), [])
    image = orientedImage(result.labelmap, _labelledBox(result.labelmap), gridNode)
    target = settings.segmentationNode
    if target is not None and not _isUnused(target):
        image, note = moveToSegmentation(image, volumeNode, target)
        # Resampling may lose a label that is only a few voxels large.
        present = present & labelsInImage(image) if note else present
    segments = [(label, _segment(label, value, image)) for value, label in labels.items() if value in present]
    for _, segment in segments:
        Provenance.describeSegment(segment, model)
    empty = [label for value, label in labels.items() if value not in present]
    return _Draft(segments, empty, [note] if note else [])


def _labelledBox(labelmap: NDArray[np.uint8]) -> tuple[slice, slice, slice]:
    """Smallest (D, H, W) box around all labels of a labelmap."""
    box = label_box((labelmap > 0).view(np.uint8), 1)
    # Of nothing the first voxel: Slicer refuses labelmaps without any.
    return box or (slice(0, 1), slice(0, 1), slice(0, 1))


def _segment(label: Label, value: int, image: slicer.vtkOrientedImageData) -> slicer.vtkSegment:
    """Return a segment with standard name, colour and terminology that is the voxels of one value of an image."""
    segment = slicer.vtkSegment()
    segment.SetName(label.title)
    segment.SetColor(*label.color01)
    segment.SetLabelValue(value)
    terminology = label.terminology()
    if terminology is not None:
        # SetTerminology came with Slicer 5.10.
        if hasattr(segment, "SetTerminology"):
            segment.SetTerminology(terminology)
        else:
            segment.SetTag(segment.GetTerminologyEntryTagName(), terminology)
    segment.AddRepresentation(LABELMAP, image)
    return segment


def _adoptGeometry(node: Any, volumeNode: Any, gridNode: Any) -> None:
    """Give a node without segments the volume's transform, unless it has one, and the grid of the segmented frame."""
    if _isUnused(node):
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    if node.GetSegmentation().GetNumberOfSegments() == 0:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        if gridNode is not volumeNode and node.GetParentTransformNode() is volumeNode.GetParentTransformNode():
            _setGeometry(node, gridNode)


def _setGeometry(node: Any, gridNode: Any) -> None:
    """Make a volume's grid the one on which the segments are edited."""
    matrix = vtk.vtkMatrix4x4()
    gridNode.GetIJKToRASMatrix(matrix)
    geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, gridNode.GetImageData())
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    node.GetSegmentation().SetConversionParameter(name, geometry)


def _insert(node: Any, draft: _Draft, model: LoadedModel, settings: SegmentationSettings) -> None:
    """Add the draft's segments to a node in the scene; existing ones are replaced if asked for."""
    segmentation = node.GetSegmentation()
    hasSurfaces = segmentation.ContainsRepresentation(SURFACE)
    for label, segment in draft.segments:
        existingID = _existingSegment(segmentation, label) if settings.replaceExisting else ""
        if existingID:
            segmentation.ClearSegment(existingID)
            existing = segmentation.GetSegment(existingID)
            _takeVoxels(existing, segment)
            Provenance.describeSegment(existing, model)
            continue
        segmentID = _nameUnused(segment, label, segmentation)
        if not segmentation.AddSegment(segment, segmentID):
            raise UDFAError(f"Slicer did not accept the segment '{segment.GetName()}' in '{node.GetName()}'.")
    for label in draft.empty if settings.replaceExisting else []:
        existingID = _existingSegment(segmentation, label)
        if existingID:
            segmentation.ClearSegment(existingID)
    # Slicer drops all surfaces when a labelmap changes; those of kept segments come back as they were.
    if hasSurfaces or settings.closedSurface:
        _makeSurfaces(node)


def _makeSurfaces(node: Any) -> None:
    if not node.CreateClosedSurfaceRepresentation():
        raise UDFAError("Slicer could not make the closed surfaces. Segment again without them.")


def _existingSegment(segmentation: slicer.vtkSegmentation, label: Label) -> str:
    """ID of the segment that is called like a label, by ID or (ignoring case) by name; empty if there is none."""
    if segmentation.GetSegment(label.name) is not None:
        return label.name
    return segmentation.GetSegmentIdBySegmentName(label.title)


def _takeVoxels(existing: slicer.vtkSegment, new: slicer.vtkSegment) -> None:
    """Give a segment the voxels of another; its review status starts afresh."""
    existing.RemoveAllRepresentations()
    existing.SetLabelValue(new.GetLabelValue())
    existing.AddRepresentation(LABELMAP, new.GetRepresentation(LABELMAP))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(existing, logic.NotStarted)


def _nameUnused(segment: slicer.vtkSegment, label: Label, segmentation: slicer.vtkSegmentation) -> str:
    """Number name and ID of a segment if they are taken ("Liver 2", "liver_2"). Sets the name, returns the ID."""
    segmentID, name, number = label.name, label.title, 1
    while segmentation.GetSegment(segmentID) is not None or segmentation.GetSegmentIdBySegmentName(name):
        number += 1
        segmentID, name = f"{label.name}_{number}", f"{label.title} {number}"
    segment.SetName(name)
    return segmentID


def placeBeside(node: Any, volumeNode: Any) -> None:
    """Put the node into the volume's study or folder. Without the application there are no items to move."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    volumeItem, item = hierarchy.GetItemByDataNode(volumeNode), hierarchy.GetItemByDataNode(node)
    if volumeItem and item:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(volumeItem))
