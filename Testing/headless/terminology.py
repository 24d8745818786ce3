"""A stand-in for the terminology files of the Slicer application, which the slicer-core package lacks.

It holds our own labels under the names of Slicer's lists. It lets Slicer's terminology logic start without errors and
parse our entries; it does not show that the codes are those of Slicer's lists (`test_terminology.py` does).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from udfa.labels import ANATOMICAL_STRUCTURE, KNOWN_LABELS, REGION_CONTEXT, TERMINOLOGY_CONTEXT, Code, Label

SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/{}-schema.json#"
FILES = (
    ("SegmentationCategoryTypeModifier-SlicerGeneralAnatomy", TERMINOLOGY_CONTEXT),
    ("SegmentationCategoryTypeModifier-DICOM-Master", "Segmentation category and type - DICOM master list"),
)
REGION_FILE = "AnatomicRegionAndModifier-DICOM-Master"


def write_terminologies(folder: Path) -> None:
    """Write the three files that vtkSlicerTerminologiesModuleLogic loads at start, under old and new file names."""
    for name, context in FILES:
        category = {**_code(ANATOMICAL_STRUCTURE), "showAnatomy": False, "Type": _types()}
        _write(
            folder,
            name,
            {
                "SegmentationCategoryTypeContextName": context,
                "@schema": SCHEMA.format("segment-context"),
                "SegmentationCodes": {"Category": [category]},
            },
        )
    _write(
        folder,
        REGION_FILE,
        {
            "AnatomicContextName": REGION_CONTEXT,
            "@schema": SCHEMA.format("anatomic-context"),
            "AnatomicCodes": {"AnatomicRegion": [_code(("SCT", "113345001", "Abdomen"))]},
        },
    )


def _types() -> list[dict[str, Any]]:
    """One entry per structure; structures with sides carry them as modifiers, as in Slicer's lists."""
    types: dict[Code, dict[str, Any]] = {}
    for label in KNOWN_LABELS.values():
        if label.type is None:
            continue
        entry = types.setdefault(label.type, _code(label.type))
        if label.modifier is None:
            entry.update(_display(label))
        else:
            entry.setdefault("Modifier", []).append({**_code(label.modifier), **_display(label)})
    return list(types.values())


def _code(code: Code) -> dict[str, Any]:
    scheme, value, meaning = code
    return {"CodingSchemeDesignator": scheme, "CodeValue": value, "CodeMeaning": meaning}


def _display(label: Label) -> dict[str, Any]:
    return {"recommendedDisplayRGBValue": list(label.color), "3dSlicerLabel": label.title}


def _write(folder: Path, name: str, document: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".json", ".term.json"):
        (folder / f"{name}{suffix}").write_text(json.dumps(document), encoding="utf-8")
