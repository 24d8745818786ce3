"""A data set as it was distributed: its cases, what its label values mean, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Optional, Union

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.volume_io import read_volume
from udfa_training.label_names import in_order

NIFTI_SUFFIX = ".nii.gz"
UNKNOWN_SPACING = "The source has no voxel spacing: the headers say 1 mm, and distances are in voxels only."
UNKNOWN_ORIENTATION = "The source has no orientation: array rows and columns are taken for posterior and left."

Fact = Union[str, int, bool]


@dataclass(frozen=True)
class CaseVolumes:
    """A case in memory."""

    image: Volume
    label: Volume
    """Label values as on disk."""


@dataclass(frozen=True)
class SourceCase:
    """An image with its label as found in a source."""

    name: str
    patient: str
    split: str
    read: Callable[[], CaseVolumes]
    """Reads the case; raises InvalidInputError that names the file."""
    image_file: Optional[Path] = None
    """The image as a NIfTI file that can be taken over as it is."""
    label_file: Optional[Path] = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """What else the source says of the case, for the manifest."""
    spacing_known: bool = True
    fold: Optional[int] = None


@dataclass(frozen=True)
class SourceData:
    """A source data set before it is checked and written."""

    name: str
    kind: str
    """Kind of data set and form of the source, for the manifest."""
    values: Mapping[int, str]
    """Label value on disk -> name. Values that are not named here are refused, unless ignored."""
    licence: str
    modality: str
    cases: tuple[SourceCase, ...]
    labels: tuple[str, ...] = ()
    """Names of labels 1..K of the result; other named values become background. When none are given: all names, in the
    order of their values."""
    ignored: frozenset[int] = frozenset()
    """Values without a name that become background."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What is wrong with the files, apart from their contents."""
    split: Mapping[str, Fact] = field(default_factory=dict)
    """How the cases were split, for the manifest."""
    largest: Optional[str] = None
    """Label that must have the most voxels; otherwise the label order is not the one assumed."""

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", in_order(self.values))


@dataclass(frozen=True)
class ReaderOptions:
    """What the user says about a source."""

    modality: Optional[str] = None
    """CT or MR; None takes what the source or its kind says."""
    licence: Optional[str] = None
    """Terms for weights trained on the data; None takes what the source or its kind says."""
    label_order: Optional[str] = None
    """Key of `SYNAPSE_ORDERS`, for arrays without label names."""
    patient_pattern: Optional[str] = None
    """Regular expression whose first group is the patient in a case name."""
    labels: tuple[str, ...] = ()
    """Names of the wanted labels, for sources with one file per label; empty: those that this project knows."""


@dataclass(frozen=True)
class Form:
    """One way in which a kind of data set is distributed."""

    kind: str
    description: str
    """What the source must hold, for messages."""
    found: Callable[[Path], bool]
    """Whether a folder is of this form."""
    read: Callable[[Path, ReaderOptions], SourceData]
    must_be_named: bool = False
    """Whether the files could be of other kinds too, so that the user has to name this one."""


def read_files(image: Path, label: Path) -> CaseVolumes:
    """Read a case of two volume files."""
    return CaseVolumes(read_volume(image), read_volume(label))


def file_case(
    name: str, patient: str, split: str, image: Path, label: Path, facts: Optional[Mapping[str, Fact]] = None
) -> SourceCase:
    """Return a case of two volume files; those named .nii.gz can be taken over as they are."""
    return SourceCase(
        name,
        patient,
        split,
        partial(read_files, image, label),
        image if image.name.endswith(NIFTI_SUFFIX) else None,
        label if label.name.endswith(NIFTI_SUFFIX) else None,
        facts or {},
    )


def plain_volume(array: NDArray[np.generic]) -> Volume:
    """Return a (D, H, W) array as a volume of 1 mm voxels along the patient's axes, for sources without a header."""
    return Volume(array, (1.0, 1.0, 1.0), np.eye(3)[:, ::-1].copy())


def same_place(first: Volume, second: Volume) -> bool:
    """Whether two volumes of one shape have the same spacing, origin and direction, up to rounding in headers."""
    return np.allclose(first.direction, second.direction, atol=1e-3) and np.allclose(
        [*first.spacing_mm, *first.origin_mm], [*second.spacing_mm, *second.origin_mm], atol=1e-2
    )


def patients_of(
    names: Iterable[str], pattern: Optional[str], default: Callable[[str], str]
) -> tuple[dict[str, str], list[str]]:
    """Return case -> patient, and what is wrong: cases in which the user's pattern finds no patient.

    Args:
        names: Names of the cases.
        pattern: Regular expression whose first group is the patient, anywhere in a name.
        default: Patient of a case when there is no pattern.

    Raises:
        InvalidInputError: The pattern is no regular expression, or has no group.
    """
    if pattern is None:
        return {name: default(name) for name in names}, []
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InvalidInputError(f"The patient pattern {pattern!r} is no regular expression: {error}.") from error
    if not expression.groups:
        raise InvalidInputError(f"The patient pattern {pattern!r} has no group: put the patient in brackets.")
    matches = {name: expression.search(name) for name in names}
    patients = {name: match[1] if match and match[1] else name for name, match in matches.items()}
    lost = [name for name, match in matches.items() if not (match and match[1])]
    return patients, [f"{name}: the patient pattern {pattern!r} finds no patient in this name." for name in lost]


def numbers_text(numbers: list[int]) -> str:
    """Return sorted numbers in short, runs joined: [0, 1, 2, 5] -> "0-2, 5"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def gaps(numbers: list[int]) -> str:
    """Return the numbers that are missing between the smallest and the largest, in short; "" if there are none."""
    return numbers_text(sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers)))
