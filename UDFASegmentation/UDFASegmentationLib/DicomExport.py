"""DICOM export through the plugins of Slicer's DICOM module: Segmentation objects and RT Structure Sets.

Both plugins go by subject hierarchy items: segmentation and volume must lie in one study. The segmentation is moved
there for the export and put back.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer

from UDFASegmentationLib import Provenance
from UDFASegmentationLib.ExportFiles import ExportError
from UDFASegmentationLib.InputFacts import INSTANCES_ATTRIBUTE
from UDFASegmentationLib.SegmentTags import segmentTag

_logger = logging.getLogger(__name__)

ALGORITHM_TYPE, ALGORITHM_NAME = "DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName"
"""Tags of segments that the DICOM SEG plugin writes into the file; without them it calls segments MANUAL."""


def exportDicomSegmentation(segmentationNode: Any, volumeNode: Any, folder: Path, fileName: str) -> list[str]:
    """Write a DICOM Segmentation object into a folder.

    Args:
        segmentationNode: The segmentation.
        volumeNode: Its volume, loaded from DICOM.
        folder: Empty folder.
        fileName: Name of the file.

    Raises:
        ExportError: Not possible, or failed.
    """
    plugin = _plugin(
        "DICOMSegmentationPlugin",
        "This Slicer cannot write DICOM Segmentation objects. Use Slicer 5.12 or newer, or install the extension "
        "QuantitativeReporting.",
    )
    if volumeNode is None or not volumeNode.GetAttribute(INSTANCES_ATTRIBUTE):
        name = "The volume" if volumeNode is None else f"'{volumeNode.GetName()}'"
        raise ExportError(
            f"{name} was not loaded from DICOM, so a DICOM Segmentation has nothing to refer to. Load the original "
            f"series in the DICOM module and segment it, or export as .seg.nrrd or .nii.gz."
        )
    exporter = plugin.DICOMSegmentationPluginClass()
    with _inStudyOf(volumeNode, segmentationNode) as (_, item), _algorithmTags(segmentationNode), _failuresTold():
        _export(exporter, exporter.examineForExport(item), folder)
    written = sorted(folder.glob("*.dcm"))
    if len(written) != 1:
        raise ExportError(f"Slicer wrote {len(written)} DICOM Segmentation files instead of one. See the error log.")
    written[0].replace(folder / fileName)
    return []


def exportStructureSet(segmentationNode: Any, volumeNode: Any, folder: Path) -> list[str]:
    """Write an RT Structure Set, together with the image series that it refers to, with SlicerRT.

    Args:
        segmentationNode: The segmentation.
        volumeNode: Its volume.
        folder: Empty folder.

    Raises:
        ExportError: Not possible, or failed.
    """
    plugin = _plugin(
        "DicomRtImportExportPlugin",
        "RT Structure Sets need the extension SlicerRT. Install it in the Extensions Manager and restart Slicer.",
    )
    if volumeNode is None:
        raise ExportError(
            "The segmented volume is no longer in the scene. Load it again; an RT Structure Set needs it."
        )
    exporter = plugin.DicomRtImportExportPluginClass()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    with _inStudyOf(volumeNode, segmentationNode) as (volumeItem, item), _failuresTold():
        exportables = [*exporter.examineForExport(volumeItem), *exporter.examineForExport(item)]
        for exportable in exportables:
            for name, value in _patientAndStudy(hierarchy, volumeItem).items():
                exportable.setTag(name, value)
        _export(exporter, exportables, folder)
    if not any(folder.iterdir()):
        raise ExportError("SlicerRT wrote no files. See the error log.")
    return ["The folder holds the image series as well: the structure set refers to it."]


def _patientAndStudy(hierarchy: Any, item: int) -> dict[str, str]:
    """DICOM keyword to value for the patient and the study of an item, as far as known.

    SlicerRT takes them from the exportables, into which its dialog puts them; without them, the structure set would
    belong to nobody.
    """
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    found = {}
    for level, keywords in (
        (constants.GetDICOMLevelPatient(), ("PatientName", "PatientID", "PatientSex", "PatientBirthDate")),
        (constants.GetDICOMLevelStudy(), ("StudyDate", "StudyTime", "StudyDescription")),
    ):
        owner = hierarchy.GetItemAncestorAtLevel(item, level)
        for keyword in keywords if owner else ():
            value = hierarchy.GetItemAttribute(owner, f"{constants.GetDICOMAttributePrefix()}{keyword}")
            if value:
                found[keyword] = value
    return found


def _plugin(name: str, advice: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(advice) from error


def _export(exporter: Any, exportables: list[Any], folder: Path) -> None:
    if not exportables:
        raise ExportError("Slicer's DICOM plugin does not accept this segmentation. Check it in the Data module.")
    for exportable in exportables:
        exportable.directory = str(folder)
    message = exporter.export(exportables)
    if message:
        raise ExportError(f"The DICOM export failed: {message}")


@contextmanager
def _failuresTold() -> Iterator[None]:
    """Turn whatever a plugin raises, such as without a DICOM database, into an error that the user is told."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        _logger.exception("A DICOM plugin failed.")
        raise ExportError(f"The DICOM export failed: {type(error).__name__}: {error}. See the error log.") from error


