"""Between the Segment Editor and a correction session: what may be edited, and how an edit becomes segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import slicer
import slicer.util

from udfa.errors import InvalidInputError
from UDFASegmentationLib.ClickGrid import ClickGrid
from UDFASegmentationLib.ClickLabels import LabelMatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from udfa.history import Edit


def editableVoxels(editorNode: Any, grid: ClickGrid, segmentID: str) -> Optional[NDArray[np.bool_]]:
    """Return where the editor's masking lets a segment be edited; None means everywhere.

    Args:
        editorNode: vtkMRMLSegmentEditorNode.
        grid: Grid of the source volume.
        segmentID: The segment.

    Returns:
        (D, H, W) bool on the volume's grid.
    """
    editable: Optional[NDArray[np.bool_]] = None
    if editorNode.GetMaskMode() != slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere:
        editable = grid.editMask(editorNode.GetMaskMode(), segmentID, editorNode.GetMaskSegmentID() or "")
    if editorNode.GetSourceVolumeIntensityMask():
        low, high = editorNode.GetSourceVolumeIntensityMaskRange()
        array = slicer.util.arrayFromVolume(grid.volumeNode)
        within = (array >= low) & (array <= high)
        editable = within if editable is None else editable & within
    return editable


def writeEdit(scriptedEffect: Any, grid: ClickGrid, match: LabelMatch, edit: Edit) -> None:
    """Write an edit into the segments through the Segment Editor, as one step of its undo.

    The session has kept to the mask from before the click. The editor would compute it anew for each of the segments
    that are written here, from segments that have changed already, so it is told to leave masking and overwriting
    alone, and the overwrite mode is applied here: segments that must not be overwritten keep their voxels, and overlap.

    Args:
        scriptedEffect: The effect's host.
        grid: Grid of the source volume.
        match: Segments of the labels.
        edit: A change by clicks.

    Raises:
        InvalidInputError: A segment is gone. Nothing is written.
    """
    values = sorted({int(value) for value in np.unique([*np.unique(edit.before), *np.unique(edit.after)]) if value})
    clicked = {click.value for click in edit.clicks}
    lost = {value: (edit.before == value) & (edit.after != value) for value in values}
    gained = {value: (edit.after == value) & (edit.before != value) for value in values}
    segmentIDs = {value: match.segmentID(value) for value in values}
    segmentation = grid.segmentationNode.GetSegmentation()
    for value in values:
        if (gained[value].any() or lost[value].any()) and segmentation.GetSegment(segmentIDs[value] or "") is None:
            raise InvalidInputError("A segment that the click changes has been removed. Click again.")
    modes = slicer.qSlicerSegmentEditorAbstractEffect
    scriptedEffect.saveStateForUndo()
    for voxels, mode in ((lost, modes.ModificationModeRemove), (gained, modes.ModificationModeAdd)):
        for value, mask in voxels.items():
            if not mask.any():
                continue
            kept = mode == modes.ModificationModeRemove and not (
                value in clicked or _mayBeOverwritten(scriptedEffect, grid.segmentationNode, segmentIDs[value] or "")
            )
            if not kept:
                image = grid.modifier(mask, edit.box)
                scriptedEffect.modifySegmentByLabelmap(grid.segmentationNode, segmentIDs[value], image, mode, True)


def _mayBeOverwritten(scriptedEffect: Any, segmentationNode: Any, segmentID: str) -> bool:
    """Whether the editor's overwrite mode lets other segments take voxels from this one."""
    editor = scriptedEffect.parameterSetNode()
    mode = editor.GetOverwriteMode()
    if mode == editor.OverwriteVisibleSegments:
        display = segmentationNode.GetDisplayNode()
        return display is not None and display.GetSegmentVisibility(segmentID)
    return mode != editor.OverwriteNone
