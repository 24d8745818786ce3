"""The record of clicks: an attribute of the segmentation node, and a JSON beside the file whenever Slicer saves one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import vtk

from udfa.output_names import AUDIT_SUFFIX

AUDIT = "UDFA.Audit"
"""Node attribute with the record of all clicks, a JSON document; older records of other models get .1, .2 and so on."""

SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.nhdr", ".seg.vtm", ".nii.gz")

_logger = logging.getLogger(__name__)


def earlierAudit(segmentationNode: Any) -> str:
    """Return the record that the node has, empty if it has none."""
    return segmentationNode.GetAttribute(AUDIT) or ""


def keepAudit(segmentationNode: Any, audit: str, continues: bool) -> None:
    """Store the record of the clicks on the node; one that this one does not continue is kept under another name."""
    earlier = segmentationNode.GetAttribute(AUDIT)
    if earlier and not continues:
        number = 1
        while segmentationNode.GetAttribute(f"{AUDIT}.{number}"):
            number += 1
        segmentationNode.SetAttribute(f"{AUDIT}.{number}", earlier)
    segmentationNode.SetAttribute(AUDIT, audit)


def auditFile(segmentationFile: Path) -> Path:
    """Return where the record of a stored segmentation goes."""
    name = segmentationFile.name
    ending = next((e for e in SEGMENTATION_SUFFIXES if name.lower().endswith(e)), segmentationFile.suffix)
    return segmentationFile.with_name(name[: len(name) - len(ending)] + AUDIT_SUFFIX)


def writeAudit(segmentationNode: Any, segmentationFile: Path) -> Path | None:
    """Write the node's record beside a file of the segmentation; returns its path, None if there is no record."""
    audit = earlierAudit(segmentationNode)
    if not audit:
        return None
    from udfa.volume_io import written_aside

    path = auditFile(segmentationFile)
    with written_aside(path) as aside:
        aside.write_text(audit, encoding="utf-8")
    return path


def keepBeside(segmentationNode: Any) -> None:
    """From now on, whenever Slicer writes the node to a file, by whatever menu, put its record beside that file."""
    storage = segmentationNode.GetStorageNode()
    if storage is None and segmentationNode.AddDefaultStorageNode():
        storage = segmentationNode.GetStorageNode()
    _watched[:] = [one for one in _watched if one.storage.GetScene() is not None]
    if storage is not None and not any(one.storage is storage for one in _watched):
        _watched.append(_Watch(storage))


class _Watch:
    """Notices that a storage node has written a file. Does not keep the segmentation alive."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self._seen: dict[Path, int] = {}
        self._look(storage)
        storage.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onModified)

    def _look(self, storage: Any) -> Path | None:
        """Return the file if it is another than at the last look, or has been written since."""
        path = Path(storage.GetFullNameFromFileName() or "")
        if storage.GetWriteState() != storage.TransferDone or not path.is_absolute() or not path.is_file():
            return None
        written = path.stat().st_mtime_ns
        if self._seen.get(path) == written:
            return None
        self._seen[path] = written
        return path

    def _onModified(self, caller: Any, event: str) -> None:
        try:
            path = self._look(self.storage)
            node = None if path is None else _nodeOf(self.storage)
            if path is not None and node is not None:
                writeAudit(node, path)
        except OSError:
            _logger.exception("The record of the clicks could not be written beside the segmentation.")


_watched: list[_Watch] = []


def _nodeOf(storage: Any) -> Any | None:
    """The segmentation node of a storage node."""
    scene = storage.GetScene()
    for n in range(0 if scene is None else scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        node = scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode")
        if node.GetStorageNode() is storage:
            return node
    return None
