"""Names of the files that a segmentation is written to. Light: imports nothing but the standard library."""

from __future__ import annotations

from pathlib import Path

from udfa.errors import InvalidInputError

SEGMENTATION_SUFFIX = ".seg.nrrd"
"""Slicer's segmentations."""

LABELMAP_SUFFIXES = (".nii.gz", ".nrrd")
"""Plain labelmaps, which get a JSON beside them, and other volumes."""

AUDIT_SUFFIX = ".audit.json"
"""Ending of the name of a correction's record, after the stem of the segmentation's."""

OUTPUT_SUFFIXES = (SEGMENTATION_SUFFIX, *LABELMAP_SUFFIXES)


def split_name(path: Path, suffixes: tuple[str, ...] = OUTPUT_SUFFIXES) -> tuple[str, str]:
    """Split a file name into stem and one of the suffixes, as in ("case7", ".seg.nrrd").

    Raises:
        InvalidInputError: The name has none of the suffixes, or nothing before it.
    """
    suffix = max((s for s in OUTPUT_SUFFIXES if path.name.lower().endswith(s)), key=len, default="")
    if suffix in suffixes and len(path.name) > len(suffix):
        return path.name[: -len(suffix)], suffix
    raise InvalidInputError(f"{path}: the name must end in {' or '.join(suffixes)}, with something before it.")


def labels_file(path: Path) -> Path:
    """Return where the JSON of a plain labelmap lies."""
    return path.with_name(split_name(path, LABELMAP_SUFFIXES)[0] + ".json")


def record_beside(segmentation: Path) -> Path:
    """Return where the record of a stored segmentation lies."""
    return segmentation.with_name(split_name(segmentation)[0] + AUDIT_SUFFIX)
