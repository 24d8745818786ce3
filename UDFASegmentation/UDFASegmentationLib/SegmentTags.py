"""Tags of segments, and the terminology that older versions of Slicer keep in one."""

from __future__ import annotations

from typing import Any


def segmentTag(segment: Any, name: str) -> str:
    """Return a tag of a segment, empty if it has none."""
    import vtk

    if not segment.HasTag(name):
        return ""
    found = vtk.reference("")
    segment.GetTag(name, found)
    return str(found)


def terminologyOf(segment: Any) -> str:
    """Return a segment's serialised terminology entry, empty if it has none; `GetTerminology` came with Slicer 5.10."""
    if hasattr(segment, "GetTerminology"):
        return segment.GetTerminology() or ""
    return segmentTag(segment, segment.GetTerminologyEntryTagName())
