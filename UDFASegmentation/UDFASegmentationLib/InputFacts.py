"""What DICOM says of a volume node, beyond its voxels."""

from __future__ import annotations

from typing import Any

from UDFASegmentationLib.InputChecks import DicomFacts

MODALITY, SERIES_DESCRIPTION, CONTRAST_AGENT = "0008,0060", "0008,103E", "0018,0010"
INSTANCES_ATTRIBUTE = "DICOM.instanceUIDs"
"""Attribute of volume nodes that were loaded from DICOM: the instance UIDs, separated by spaces."""


def dicomFacts(volumeNode: Any, database: Any = None) -> DicomFacts:
    """Return what DICOM says of a volume; nothing for volumes from other files.

    Args:
        volumeNode: The volume.
        database: ctkDICOMDatabase; None for Slicer's, if there is one.
    """
    instances = (volumeNode.GetAttribute(INSTANCES_ATTRIBUTE) or "").split()
    if database is None:
        import slicer

        database = getattr(slicer, "dicomDatabase", None)
    if not instances or database is None:
        return DicomFacts()
    path = database.fileForInstance(instances[0])
    if not path:
        return DicomFacts()
    modality, description, agent = (
        str(database.fileValue(path, tag) or "") for tag in (MODALITY, SERIES_DESCRIPTION, CONTRAST_AGENT)
    )
    return DicomFacts(modality, description, agent)
