"""nnU-Net raw data sets: dataset.json of version 2 or 1, imagesTr, labelsTr; also folders prepared by this package."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from udfa.errors import InvalidInputError
from udfa_training.label_names import canonical_name
from udfa_training.manifest import MANIFEST, read_json
from udfa_training.readers.source import (
    NIFTI_SUFFIX,
    Form,
    ReaderOptions,
    SourceCase,
    SourceData,
    file_case,
    patients_of,
)

DESCRIPTION = "dataset.json"
PARTS = {"Tr": "train", "Ts": "test"}
"""Ending of images.. and labels.. -> split; test images without labels are left alone."""
CARDIAC_FRAME = r"(patient\d+)_frame\d+"
"""Case names of nnU-Net's ACDC: both frames are one patient. Other names are taken for patients of their own."""


def read_nnunet(source: Path, options: ReaderOptions) -> SourceData:
    """Describe an nnU-Net raw data set with one channel.

    The patient of a case is the first group of `options.patient_pattern`; without a pattern, the whole case name, or
    what our own manifest says. Splits, folds and facts of a folder that this package prepared are kept.

    Raises:
        InvalidInputError: dataset.json is unusable: several channels, regions, an ignore label, no labels.
    """
    facts = read_json(source / DESCRIPTION)
    modality = _modality(facts, source)
    values = _values(facts, source)
    ending = str(facts.get("file_ending", NIFTI_SUFFIX))
    cases: list[SourceCase] = []
    problems: list[str] = []
    for part, split in PARTS.items():
        labels = {p.name[: -len(ending)]: p for p in _visible(source / f"labels{part}", ending)}
        images, strays = _images(source / f"images{part}", ending, set(labels))
        problems += [f"{labels[name]} has no image." for name in sorted(set(labels) - set(images))]
        if part == "Tr":
            problems += [f"{path} is neither <case>_0000{ending} nor named like a label." for path in strays]
            problems += [f"{images[name]} has no label." for name in sorted(set(images) - set(labels))]
        names = sorted(set(images) & set(labels))
        patients, lost = patients_of(names, options.patient_pattern, _patient)
        problems += lost
        cases += [file_case(name, patients[name], split, images[name], labels[name]) for name in names]
    data = SourceData(
        str(facts.get("name", source.name)),
        "nnunet",
        values,
        options.licence or str(facts.get("licence") or facts.get("license") or "Not stated in dataset.json."),
        options.modality or modality,
        tuple(cases),
        problems=tuple(problems),
    )
    return _as_prepared(data, source, options)


def _modality(facts: dict[str, Any], source: Path) -> str:
    """Return CT or MR from the name of the only channel."""
    channels = facts.get("channel_names") or facts.get("modality") or {"0": "CT"}
    if len(channels) != 1:
        raise InvalidInputError(
            f"{source / DESCRIPTION} has {len(channels)} channels ({', '.join(map(str, channels.values()))}), but one "
            f"is needed. Make a data set with one of them, or with their mean."
        )
    return "CT" if str(next(iter(channels.values()))).strip().upper() == "CT" else "MR"


def _values(facts: dict[str, Any], source: Path) -> dict[int, str]:
    """Return value -> name from `labels`: name -> value in version 2, value -> name in version 1."""
    table = facts.get("labels")
    if not isinstance(table, dict) or len(table) < 2:
        raise InvalidInputError(f"{source / DESCRIPTION} must name the background and at least one label in `labels`.")
    old = all(re.fullmatch(r"\d+", str(key)) for key in table)
    pairs = [(value, key) if old else (key, value) for key, value in table.items()]
    regions = [str(name) for name, value in pairs if isinstance(value, (list, tuple))]
    if regions:
        raise InvalidInputError(
            f"{source / DESCRIPTION} has regions of several values ({regions}). Give each voxel one label instead."
        )
    if any(canonical_name(str(name)) == "ignore" for name, _ in pairs):
        raise InvalidInputError(f"{source / DESCRIPTION} has an ignore label, which cannot be trained with here.")
    try:
        return {int(value): canonical_name(str(name)) for name, value in pairs if int(value) != 0}
    except ValueError as error:
        raise InvalidInputError(f"{source / DESCRIPTION}: label values must be whole numbers. ({error})") from error


def _visible(folder: Path, ending: str) -> list[Path]:
    return [path for path in sorted(folder.glob("*" + ending)) if not path.name.startswith(".")]


def _images(folder: Path, ending: str, labels: set[str]) -> tuple[dict[str, Path], list[Path]]:
    """Return name -> image, and the files that fit in nowhere.

    Images end in _0000, the first channel; those of the Decathlon have no channel and are named like their labels.
    """
    images: dict[str, Path] = {}
    strays: list[Path] = []
    for path in _visible(folder, ending):
        stem = path.name[: -len(ending)]
        if stem in labels:
            images[stem] = path
        elif stem.endswith("_0000"):
            images[stem[: -len("_0000")]] = path
        else:
            strays.append(path)
    return images, strays


def _patient(name: str) -> str:
    """Return the patient of a case of nnU-Net's ACDC; other cases are taken for patients of their own."""
    match = re.match(CARDIAC_FRAME, name)
    return match[1] if match else name


def _as_prepared(data: SourceData, source: Path, options: ReaderOptions) -> SourceData:
    """Return the data with what our own manifest says of them, if there is one."""
    manifest: Optional[dict[str, Any]] = read_json(source / MANIFEST) if (source / MANIFEST).is_file() else None
    if manifest is None or "cases" not in manifest:
        return data
    known = {entry["name"]: entry for entry in manifest["cases"]}
    cases = [
        replace(
            case,
            patient=case.patient if options.patient_pattern else known[case.name]["patient"],
            split=known[case.name]["split"],
            spacing_known=known[case.name].get("spacing_known", True),
            facts=known[case.name].get("facts", {}),
            fold=known[case.name].get("fold"),
        )
        if case.name in known
        else case
        for case in data.cases
    ]
    return replace(
        data,
        name=manifest["name"],
        kind=manifest.get("kind", data.kind),
        licence=options.licence or manifest["licence"],
        notes=tuple(manifest.get("notes", ())),
        split=manifest.get("split", {}),
        cases=tuple(cases),
    )


FORMS = (
    Form(
        "nnunet",
        f"{DESCRIPTION}, imagesTr/<case>_0000.nii.gz and labelsTr/<case>.nii.gz",
        lambda source: (source / DESCRIPTION).is_file() and (source / "imagesTr").is_dir(),
        read_nnunet,
    ),
)