@contextmanager
def _inStudyOf(volumeNode: Any, segmentationNode: Any) -> Iterator[tuple[int, int]]:
    """Give the items of volume and segmentation while the latter lies in the study of the former."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    volumeItem, item = hierarchy.GetItemByDataNode(volumeNode), hierarchy.GetItemByDataNode(segmentationNode)
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    study = hierarchy.GetItemAncestorAtLevel(volumeItem, level) if volumeItem else 0
    if not study or not item:
        raise ExportError(
            f"'{volumeNode.GetName()}' belongs to no patient and study. In the Data module, right-click it and choose "
            f"'Create new patient' and 'study', or load the original series in the DICOM module."
        )
    parent = hierarchy.GetItemParent(item)
    moved = (
        hierarchy.GetItemAncestorAtLevel(item, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()) != study
    )
    if moved:
        hierarchy.SetItemParent(item, study)
    try:
        yield volumeItem, item
    finally:
        if moved:
            hierarchy.SetItemParent(item, parent)


@contextmanager
def _algorithmTags(segmentationNode: Any) -> Iterator[None]:
    """Tell the plugin which segments a model made: automatic, or semi-automatic once their review has begun."""
    segmentation = segmentationNode.GetSegmentation()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    tagged = []
    try:
        for i in range(segmentation.GetNumberOfSegments()):
            segment = segmentation.GetNthSegment(i)
            model = segmentTag(segment, Provenance.MODEL)
            if not model or segment.HasTag(ALGORITHM_TYPE):
                continue
            untouched = logic.GetSegmentStatus(segment) == logic.NotStarted
            segment.SetTag(ALGORITHM_TYPE, "AUTOMATIC" if untouched else "SEMIAUTOMATIC")
            segment.SetTag(ALGORITHM_NAME, f"U-DFA {model}")
            tagged.append(segment)
        yield
    finally:
        for segment in tagged:
            segment.RemoveTag(ALGORITHM_TYPE)
            segment.RemoveTag(ALGORITHM_NAME)


def patientNamesOf(volumeNode: Any) -> list[str]:
    """Return name and number of the patient to whom a volume belongs, as far as the subject hierarchy knows them."""
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    patient = hierarchy.GetItemAncestorAtLevel(item, constants.GetDICOMLevelPatient()) if item else 0
    if not patient:
        return []
    attributes = (constants.GetDICOMPatientNameAttributeName(), constants.GetDICOMPatientIDAttributeName())
    found = [hierarchy.GetItemName(patient), *(hierarchy.GetItemAttribute(patient, name) for name in attributes)]
    return [name for name in found if name]
