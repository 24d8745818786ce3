"""Which patients train, validate and test: the lists that publications use, one's own choice, and folds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from udfa.errors import InvalidInputError
from udfa_training.readers.source import Fact, SourceCase, SourceData

TRANSUNET = {
    "train": (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40),
    "test": (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38),
}
"""Synapse, 18/12 (Beckschen/TransUNet, lists/lists_Synapse)."""

_ACDC_VAL = (2, 19, 28, 30, 39, 45, 78, 82, 85, 87)
_ACDC_TEST = (1, 7, 8, 11, 13, 22, 24, 33, 52, 59, 64, 65, 66, 68, 75, 80, 81, 83, 84, 93)
_ACDC_NPZ_VAL = (19, 21, 29, 33, 41, 50, 61, 71, 76, 80)
_ACDC_NPZ_TEST = (2, 3, 8, 9, 12, 14, 17, 24, 42, 48, 49, 53, 55, 64, 67, 79, 81, 88, 92, 95)


def _with_rest(val: tuple[int, ...], test: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    """Return the split of patients 1 to 100 whose rest trains."""
    return {"train": tuple(n for n in range(1, 101) if n not in val + test), "val": val, "test": test}


SPLITS: dict[str, Mapping[str, tuple[int, ...]]] = {
    "transunet": TRANSUNET,
    "acdc": _with_rest(_ACDC_VAL, _ACDC_TEST),
    "acdc-npz": _with_rest(_ACDC_NPZ_VAL, _ACDC_NPZ_TEST),
}
"""Name -> split -> numbers of the patients.

