"""Bring data sets into the canonical form: nnU-Net raw layout plus a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from udfa.errors import InvalidInputError
from udfa.volume_io import read_volume
from udfa_training.dataset import MANIFEST


@dataclass(frozen=True)
class SourceCase:
    """An image with its label as found in a source folder."""

    name: str
    patient: str
    split: str
    image: Path
    label: Path


@dataclass(frozen=True)
class SourceData:
    """A source data set before it is checked and copied."""

    name: str
    labels: tuple[str, ...]
    licence: str
    modality: str
    cases: tuple[SourceCase, ...]


def find_pairs(
    source: Path, validation_patients: Sequence[str] = (), modality: str = "CT", licence: Optional[str] = None
) -> SourceData:
    """Describe a folder of `*_image.nii.gz` / `*_label.nii.gz` pairs with a manifest.json that names the labels.

    The pairs lie in the folder itself, or in `train/` and, already held out, in `val/`. A case name up to its first
    underscore is the patient, so that all frames of a patient stay on one side of the split.

    Args:
        source: The folder; its manifest names `labels` and `licence`.
        validation_patients: Patients of the training part to hold out.
        modality: CT or MR, for nnU-Net's channel name.
        licence: Terms for weights trained on the data; None takes the manifest's words.

    Raises:
        InvalidInputError: No manifest, no pairs, incomplete pairs, unknown validation patients, or patients who are in
            both parts.
    """
    manifest = source / "manifest.json"
    if not manifest.is_file():
        raise InvalidInputError(f"{source} has no manifest.json that names labels and licence.")
    facts: dict[str, Any] = json.loads(manifest.read_text())
    cases = _pairs(source / "train" if (source / "train").is_dir() else source, "train")
    if (source / "val").is_dir():
        held_out = _pairs(source / "val", "val")
        shared = sorted({case.patient for case in cases} & {case.patient for case in held_out})
        if shared:
            raise InvalidInputError(f"{source}: patients {shared} are both in train/ and in val/. Move them to one.")
        cases += held_out
    patients = {case.patient for case in cases}
    unknown = sorted(set(validation_patients) - patients)
    if unknown:
        raise InvalidInputError(f"Validation patients {unknown} are not in {source}. Known: {sorted(patients)}.")
    cases = [replace(c, split="val") if c.patient in validation_patients else c for c in cases]
    return SourceData(source.name, tuple(facts["labels"][1:]), licence or facts["licence"], modality, tuple(cases))


def _pairs(folder: Path, split: str) -> list[SourceCase]:
    """Return the image/label pairs of a folder; InvalidInputError if there are none, or one lacks its partner."""
    images = {p.name[: -len("_image.nii.gz")]: p for p in folder.glob("*_image.nii.gz")}
    labels = {p.name[: -len("_label.nii.gz")]: p for p in folder.glob("*_label.nii.gz")}
    unpaired = sorted(set(images) ^ set(labels))
    if unpaired or not images:
        raise InvalidInputError(f"{folder}: {len(images)} images; without a partner: {unpaired or 'none'}.")
    return [SourceCase(name, name.split("_")[0], split, images[name], labels[name]) for name in sorted(images)]


def prepare(data: SourceData, output: Path) -> Path:
    """Check all cases, then write the canonical form; nothing is left behind when something is wrong.

    Layout: imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz, dataset.json (nnU-Net), manifest.json (ours).

    Raises:
        InvalidInputError: The output exists, or cases are broken; all of them are listed.
    """
    if output.exists():
        raise InvalidInputError(f"{output} exists already. Remove it, or give another folder.")
    rows, problems = [], []
    for case in data.cases:
        try:
            rows.append(_check_case(case, len(data.labels)))
        except InvalidInputError as error:
            problems.append(f"{case.name}: {error}")
    if problems:
        raise InvalidInputError(f"{len(problems)} broken cases, nothing was written:\n" + "\n".join(problems))
    aside = output.with_name(f".{output.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _write(data, rows, aside)
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return output


def _check_case(case: SourceCase, label_count: int) -> dict[str, Any]:
    image, label = read_volume(case.image), read_volume(case.label)
    if image.array.shape != label.array.shape:
        raise InvalidInputError(f"image has shape {image.array.shape}, label {label.array.shape}.")
    same_place = np.allclose(image.direction, label.direction, atol=1e-3) and np.allclose(
        [*image.spacing_mm, *image.origin_mm], [*label.spacing_mm, *label.origin_mm], atol=1e-2
    )
    if not same_place:
        raise InvalidInputError("image and label lie at different places (spacing, origin or direction differ).")
    unknown = sorted(set(np.unique(label.array).tolist()) - set(range(label_count + 1)))
    if unknown:
        raise InvalidInputError(f"label values {unknown} are not among 0..{label_count}.")
    return {
        "name": case.name,
        "patient": case.patient,
        "split": case.split,
        "image": f"imagesTr/{case.name}_0000.nii.gz",
        "label": f"labelsTr/{case.name}.nii.gz",
        "shape": list(image.array.shape),
        "spacing_mm": list(image.spacing_mm),
        "image_sha256": _sha256(case.image),
        "label_sha256": _sha256(case.label),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(data: SourceData, rows: list[dict[str, Any]], folder: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case, row in zip(data.cases, rows):
        shutil.copyfile(case.image, folder / row["image"])
        shutil.copyfile(case.label, folder / row["label"])
    labels = {"background": 0} | {name: value for value, name in enumerate(data.labels, start=1)}
    nnunet = {
        "channel_names": {"0": data.modality},
        "labels": labels,
        "numTraining": len(rows),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(nnunet, indent=1))
    manifest = {"name": data.name, "licence": data.licence, "labels": list(data.labels), "cases": rows}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
