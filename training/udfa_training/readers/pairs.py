"""Folders of `<case>_image.nii.gz` / `<case>_label.nii.gz` pairs, with a manifest.json or of a known data set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from udfa.errors import InvalidInputError
from udfa_training.label_names import BTCV_LABELS, CARDIAC_LABELS, canonical_name, numbered
from udfa_training.manifest import MANIFEST, read_json
from udfa_training.readers.licences import LICENCES
from udfa_training.readers.source import (
    UNKNOWN_SPACING,
    Form,
    ReaderOptions,
    SourceCase,
    SourceData,
    file_case,
    patients_of,
)

IMAGE_ENDING, LABEL_ENDING = "_image.nii.gz", "_label.nii.gz"

KNOWN_DATA = {
    "synapse": (BTCV_LABELS, "CT"),
    "acdc": (CARDIAC_LABELS, "MR"),
    "mscmr": (CARDIAC_LABELS, "MR"),
}
"""Kind -> label names and modality, where no manifest.json says otherwise."""


def found_pairs(source: Path) -> bool:
    """Whether there are pairs in the folder itself or in its train/."""
    return any(any(folder.glob("*" + IMAGE_ENDING)) for folder in (source, source / "train"))


def read_pairs(source: Path, options: ReaderOptions, kind: str = "pairs") -> SourceData:
    """Describe pairs in the folder itself, or in `train/`, `val/` and `test/`.

    manifest.json names `labels` (the background first, values counting up from 0) and `licence`; it may say `modality`,
    and `"spacing_known": false` (or a text `spacing` that begins with "not known") when the headers' spacing is a
    placeholder. A case name up to its first underscore is the patient, or what `options.patient_pattern` finds in it.

    Raises:
        InvalidInputError: The manifest names no labels or no licence.
    """
    facts = read_json(source / MANIFEST) if (source / MANIFEST).is_file() else {}
    default_labels, default_modality = KNOWN_DATA.get(kind, ((), "CT"))
    values = _values(facts, source) if "labels" in facts else numbered(default_labels)
    licence = options.licence or LICENCES.get(kind) or facts.get("licence")
    if not values or not licence:
        raise InvalidInputError(
            f"{source / MANIFEST} must name the data's labels and licence, such as "
            f'{{"labels": ["background", "liver"], "licence": "..."}}. '
            f"Pairs of {', '.join(KNOWN_DATA)} need no such file when their kind is named."
        )
    known = facts.get("spacing_known", not str(facts.get("spacing", "")).lower().startswith("not known"))
    cases, problems = _all_pairs(source, bool(known))
    patients, lost = patients_of((c.name for c in cases), options.patient_pattern, lambda name: name.split("_")[0])
    return SourceData(
        source.name,
        f"{kind} (pairs)" if kind != "pairs" else kind,
        values,
        str(licence),
        options.modality or facts.get("modality", default_modality),
        tuple(replace(case, patient=patients[case.name]) for case in cases),
        notes=() if known else (UNKNOWN_SPACING,),
        problems=(*problems, *lost),
    )


def _values(facts: dict[str, Any], source: Path) -> dict[int, str]:
    """Return value -> name of a manifest's label list."""
    if not isinstance(facts["labels"], list):
        raise InvalidInputError(
            f"{source / MANIFEST}: `labels` must be a list of names in the order of the values 0, 1, 2, ..., but is "
            f"{facts['labels']!r}. Names with values belong into the dataset.json of an nnU-Net data set."
        )
    labels = [canonical_name(str(name)) for name in facts["labels"]]
    if not labels or labels[0] != "background":
        raise InvalidInputError(f"{source / MANIFEST}: the first of `labels` must be background; got {labels[:3]}.")
    return numbered(labels[1:])


def _all_pairs(source: Path, spacing_known: bool) -> tuple[list[SourceCase], list[str]]:
    cases: list[SourceCase] = []
    problems: list[str] = []
    parts = [source / name for name in ("train", "val", "test")] if (source / "train").is_dir() else [source]
    for folder in parts:
        split = folder.name if folder != source else "train"
        images = {p.name[: -len(IMAGE_ENDING)]: p for p in folder.glob("*" + IMAGE_ENDING)}
        labels = {p.name[: -len(LABEL_ENDING)]: p for p in folder.glob("*" + LABEL_ENDING)}
        problems += [f"{folder}: {name} has no {LABEL_ENDING} file." for name in sorted(set(images) - set(labels))]
        problems += [f"{folder}: {name} has no {IMAGE_ENDING} file." for name in sorted(set(labels) - set(images))]
        for name in sorted(set(images) & set(labels)):
            cases.append(_case(name, split, images[name], labels[name], spacing_known))
    return cases, problems


def _case(name: str, split: str, image: Path, label: Path, spacing_known: bool) -> SourceCase:
    return replace(file_case(name, name, split, image, label), spacing_known=spacing_known)


def _form(kind: str) -> Form:
    wanted = "*_image.nii.gz and *_label.nii.gz, in it or in train/, val/, test/"
    if kind == "pairs":
        return Form(kind, f"{wanted}, and a {MANIFEST} with labels and licence", found_pairs, read_pairs)
    return Form(kind, wanted, found_pairs, partial(read_pairs, kind=kind), must_be_named=True)


FORMS = tuple(_form(kind) for kind in ("pairs", *KNOWN_DATA))
