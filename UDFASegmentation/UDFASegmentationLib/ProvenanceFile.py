"""The JSON beside exported files: which model, which versions, which input. Never the name of a patient."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import udfa
from UDFASegmentationLib import Provenance
from UDFASegmentationLib.SegmentTags import segmentTag, terminologyOf

SUFFIX = ".provenance.json"
FORMAT_VERSION = 1
REMOVED = "[removed]"
NOTICE = "Made with UDFA Segmentation. Research only. Not a medical device; not for diagnosis or treatment."

_PACKAGES = ("torch", "torchvision", "timm")


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class ProvenanceContext:
    """What the document says beyond what the segmentation node knows."""

    slicerVersion: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run, such as the wanted labels; plain JSON types."""
    patientNames: Collection[str] = ()
    """Names and numbers of the patient, as far as known, to be removed from all texts."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further entries, such as the names of the files."""
    clock: Callable[[], datetime] = _now
    version: Callable[[str], str] = importlib.metadata.version


def provenanceDocument(
    segmentationNode: Any, volumeName: str, exportFormat: str, context: ProvenanceContext
) -> dict[str, Any]:
    """Return what is known of how a segmentation came about.

    Args:
        segmentationNode: vtkMRMLSegmentationNode, with the attributes that `Provenance.describeRun` gave it; without
            them (made by hand), the parts about the model are null.
        volumeName: Name of the segmented volume's node.
        exportFormat: What was exported.
        context: The rest.
    """
    node = segmentationNode
    model = node.GetAttribute(Provenance.MODEL)
    document = {
        "format_version": FORMAT_VERSION,
        "notice": NOTICE,
        "created": context.clock().replace(microsecond=0).isoformat(),
        "export_format": exportFormat,
        "input": volumeName,
        "checkpoint": None
        if model is None
        else {"name": model, "content_sha256": node.GetAttribute(Provenance.MODEL_SHA256) or ""},
        "run": None if model is None else _run(node),
        "settings": dict(context.settings),
        "versions": _versions(node, context),
        "segments": [_segment(segment) for segment in _segments(node)],
        **context.extra,
    }
    cleaned: dict[str, Any] = _withoutNames(document, _patterns(context.patientNames))
    return cleaned


def writeProvenance(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document as readable JSON."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _run(node: Any) -> dict[str, Any]:
    seconds, frame = node.GetAttribute(Provenance.SECONDS), Provenance.recordedFrame(node)
    return {
        "device": node.GetAttribute(Provenance.DEVICE) or "",
        "seconds": float(seconds) if seconds else None,
        "frame": None if frame is None else frame.title,
        "labels_not_found": _split(node.GetAttribute(Provenance.EMPTY_LABELS), ", "),
        "notes": _split(node.GetAttribute(Provenance.NOTES), "\n"),
    }


def _split(text: str | None, separator: str) -> list[str]:
    return [part for part in (text or "").split(separator) if part]


def _versions(node: Any, context: ProvenanceContext) -> dict[str, str | None]:
    versions: dict[str, str | None] = {
        "udfa": node.GetAttribute(Provenance.VERSION) or udfa.__version__,
        "slicer": context.slicerVersion or None,
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            versions[package] = context.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _segments(node: Any) -> list[Any]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(i) for i in range(segmentation.GetNumberOfSegments())]


def _segment(segment: Any) -> dict[str, str | None]:
    return {
        "name": segment.GetName(),
        "terminology": terminologyOf(segment) or None,
        "model": segmentTag(segment, Provenance.MODEL) or None,
        "model_content_sha256": segmentTag(segment, Provenance.MODEL_SHA256) or None,
    }


def _patterns(names: Collection[str]) -> list[re.Pattern[str]]:
    """Patterns for names as DICOM writes them (Doe^John) and for their parts, longest first."""
    parts = set()
    for name in names:
        parts.update(part for part in (name.strip(), *re.split(r"[\^=,\s]+", name)) if len(part) >= 3)
    return [re.compile(re.escape(part), re.IGNORECASE) for part in sorted(parts, key=len, reverse=True)]


def _withoutNames(value: Any, patterns: list[re.Pattern[str]]) -> Any:
    if isinstance(value, str):
        for pattern in patterns:
            value = pattern.sub(REMOVED, value)
        return value
    if isinstance(value, dict):
        return {key: _withoutNames(item, patterns) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_withoutNames(item, patterns) for item in value]
    return value
