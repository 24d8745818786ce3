"""Which segment stands for which label of a model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from udfa.labels import Label
from UDFASegmentationLib.SegmentTags import terminologyOf

TerminologyKey = tuple[str, str]
"""Codes of a terminology entry: type, and modifier (empty if there is none), each as 'scheme^value'."""


@dataclass(frozen=True)
class LabelMatch:
    """Segments and labels that belong together.

    Attributes:
        values: Label value 1..K by segment ID.
        others: IDs of the segments that stand for no label of the model.
        otherValue: Value that all of those share in a labelmap; the model does not know it.
    """

    values: dict[str, int]
    others: tuple[str, ...]
    otherValue: int

    def segmentID(self, value: int) -> Optional[str]:
        """Return the ID of a label's segment, None if the label has none."""
        return next((segmentID for segmentID, known in self.values.items() if known == value), None)

    def lockedValues(self, locked: Collection[str]) -> frozenset[int]:
        """Return the values that must not change: those of locked segments, and those that no segment stands for.

        Args:
            locked: IDs of the locked segments.
        """
        free = {value for segmentID, value in self.values.items() if segmentID not in locked}
        return frozenset(range(1, self.otherValue)) - free


def matchSegments(segmentation: Any, labels: Sequence[Label]) -> LabelMatch:
    """Find the segment of every label: by terminology, else by ID or name, ignoring case.

    A label has at most one segment, the first that fits.

    Args:
        segmentation: vtkSegmentation.
        labels: Labels 1..K of a model.
    """
    segmentIDs = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    values: dict[str, int] = {}
    for fits in (_fitsTerminology, _fitsName):
        for value, label in enumerate(labels, start=1):
            free = (segmentID for segmentID in segmentIDs if segmentID not in values)
            if value not in values.values():
                found = next((one for one in free if fits(segmentation.GetSegment(one), one, label)), None)
                values.update({} if found is None else {found: value})
    others = tuple(segmentID for segmentID in segmentIDs if segmentID not in values)
    return LabelMatch(values, others, len(labels) + 1)


def _fitsTerminology(segment: Any, segmentID: str, label: Label) -> bool:
    wanted = terminologyKey(label.terminology() or "")
    return wanted is not None and terminologyKey(terminologyOf(segment)) == wanted


def _fitsName(segment: Any, segmentID: str, label: Label) -> bool:
    names = {label.name.casefold(), label.title.casefold()}
    return segmentID.casefold() in names or (segment.GetName() or "").casefold() in names


def terminologyKey(entry: str) -> Optional[TerminologyKey]:
    """Return the codes of a serialised terminology entry; None if it names no type."""
    parts = entry.split("~")
    if len(parts) < 4:
        return None
    kind, modifier = ("^".join(part.split("^")[:2]).strip("^") for part in parts[2:4])
    return (kind, modifier) if kind else None
