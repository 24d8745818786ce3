"""What the record of the clicks says of a corrected segmentation, for the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from udfa.audit import AuditDocument, ijk_to_ras
from udfa.geometry import Volume
from udfa_training.label_names import canonical_name
from udfa_training.readers.source import Fact

PLACE_TOLERANCE_MM = 0.1
"""How far the grid of a record may lie from that of its volume: rounding in headers."""


def labels_looked_for(provenance: Mapping[str, Any], audit: Optional[AuditDocument]) -> set[str]:
    """Return the labels that the model was asked for: of these, those without a segment are not in the image."""
    asked = provenance.get("settings", {}).get("labels", [])
    return {canonical_name(str(name)) for name in (*asked, *(audit.labels.values() if audit else ()))}


def audit_facts(provenance: Mapping[str, Any], audit: Optional[AuditDocument]) -> dict[str, Fact]:
    """Return which model was corrected, and what was done: edits that were taken back are not counted."""
    if audit is None:
        model = provenance.get("checkpoint", {}).get("name")
        return {"model": str(model)} if model else {}
    standing = [edit for edit in audit.edits if not edit.undone]
    corrected = sorted({name for edit in standing for name in (*edit.effect, *([edit.label] if edit.label else ()))})
    facts: dict[str, Fact] = {
        "model": audit.model.name,
        "model_sha256": audit.model.content_sha256,
        "clicks": sum(edit.kind == "click" for edit in standing),
        "scribbles": sum(edit.kind == "scribble" for edit in standing),
        "manual_edits": sum(edit.kind == "manual" for edit in standing),
        "changed_voxels": sum(edit.changed_voxels for edit in standing),
        "corrected_labels": ", ".join(corrected),
    }
    return facts | ({"corrected": max(edit.time for edit in standing)} if standing else {})


def audit_problem(audit: AuditDocument, volume: Volume) -> str:
    """Return what is wrong when a record was made on another grid than the volume's; "" if nothing is."""
    shape = list(reversed(volume.array.shape))
    if audit.image.get("dimensions_ijk") != shape:
        return (
            f"the record of the clicks is of an image of {audit.image.get('dimensions_ijk')} voxels, the volume has "
            f"{shape}. Give the volume that was corrected."
        )
    matrix = np.asarray(audit.image.get("ijk_to_ras"), dtype=np.float64)
    ends = np.array([[0, 0, 0, 1], [*(n - 1 for n in shape), 1]], dtype=np.float64).T
    apart = np.abs((matrix - ijk_to_ras(volume)) @ ends).max() if matrix.shape == (4, 4) else np.inf
    if apart > PLACE_TOLERANCE_MM:
        return (
            f"the record of the clicks is of an image that lies {apart:.1f} mm away. Give the volume that was "
            f"corrected."
        )
    return ""
