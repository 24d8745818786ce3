"""Which segments are locked against clicks: remembered with the segmentation node and on the segments themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import vtk

from UDFASegmentationLib.SegmentTags import segmentTag

LOCKED = "UDFA.Locked"
"""Node attribute: JSON of whether segments are locked, by ID. Also the tag, with the value 1, of locked segments.

The tags are kept in .seg.nrrd files, but an undo of the Segment Editor brings back those of the former state; so the
attribute counts, for the segments that it knows.
"""


def lockedSegments(segmentationNode: Any) -> frozenset[str]:
    """Return the IDs of the segments that clicks must not change."""
    known = _known(segmentationNode)
    segmentation = segmentationNode.GetSegmentation()
    return frozenset(one for one in segmentIDs(segmentation) if known.get(one, _tagged(segmentation, one)))


def setLocked(segmentationNode: Any, chosen: Iterable[str], locked: bool) -> None:
    """Lock segments, or let them go."""
    now = lockedSegments(segmentationNode)
    changed = now | set(chosen) if locked else now - set(chosen)
    known = {one: one in changed for one in segmentIDs(segmentationNode.GetSegmentation())}
    segmentationNode.SetAttribute(LOCKED, json.dumps(known))
    restoreLocks(segmentationNode)
    # The file has to be written again.
    segmentationNode.StorableModified()


def restoreLocks(segmentationNode: Any) -> None:
    """Put the tags of the segments right: an undo may have changed them. What can be redone stays so."""
    segmentation, locked = segmentationNode.GetSegmentation(), lockedSegments(segmentationNode)
    for segmentID in segmentIDs(segmentation):
        segment = segmentation.GetSegment(segmentID)
        if segmentID in locked and not _tagged(segmentation, segmentID):
            with _unnoticed(segment):
                segment.SetTag(LOCKED, "1")
        elif segmentID not in locked and segment.HasTag(LOCKED):
            with _unnoticed(segment):
                segment.RemoveTag(LOCKED)


def segmentIDs(segmentation: Any) -> list[str]:
    """Return the IDs of all segments, in their order."""
    return [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]


@contextmanager
def _unnoticed(segment: Any) -> Iterator[None]:
    """Change a segment in the block without the segmentation hearing of it.

    The undo history takes every change of a segment for an edit, and forgets what could be redone.
    """

    def stop(caller: Any, event: str) -> None:
        segment.GetCommand(observer).SetAbortFlag(1)

    observer = segment.AddObserver(vtk.vtkCommand.ModifiedEvent, stop, 1.0)
    try:
        yield
    finally:
        segment.RemoveObserver(observer)


def _tagged(segmentation: Any, segmentID: str) -> bool:
    return segmentTag(segmentation.GetSegment(segmentID), LOCKED) == "1"


def _known(segmentationNode: Any) -> dict[str, bool]:
    """What the attribute says; nothing if it is missing or damaged."""
    try:
        known = json.loads(segmentationNode.GetAttribute(LOCKED) or "{}")
    except ValueError:
        return {}
    return {key: value is True for key, value in known.items()} if isinstance(known, dict) else {}
