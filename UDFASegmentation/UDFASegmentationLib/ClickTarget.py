"""What clicks work on: volume, segmentation, segment and checkpoint, and how to notice that they have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from slicer.i18n import tr as _

from udfa.errors import InvalidInputError
from udfa.models import ModelEntry
from UDFASegmentationLib.ClickGrid import ClickGrid, clickGrid
from UDFASegmentationLib.ClickLabels import LabelMatch
from UDFASegmentationLib.ClickModels import chooseModel
from UDFASegmentationLib.Provenance import recordedFrame
from UDFASegmentationLib.SegmentationWriter import LABELMAP
from UDFASegmentationLib.SegmentTags import terminologyOf
from UDFASegmentationLib.SequenceFrames import currentFrame
from UDFASegmentationLib.UncertaintyReview import SLICE_AXIS
from UDFASegmentationLib.VolumeConversion import imageToNodeMatrix

Shown = tuple[tuple[Any, ...], tuple[Any, ...]]
"""Image, grid and segmentation; and the state of the image's voxels, which may have changed and be the same again."""


@dataclass(frozen=True)
class ClickTarget:
    """What clicks would work on now.

    Attributes:
        grid: Grid of the source volume.
        entry: Checkpoint that answers.
        match: Segments of its labels.
        segmentID: The segment that clicks are about.
        shown: What `whatIsShown` returned.
    """

    grid: ClickGrid
    entry: ModelEntry
    match: LabelMatch
    segmentID: str
    shown: Shown

    @property
    def key(self) -> tuple[Any, ...]:
        """Changes when a session is no longer valid, whatever the voxels of the image."""
        return (self.shown[0], self.entry.path)

    def missing(self) -> str:
        """Return what has been taken out of the scene since, as a sentence; empty if nothing has."""
        if self.grid.segmentationNode.GetScene() is None:
            return _("The segmentation was deleted during the click.")
        if self.grid.volumeNode.GetScene() is None:
            return _("The volume was deleted during the click; nothing was changed.")
        return ""


def whatIsShown(editorNode: Any) -> Shown:
    """Return what is equal as long as the editor works on the same image and the same segmentation.

    Nodes that a sequence browser moves on to another frame stay the same nodes. A segmentation node then has another
    vtkSegmentation, a volume node other voxels.

    Args:
        editorNode: vtkMRMLSegmentEditorNode, or None.
    """
    volume = None if editorNode is None else editorNode.GetSourceVolumeNode()
    node = None if editorNode is None else editorNode.GetSegmentationNode()
    image = None if volume is None else volume.GetImageData()
    if node is None or image is None:
        return (), ()
    grid = (image.GetExtent(), tuple(imageToNodeMatrix(volume).ravel()))
    place = (volume.GetID(), *grid, node.GetID(), node.GetSegmentation().GetAddressAsString(""))
    return place, (image.GetAddressAsString(""), image.GetMTime())


def checkFrame(target: ClickTarget) -> None:
    """See that the volume shows the frame of a sequence on which the segmentation was made, as far as both are known.

    A segmentation that goes through the frames itself is always that of the frame that is shown.

    Raises:
        InvalidInputError: It shows another frame.
    """
    node = target.grid.segmentationNode
    made, shown = recordedFrame(node), currentFrame(target.grid.volumeNode)
    if made is None or shown is None or currentFrame(node) is not None:
        return
    if made.count == shown.count and made.index != shown.index:
        text = _("'{name}' was made on {made}; the volume shows {shown}. Go back to that frame to correct it.")
        raise InvalidInputError(text.format(name=node.GetName(), made=made.title, shown=shown.title))


def findTarget(editorNode: Any, entries: Sequence[ModelEntry], segmentID: Optional[str] = None) -> ClickTarget:
    """Return what clicks would work on.

    Args:
        editorNode: vtkMRMLSegmentEditorNode, or None.
        entries: The checkpoints there are.
        segmentID: The segment; None for the selected one.

    Raises:
        InvalidInputError: Clicks are not possible; the message says why.
    """
    segmentationNode = None if editorNode is None else editorNode.GetSegmentationNode()
    volumeNode = None if editorNode is None else editorNode.GetSourceVolumeNode()
    if segmentationNode is None:
        raise InvalidInputError(_("Choose a segmentation."))
    if volumeNode is None or volumeNode.GetImageData() is None:
        raise InvalidInputError(_("Choose the source volume of the segmentation."))
    if volumeNode.GetAttribute(SLICE_AXIS) is not None:
        # The editor's selector goes on to it when the image is deleted.
        raise InvalidInputError(_("The source volume is an uncertainty map. Choose the image."))
    segmentation = segmentationNode.GetSegmentation()
    if segmentID is None:
        segmentID = editorNode.GetSelectedSegmentID() or ""
    if segmentation.GetSegment(segmentID) is None:
        raise InvalidInputError(_("Choose the segment to correct."))
    if segmentation.GetSourceRepresentationName() != LABELMAP:
        raise InvalidInputError(_("Clicks need a segmentation that is stored as binary labelmap."))
    entry, match = chooseModel(entries, segmentationNode, segmentID)
    grid = clickGrid(volumeNode, segmentationNode)
    return ClickTarget(grid, entry, match, segmentID, whatIsShown(editorNode))


def segmentsFingerprint(segmentationNode: Any) -> tuple[Any, ...]:
    """Return something that is equal as long as no segment has changed, come, gone, or become another structure."""
    segmentation = segmentationNode.GetSegmentation()
    # Another frame's segments may all be as empty as this one's.
    rows: list[tuple[Any, ...]] = [(segmentation.GetAddressAsString(""),)]
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        image = segment.GetRepresentation(LABELMAP)
        state = None if image is None else (image.GetAddressAsString(""), image.GetMTime())
        meaning = (segment.GetName(), terminologyOf(segment))
        rows.append((segmentation.GetNthSegmentID(n), segment.GetLabelValue(), state, meaning))
    return tuple(rows)