acdc: 70/10/20 of SSL4MIS (HiLab-git/SSL4MIS, data/ACDC/*.list). acdc-npz: the other 70/10/20 in use, of the npz files
that come with MT-UNet, MERIT and others (sotiraslab/AgileFormer, lists/lists_ACDC). Scores on the two are not of the
same patients.
"""

SPLIT_NAMES = ("folders", "none", *SPLITS)

LISTED_KIND = {"transunet": "synapse", "acdc": "acdc", "acdc-npz": "acdc"}
"""Whose patients the lists name."""

OWN_FORMAT_KINDS = ("nnunet", "pairs", "corrections")
"""Kinds that may hold any data set; their patients are taken for those of the lists by their numbers."""


OTHER_PATIENTS = "If these are not the patients: --patient-pattern says which part of a case name is the patient."


@dataclass(frozen=True)
class SplitChoice:
    """How the patients are split."""

    name: str = "folders"
    """Key of `SPLITS`; "folders" as the source has it; "none" puts every case into training."""
    validation: tuple[str, ...] = ()
    """Patients to hold out, besides."""
    folds: int = 0
    """Folds for cross-validation of the patients who are not for testing; 0 for none."""
    fold: Optional[int] = None
    """Fold to validate on, from 0."""
    seed: int = 0
    """Seed of the folds."""


def split_cases(data: SourceData, choice: SplitChoice) -> SourceData:
    """Return the data with every case in its split; all cases of a patient stay together.

    Raises:
        InvalidInputError: Patients are in none of the lists, unknown, or the choice contradicts itself.
    """
    if choice.name == "none":
        cases = [replace(case, split="train") for case in data.cases]
    elif choice.name == "folders":
        cases = list(data.cases)
    else:
        cases = _by_list(data, choice.name)
    problems = on_two_sides((case.patient, case.split) for case in cases)
    cases = _held_out(cases, choice, data.name)
    if choice.folds:
        cases = _with_folds(cases, choice)
    elif choice.fold is not None:
        raise InvalidInputError("A fold to validate on needs the number of folds: --folds 5 --fold 0.")
    record: dict[str, Fact] = dict(data.split) if choice.name == "folders" and data.split else {"list": choice.name}
    if choice.folds:
        record |= {"folds": choice.folds, "seed": choice.seed}
    return replace(data, cases=tuple(cases), split=record, problems=(*data.problems, *problems))


def _by_list(data: SourceData, name: str) -> list[SourceCase]:
    """Return the cases in the splits of a published list, by the numbers of their patients."""
    kind = data.kind.split()[0]
    if kind not in (LISTED_KIND[name], *OWN_FORMAT_KINDS):
        raise InvalidInputError(f"Split '{name}' lists patients of {LISTED_KIND[name]}, but the data are {kind}.")
    split_of = {number: split for split, numbers in SPLITS[name].items() for number in numbers}
    numbers = {case.patient: _number(case.patient) for case in data.cases}
    unknown = sorted(patient for patient, number in numbers.items() if number not in split_of)
    if unknown:
        raise InvalidInputError(
            f"Patients {unknown} are in none of the lists of split '{name}'. Leave them out of the source, or choose "
            f"another split: {', '.join(SPLIT_NAMES)}."
        )
    return [replace(case, split=split_of[numbers[case.patient]]) for case in data.cases]


def _number(patient: str) -> int:
    """Return the number at the end of a patient's name; -1 if there is none."""
    match = re.search(r"(\d+)$", patient)
    return int(match[1]) if match else -1


def on_two_sides(cases: Iterable[tuple[str, str]]) -> list[str]:
    """Return what is wrong if cases of one patient are in several splits; cases are (patient, split)."""
    splits: dict[str, set[str]] = {}
    for patient, split in cases:
        splits.setdefault(patient, set()).add(split)
    return [
        f"Patient {patient} is in {' and in '.join(sorted(sides))}. Move all cases of a patient to one of them."
        for patient, sides in sorted(splits.items())
        if len(sides) > 1
    ]


def _held_out(cases: list[SourceCase], choice: SplitChoice, name: str) -> list[SourceCase]:
    splits = {case.patient: case.split for case in cases}
    unknown = sorted(set(choice.validation) - set(splits))
    if unknown:
        raise InvalidInputError(
            f"Validation patients {unknown} are not in {name}. Known: {sorted(splits)}. {OTHER_PATIENTS}"
        )
    testing = sorted(patient for patient in choice.validation if splits[patient] == "test")
    if testing:
        raise InvalidInputError(f"Validation patients {testing} are for testing. Choose others, or --split none.")
    return [replace(case, split="val") if case.patient in choice.validation else case for case in cases]


def assign_folds(patients: Iterable[str], folds: int, seed: int) -> dict[str, int]:
    """Return patient -> fold, the folds as equal in size as possible; the order of the patients plays no part."""
    ordered = sorted(set(patients))
    if not 2 <= folds <= len(ordered):
        raise InvalidInputError(
            f"{len(ordered)} patients cannot make {folds} folds. Give 2 to {len(ordered)}. {OTHER_PATIENTS}"
        )
    if seed < 0:
        raise InvalidInputError(f"The seed of the folds is {seed}, but must be at least 0.")
    shuffled = np.random.default_rng(seed).permutation(len(ordered))
    return {ordered[index]: position % folds for position, index in enumerate(shuffled)}


def _with_folds(cases: list[SourceCase], choice: SplitChoice) -> list[SourceCase]:
    """Return the cases with their folds; with a fold to validate on, that fold alone is held out."""
    if choice.fold is not None and not 0 <= choice.fold < choice.folds:
        raise InvalidInputError(f"Fold {choice.fold} is not among the {choice.folds} folds 0 to {choice.folds - 1}.")
    if choice.fold is not None and choice.validation:
        raise InvalidInputError("Give either validation patients or a fold to validate on, not both.")
    fold_of = assign_folds((case.patient for case in cases if case.split != "test"), choice.folds, choice.seed)
    placed = [replace(case, fold=fold_of.get(case.patient)) for case in cases]
    if choice.fold is None:
        return placed
    return [
        case if case.fold is None else replace(case, split="val" if case.fold == choice.fold else "train")
        for case in placed
    ]
