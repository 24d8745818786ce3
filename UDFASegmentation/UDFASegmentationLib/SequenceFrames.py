"""Volumes that show one frame of a sequence: which frame it is, and its voxels after the browser has moved on.

The volume that a sequence browser shows (its proxy) is one node whose voxels change; the frames stay in the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Frame:
    """A frame of a sequence.

    Attributes:
        index: From 0.
        count: Frames in the sequence.
        value: The frame's index value with its name, such as "phase end-systole"; empty if it is just a number.
    """

    index: int
    count: int
    value: str = ""

    @property
    def title(self) -> str:
        """What people read, counted from 1: "frame 2 of 20, phase end-systole"."""
        title = f"frame {self.index + 1} of {self.count}"
        return f"{title}, {self.value}" if self.value else title


def currentFrame(volumeNode: Any, sequencesLogic: Any = None) -> Optional[Frame]:
    """Return which frame a volume shows; None outside of a sequence.

    Args:
        volumeNode: The volume.
        sequencesLogic: vtkSlicerSequencesLogic; None for Slicer's.
    """
    browser = sequenceBrowser(volumeNode, sequencesLogic)
    if browser is None:
        return None
    index = max(0, browser.GetSelectedItemNumber())
    return _frame(browser.GetSequenceNode(volumeNode), index, max(1, browser.GetNumberOfItems()))


def frameCount(volumeNode: Optional[Any]) -> int:
    """Return how many frames the sequence has that a volume shows; 0 outside of a sequence."""
    sequence = shownSequence(volumeNode)
    return 0 if sequence is None else int(sequence.GetNumberOfDataNodes())


def allFrames(volumeNode: Optional[Any]) -> list[Frame]:
    """Return the frames of the sequence that a volume shows, in their order; none outside of a sequence."""
    sequence, count = shownSequence(volumeNode), frameCount(volumeNode)
    return [_frame(sequence, index, count) for index in range(count)]


def frameVolume(volumeNode: Any, frame: Optional[Frame], sequencesLogic: Any = None) -> Any:
    """Return a volume node with the voxels and the grid of a frame.

    Args:
        volumeNode: The volume that showed the frame.
        frame: The frame; None for a volume outside of sequences.
        sequencesLogic: vtkSlicerSequencesLogic; None for Slicer's.

    Returns:
        `volumeNode` itself while it shows the frame, or when the sequence is gone; else the sequence's own node, which
        is not in the scene and under no transform.
    """
    browser = None if frame is None else sequenceBrowser(volumeNode, sequencesLogic)
    if browser is None or frame is None or browser.GetSelectedItemNumber() == frame.index:
        return volumeNode
    sequence = browser.GetSequenceNode(volumeNode)
    node = None if sequence is None else sequence.GetNthDataNode(frame.index)
    return volumeNode if node is None else node


def shownSequence(proxyNode: Optional[Any]) -> Optional[Any]:
    """Return the sequence whose frames a volume or a segmentation shows; None outside of sequences."""
    browser = sequenceBrowser(proxyNode) if proxyNode is not None else None
    return None if browser is None else browser.GetSequenceNode(proxyNode)


def sequenceBrowser(proxyNode: Any, sequencesLogic: Any = None) -> Optional[Any]:
    """Return the first sequence browser that shows a node; None where there is none, or no Sequences module.

    Args:
        proxyNode: A volume or a segmentation.
        sequencesLogic: vtkSlicerSequencesLogic; None for Slicer's.
    """
    if sequencesLogic is None:
        import slicer

        module = getattr(slicer.modules, "sequences", None)
        if module is None:
            return None
        sequencesLogic = module.logic()
    return sequencesLogic.GetFirstBrowserNodeForProxyNode(proxyNode)


def _frame(sequence: Optional[Any], index: int, count: int) -> Frame:
    value = ""
    if sequence is not None and index < sequence.GetNumberOfDataNodes():
        value = sequence.GetNthIndexValue(index) or ""
        name = sequence.GetIndexName() or ""
        value = "" if _isNumber(value) else f"{name} {value}".strip()
    return Frame(index, count, value)


def _isNumber(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
