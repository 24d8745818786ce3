"""Export of a segmentation to files, each with a provenance JSON beside it. A failed export leaves nothing behind.

seg.nrrd            Slicer's own format: names, colours, terminology
nii.gz, nrrd        labelmap on the volume's grid, label values 1..N in the order of the segments
stl, obj            surfaces
dicom-seg, rtstruct DICOM, see `DicomExport`
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import slicer
import slicer.util
import vtk

from UDFASegmentationLib.ClickAudit import writeAudit
from UDFASegmentationLib.DicomExport import exportDicomSegmentation, exportStructureSet, patientNamesOf
from UDFASegmentationLib.ExportFiles import ExportError, safeNames, stagedFolder
from UDFASegmentationLib.Provenance import recordedFrame
from UDFASegmentationLib.ProvenanceFile import SUFFIX, ProvenanceContext, provenanceDocument, writeProvenance
from UDFASegmentationLib.SequenceFrames import shownSequence

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


@dataclass(frozen=True)
class ExportFormat:
    """One way to export."""

    key: str
    title: str
    """What the menu shows."""
    suffix: str
    """Suffix of the file; empty when a folder is filled with files."""
    hint: str
    """What it is for, shown as the menu's tooltip."""


FORMATS = {
    entry.key: entry
    for entry in (
        ExportFormat(
            "seg.nrrd", "Slicer segmentation (.seg.nrrd)", ".seg.nrrd", "Keeps names, colours, terminology, overlaps."
        ),
        ExportFormat(
            "nii.gz", "Labelmap (.nii.gz)", ".nii.gz", "One image on the volume's grid, one value per segment."
        ),
        ExportFormat("nrrd", "Labelmap (.nrrd)", ".nrrd", "One image on the volume's grid, one value per segment."),
        ExportFormat("stl", "Surfaces (.stl)", "", "One surface file per segment in a folder, as for printing."),
        ExportFormat("obj", "Surfaces (.obj)", "", "All surfaces with their colours in one file, as for 3D programs."),
        ExportFormat(
            "dicom-seg",
            "DICOM Segmentation (.dcm)",
            ".dcm",
            "For volumes loaded from DICOM; needs Slicer 5.12 or newer.",
        ),
        ExportFormat(
            "rtstruct", "DICOM RT Structure Set", "", "Contours with their image series; needs the extension SlicerRT."
        ),
    )
}


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote."""

    files: list[Path]
    """All new files, the provenance last."""
    notes: list[str] = field(default_factory=list)
    """What the user should know, in plain words."""


def fileStem(segmentationNode: Any) -> str:
    """Return a file name for a segmentation, without its ending; of a sequence it tells the frame that is shown."""
    frame = recordedFrame(segmentationNode) if shownSequence(segmentationNode) is not None else None
    shown = "" if frame is None else f" frame {frame.index + 1}"
    (stem,) = safeNames([f"{segmentationNode.GetName()}{shown}"])
    return stem


def exportSegmentation(
    segmentationNode: Any, target: Path, formatKey: str, context: ProvenanceContext | None = None
) -> ExportResult:
    """Export a segmentation. Call it on the main thread. The scene stays as it is.

    Args:
        segmentationNode: vtkMRMLSegmentationNode.
        target: File for formats with a suffix (which is added if missing), folder for the others.
        formatKey: Key of FORMATS.
        context: For the provenance file; None for what Slicer knows.

    Raises:
        ExportError: The export is not possible, or failed; nothing was written. The message says what to do.
    """
    if formatKey not in FORMATS:
        raise ExportError(f"Unknown export format '{formatKey}'. Known: {', '.join(FORMATS)}.")
    chosen = FORMATS[formatKey]
    segmentIDs = nonEmptySegments(segmentationNode)
    if not segmentIDs:
        raise ExportError(f"'{segmentationNode.GetName()}' has no segment with voxels: there is nothing to export.")
    volumeNode = referenceVolume(segmentationNode)
    stem = fileStem(segmentationNode)
    folder, fileName = target, ""
    if chosen.suffix:
        stem = target.name[: -len(chosen.suffix)] if target.name.lower().endswith(chosen.suffix) else target.name
        folder, fileName = target.parent, stem + chosen.suffix
    with stagedFolder(folder) as aside:
        if chosen.suffix == ".dcm":
            notes = exportDicomSegmentation(segmentationNode, volumeNode, aside, fileName)
        elif formatKey == "rtstruct":
            notes = exportStructureSet(segmentationNode, volumeNode, aside)
        elif formatKey == "seg.nrrd":
            notes = _writeSegmentation(segmentationNode, aside / fileName)
        elif chosen.suffix:
            notes = _writeLabelmap(segmentationNode, segmentIDs, volumeNode, aside / fileName)
        else:
            notes = _writeSurfaces(segmentationNode, segmentIDs, aside, formatKey.upper())
        writeAudit(segmentationNode, aside / (fileName or f"{stem}.seg.nrrd"))
        names = sorted(path.name for path in aside.iterdir())
        extra: dict[str, Any] = {"files": names}
        if formatKey in ("nii.gz", "nrrd"):
            extra["label_values"] = _labelValues(segmentationNode, segmentIDs)
        volumeName = "" if volumeNode is None else volumeNode.GetName()
        context = replace(context or slicerContext(volumeNode), extra=extra)
        document = provenanceDocument(segmentationNode, volumeName, chosen.title, context)
        writeProvenance(aside / (stem + SUFFIX), document)
    return ExportResult([folder / name for name in (*names, stem + SUFFIX)], notes)


def slicerContext(volumeNode: Any) -> ProvenanceContext:
    """Return what Slicer knows for the provenance file."""
    application = getattr(slicer, "app", None)
    version = str(getattr(application, "applicationVersion", ""))
    names = [] if volumeNode is None else patientNamesOf(volumeNode)
    return ProvenanceContext(slicerVersion=version, patientNames=names)


def referenceVolume(segmentationNode: Any) -> Any | None:
    """Return the volume on whose grid a segmentation lies, None if it is no longer in the scene."""
    return segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())


def nonEmptySegments(segmentationNode: Any) -> list[str]:
    """Return the IDs of the segments that have voxels (or that are no labelmaps)."""
    segmentation = segmentationNode.GetSegmentation()
    found = []
    for i in range(segmentation.GetNumberOfSegments()):
        segmentID, segment = segmentation.GetNthSegmentID(i), segmentation.GetNthSegment(i)
        if segment.GetRepresentation(LABELMAP) is not None:
            voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentationNode, segmentID)
            if voxels is None or not (voxels == segment.GetLabelValue()).any():
                continue
        found.append(segmentID)
    return found


def _labelValues(segmentationNode: Any, segmentIDs: list[str]) -> dict[str, str]:
    """Value in the labelmap, as text, and name of each segment."""
    segmentation = segmentationNode.GetSegmentation()
    return {str(value): segmentation.GetSegment(key).GetName() for value, key in enumerate(segmentIDs, start=1)}


def _stringArray(values: list[str]) -> vtk.vtkStringArray:
    array = vtk.vtkStringArray()
    for value in values:
        array.InsertNextValue(value)
    return array


def _writeSegmentation(segmentationNode: Any, path: Path) -> list[str]:
    """Write with a storage node of its own, so that the node keeps the one it has."""
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(segmentationNode):
        raise ExportError(f"Slicer could not write '{segmentationNode.GetName()}' as {path.name}. See the error log.")
    return []


def _writeLabelmap(segmentationNode: Any, segmentIDs: list[str], volumeNode: Any, path: Path) -> list[str]:
    """Write a labelmap on the volume's grid, or on the segmentation's own when the volume is gone."""
    logic = slicer.modules.segmentations.logic()
    with _temporaryNode("vtkMRMLLabelMapVolumeNode", segmentationNode.GetScene()) as labelmap:
        exported = logic.ExportSegmentsToLabelmapNode(
            segmentationNode,
            _stringArray(segmentIDs),
            labelmap,
            volumeNode,
            slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY,
        )
        if not exported:
            raise ExportError(f"Slicer could not make a labelmap of '{segmentationNode.GetName()}'. See the error log.")
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(str(path))
        if not storage.WriteData(labelmap):
            raise ExportError(f"Slicer could not write {path.name}. See the error log.")
    if segmentationNode.GetSegmentation().GetNumberOfLayers(LABELMAP) > 1:
        return ["Segments may overlap; where they do, the labelmap has the last one. .seg.nrrd keeps them all."]
    return []


def _writeSurfaces(segmentationNode: Any, segmentIDs: list[str], folder: Path, kind: str) -> list[str]:
    """Write one STL per segment, or one OBJ with its materials.

    Slicer names files after segments and reports success also when names that are no file names, or names that occur
    twice, lose files; so a copy with safe names is exported, and the files are counted.
    """
    source = segmentationNode.GetSegmentation()
    with _temporaryNode("vtkMRMLSegmentationNode", segmentationNode.GetScene()) as copy:
        copy.SetName(fileStem(segmentationNode))
        copy.GetSegmentation().DeepCopy(source)
        copy.SetAndObserveTransformNodeID(segmentationNode.GetTransformNodeID())
        titles = safeNames([source.GetSegment(segmentID).GetName() for segmentID in segmentIDs])
        for segmentID, title in zip(segmentIDs, titles):
            copy.GetSegmentation().GetSegment(segmentID).SetName(title)
        logic = slicer.modules.segmentations.logic()
        logic.ExportSegmentsClosedSurfaceRepresentationToFiles(str(folder), copy, _stringArray(segmentIDs), kind)
    written = [path for path in folder.iterdir() if path.stat().st_size > 0]
    expected = len(segmentIDs) if kind == "STL" else 2
    if len(written) != expected:
        raise ExportError(f"Slicer wrote {len(written)} of {expected} {kind} files. See the error log.")
    return []


@contextmanager
def _temporaryNode(className: str, scene: Any) -> Iterator[Any]:
    """Give a node that is in the scene only for the block, with everything that was added on its account."""
    before = _nodes(scene)
    scene.StartState(scene.BatchProcessState)
    try:
        node = scene.AddNewNodeByClass(className)
        node.SetHideFromEditors(True)
        yield node
    finally:
        for added in [added for key, added in _nodes(scene).items() if key not in before]:
            scene.RemoveNode(added)
        scene.EndState(scene.BatchProcessState)


def _nodes(scene: Any) -> dict[str, Any]:
    return {scene.GetNthNode(i).GetID(): scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())}
