"""BTCV ("Synapse") as the challenge distributes it: img0001.nii.gz with label0001.nii.gz."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from udfa_training.label_names import BTCV_LABELS, numbered
from udfa_training.readers.licences import LICENCES
from udfa_training.readers.source import Form, ReaderOptions, SourceCase, SourceData, file_case

FOLDERS = (
    ("img", "label"),
    ("imagesTr", "labelsTr"),
    ("Training/img", "Training/label"),
    ("RawData/Training/img", "RawData/Training/label"),
    (".", "."),
)
"""Where images and labels lie: the archive's own folders, and those of MONAI's tutorials."""


def btcv_name(number: int) -> str:
    """Return the name of a BTCV patient, the same for all forms in which the data come."""
    return f"btcv{number:04d}"


def find_folders(source: Path) -> Optional[tuple[Path, Path]]:
    """Return the folders with img*.nii.gz and with label*.nii.gz, or None."""
    for images, labels in FOLDERS:
        if _numbered(source / images, "img") and (source / labels).is_dir():
            return source / images, source / labels
    return None


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    """Return number -> file of files such as img0001.nii.gz."""
    matches = ((re.fullmatch(prefix + r"(\d+)\.nii(\.gz)?", p.name), p) for p in sorted(folder.glob(prefix + "*.nii*")))
    return {int(match[1]): path for match, path in matches if match}


def read_btcv(source: Path, options: ReaderOptions) -> SourceData:
    """Describe the labelled cases; 13 organs. The challenge's own test images (0061 to 0080) have no labels."""
    folders = find_folders(source) or (source, source)
    images, labels = _numbered(folders[0], "img"), _numbered(folders[1], "label")
    problems = [f"{images[n]} has no label file in {folders[1]}." for n in sorted(set(images) - set(labels))]
    problems += [f"{labels[n]} has no image file in {folders[0]}." for n in sorted(set(labels) - set(images))]
    cases: list[SourceCase] = []
    for number in sorted(set(images) & set(labels)):
        name = btcv_name(number)
        cases.append(file_case(name, name, "train", images[number], labels[number]))
    values = numbered(BTCV_LABELS)
    return SourceData(
        source.name,
        "synapse (BTCV)",
        values,
        options.licence or LICENCES["synapse"],
        "CT",
        tuple(cases),
        problems=tuple(problems),
    )


FORMS = (
    Form(
        "synapse",
        "img0001.nii.gz and label0001.nii.gz in img/ and label/, imagesTr/ and labelsTr/, or RawData/Training/",
        lambda source: find_folders(source) is not None,
        read_btcv,
    ),
)
