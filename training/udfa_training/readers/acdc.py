"""ACDC as the challenge distributes it: a folder per patient with Info.cfg and two labelled frames."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from udfa.errors import InvalidInputError
from udfa_training.label_names import CARDIAC_LABELS, numbered
from udfa_training.readers.licences import LICENCES
from udfa_training.readers.source import Fact, Form, ReaderOptions, SourceCase, SourceData, file_case

PARTS = {
    "training": "train",
    "testing": "test",
    "database/training": "train",
    "database/testing": "test",
    ".": "train",
}
"""Folder -> split."""


def patient_folders(source: Path) -> dict[Path, str]:
    """Return folder -> split of all patients."""
    return {
        folder: split
        for part, split in PARTS.items()
        for folder in sorted((source / part).glob("patient*"))
        if folder.is_dir() and (folder / "Info.cfg").is_file()
    }


def read_info(path: Path) -> dict[str, str]:
    """Return the `key: value` lines of an Info.cfg.

    Raises:
        InvalidInputError: The numbers of the frames ED and ES are not in it.
    """
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    info = {key.strip(): value.strip() for key, colon, value in lines if colon}
    if not all(info.get(phase, "").isdigit() for phase in ("ED", "ES")):
        raise InvalidInputError(f"{path} must give the numbers of the frames ED and ES; it says {info}.")
    return info


def read_acdc(source: Path, options: ReaderOptions) -> SourceData:
    """Describe the end-diastolic and end-systolic frames; phase and group of each case go into the manifest."""
    cases: list[SourceCase] = []
    problems: list[str] = []
    for folder, split in patient_folders(source).items():
        try:
            info = read_info(folder / "Info.cfg")
        except InvalidInputError as error:
            problems.append(str(error))
            continue
        for phase in ("ED", "ES"):
            case = _frame(folder, split, phase, info)
            if case is None:
                wanted = f"{folder.name}_frame{int(info[phase]):02d}"
                problems.append(f"{folder} lacks {wanted}.nii.gz or {wanted}_gt.nii.gz, its {phase} frame.")
            else:
                cases.append(case)
    values = numbered(CARDIAC_LABELS)
    return SourceData(
        source.name,
        "acdc (Info.cfg)",
        values,
        options.licence or LICENCES["acdc"],
        "MR",
        tuple(cases),
        problems=tuple(problems),
    )


def _frame(folder: Path, split: str, phase: str, info: dict[str, str]) -> Optional[SourceCase]:
    """Return a labelled frame of a patient, or None if a file is missing."""
    name = f"{folder.name}_frame{int(info[phase]):02d}"
    image, label = (_existing(folder / f"{stem}.nii.gz") for stem in (name, f"{name}_gt"))
    if image is None or label is None:
        return None
    facts: dict[str, Fact] = {"phase": phase, "frame": int(info[phase])}
    if info.get("NbFrame", "").isdigit():
        facts["frames"] = int(info["NbFrame"])
    if "Group" in info:
        facts["group"] = info["Group"]
    return file_case(name, folder.name, split, image, label, facts)


def _existing(path: Path) -> Optional[Path]:
    """Return the file, compressed or not, or None."""
    plain = path.with_name(re.sub(r"\.gz$", "", path.name))
    return next((candidate for candidate in (path, plain) if candidate.is_file()), None)


FORMS = (
    Form(
        "acdc",
        "patient001/Info.cfg with patient001_frame01.nii.gz and _gt.nii.gz, in it or in training/ and testing/",
        lambda source: bool(patient_folders(source)),
        read_acdc,
    ),
)
