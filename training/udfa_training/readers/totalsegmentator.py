"""TotalSegmentator's public data set (a mask per structure), and the reference files of its repository."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from udfa.errors import InvalidInputError
from udfa.labels import KNOWN_LABELS
from udfa.volume_io import read_volume
from udfa_training.label_names import (
    TOTALSEGMENTATOR_CLASSES,
    TOTALSEGMENTATOR_VALUES,
    canonical_name,
    numbered,
    select_names,
)
from udfa_training.readers.licences import LICENCES
from udfa_training.readers.source import (
    NIFTI_SUFFIX,
    CaseVolumes,
    Form,
    ReaderOptions,
    SourceCase,
    SourceData,
    file_case,
    same_place,
)

IMAGE, MASKS, SUBJECTS = "ct.nii.gz", "segmentations", "meta.csv"
EXAMPLES = (
    ("example_ct", "example", "example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"),
    ("example_ct_sm", "example", "example_ct_sm.nii.gz", "example_seg.nii.gz"),
)
"""Case, patient, image and label of the reference files, both of one patient."""
SPLITS = {"train": "train", "val": "val", "test": "test"}


def read_totalsegmentator(source: Path, options: ReaderOptions) -> SourceData:
    """Describe s0000/ct.nii.gz with a mask per structure in s0000/segmentations/.

    The masks of the wanted labels become one labelmap; without a choice these are the structures that `udfa.labels`
    knows. `meta.csv`, if there, gives the split of each subject.

    Raises:
        InvalidInputError: The data have no masks of the wanted labels.
    """
    subjects = sorted(path.parent for path in source.glob(f"*/{IMAGE}"))
    available = dict.fromkeys(
        canonical_name(path.name[: -len(NIFTI_SUFFIX)])
        for path in sorted((subjects[0] / MASKS).glob("*" + NIFTI_SUFFIX))
    )
    names = select_names(list(available), options.labels or [name for name in KNOWN_LABELS if name in available])
    splits = _splits(source)
    cases: list[SourceCase] = []
    problems: list[str] = []
    for folder in subjects:
        masks = {canonical_name(p.name[: -len(NIFTI_SUFFIX)]): p for p in (folder / MASKS).glob("*" + NIFTI_SUFFIX)}
        missing = [name for name in names if name not in masks]
        if missing:
            problems.append(f"{folder / MASKS} lacks masks of {missing}.")
            continue
        read = partial(_read, folder / IMAGE, [masks[name] for name in names])
        split = SPLITS.get(splits.get(folder.name, ""), "train")
        cases.append(SourceCase(folder.name, folder.name, split, read, image_file=folder / IMAGE))
    return SourceData(
        source.name,
        "totalsegmentator (masks)",
        numbered(names),
        options.licence or LICENCES["totalsegmentator"],
        "CT",
        tuple(cases),
        problems=tuple(problems),
    )


def read_examples(source: Path, options: ReaderOptions) -> SourceData:
    """Describe the reference files of TotalSegmentator's tests; their labels are its own output, not manual."""
    cases = tuple(
        replace(file_case(name, patient, "train", source / image, source / label), label_file=None)
        for name, patient, image, label in EXAMPLES
        if (source / image).exists() and (source / label).is_file()
    )
    return SourceData(
        source.name,
        "totalsegmentator (reference files)",
        TOTALSEGMENTATOR_VALUES,
        options.licence or "No restrictions beyond Apache 2.0 (reference files of TotalSegmentator).",
        "CT",
        cases,
        ignored=frozenset(range(1, TOTALSEGMENTATOR_CLASSES + 1)) - set(TOTALSEGMENTATOR_VALUES),
        notes=("The labels are TotalSegmentator's own output, not manual.",),
    )


def _splits(source: Path) -> dict[str, str]:
    """Return subject -> split from meta.csv."""
    if not (source / SUBJECTS).is_file():
        return {}
    with (source / SUBJECTS).open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    return {row["image_id"]: row["split"] for row in rows if row.get("image_id") and row.get("split")}


def _read(image_file: Path, mask_files: Sequence[Path]) -> CaseVolumes:
    """Read an image and join its masks; where masks overlap, the later one wins."""
    image = read_volume(image_file)
    labels = np.zeros(image.array.shape, dtype=np.uint8)
    label = replace(image, array=labels)
    for value, path in enumerate(mask_files, start=1):
        mask = read_volume(path)
        if mask.array.shape != labels.shape:
            raise InvalidInputError(f"{path.name} has shape {mask.array.shape}, the image {labels.shape}.")
        if not same_place(mask, image):
            raise InvalidInputError(f"{path.name} lies at a different place than the image.")
        labels[mask.array != 0] = value
    return CaseVolumes(image, label)


FORMS = (
    Form(
        "totalsegmentator",
        f"s0000/{IMAGE} and s0000/{MASKS}/liver.nii.gz",
        lambda source: any((path.parent / MASKS).is_dir() for path in source.glob(f"*/{IMAGE}")),
        read_totalsegmentator,
    ),
    Form(
        "totalsegmentator",
        "the reference files of its tests (example_ct.nii.gz, example_seg_fast_force_split.nii.gz)",
        lambda source: any((source / image).exists() and (source / label).is_file() for _, _, image, label in EXAMPLES),
        read_examples,
    ),
)
