"""How many steps back the embedded Segment Editor may keep.

Slicer's history holds, for every step, a copy of each labelmap and surface that has changed since the step before.
Segments that share a labelmap are copied together: on a large CT a step costs tens of megabytes, however small the
edit.
"""

from __future__ import annotations

from typing import Any, Optional

from UDFASegmentationLib.SegmentationWriter import LABELMAP, SURFACE

MOST_BYTES = 1_000_000_000
"""All steps together should not take more."""

LEAST_STATES = 10
"""Slicer's own Segment Editor module keeps so many, whatever they take."""


class UndoMemory:
    """Chooses the number for the segmentation that is edited.

    What counts is the largest that it has been: steps back may be as large, and Slicer's history gets confused when
    the number is lowered below the steps that were just taken back.
    """

    def __init__(self) -> None:
        self._segmentationID = ""
        self._largest = 0

    def states(self, segmentationNode: Optional[Any], wanted: int) -> int:
        """Return how many states to keep.

        Args:
            segmentationNode: What is edited; None for nothing.
            wanted: What the user wants at most.
        """
        if segmentationNode is None:
            return wanted
        if segmentationNode.GetID() != self._segmentationID:
            self._segmentationID, self._largest = segmentationNode.GetID(), 0
        self._largest = max(self._largest, bytesPerState(segmentationNode))
        return statesThatFit(self._largest, wanted)


def statesThatFit(stateBytes: int, wanted: int) -> int:
    """Return how many states of a size to keep: within MOST_BYTES, but not fewer than LEAST_STATES, if wanted."""
    return min(wanted, max(LEAST_STATES, MOST_BYTES // max(1, stateBytes)))


def bytesPerState(segmentationNode: Any) -> int:
    """Return what a copy of all labelmaps and surfaces takes; shared ones count once."""
    segmentation = segmentationNode.GetSegmentation()
    sizes = {}
    for n in range(segmentation.GetNumberOfSegments()):
        for name in (LABELMAP, SURFACE):
            data = segmentation.GetNthSegment(n).GetRepresentation(name)
            if data is not None:
                sizes[data.GetAddressAsString("")] = 1024 * data.GetActualMemorySize()
    return sum(sizes.values())
