"""The evaluation itself: segment each case, compare each organ, keep what tables and pictures need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional, cast

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import Volume, canonical_orientation, reorient
from udfa.volume_io import read_volume
from udfa_training.dataset import CaseEntry
from udfa_training.evaluation.label_matching import LabelTable
from udfa_training.evaluation.protocols import STANDARD, Grid, Measurement, Protocol, measure
from udfa_training.evaluation.sources import PredictionSource, ShareDone
from udfa_training.evaluation.statistics import Table, known_mean

Labelmap = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Rules:
    """How cases are measured."""

    protocol: Protocol = STANDARD
    tolerance: float = 2.0
    """Of NSD, in mm, or in voxels where distances are in voxels."""
    spacing_known: bool = True
    """Whether the spacing of all cases is known; if not, distances are in voxels and volumes unknown."""

    @property
    def unit(self) -> str:
        """Unit of all distances."""
        return "mm" if self.spacing_known and not self.protocol.ignores_spacing else "voxels"


@dataclass(frozen=True)
class SliceView:
    """One slice for a picture, as radiologists look at it: posterior down, left to the right."""

    image: NDArray[np.float32]
    """(h, w)."""
    reference: NDArray[np.uint8]
    """(h, w); 0, or 1 + index of the label in the table."""
    prediction: NDArray[np.uint8]
    index: int
    """Number of the slice in canonical orientation, from 0."""
    depth: int
    """Slices of the volume."""
    spacing: tuple[float, float]
    """Row height and column width, for the aspect."""


@dataclass(frozen=True)
class CaseResult:
    """Scores of one case."""

    name: str
    patient: str
    organs: dict[str, Measurement]
    """Label name to what was measured, in the order of the table."""
    view: SliceView
    """The slice with most wrong voxels."""

    @property
    def mean_dice(self) -> float:
        """Mean Dice over the organs that count; NaN when none does."""
        return float(known_mean(np.array([organ.scores.dice for organ in self.organs.values()])))


@dataclass(frozen=True)
class SourceResult:
    """All cases of one source of predictions."""

    source: PredictionSource
    labels: tuple[str, ...]
    cases: list[CaseResult]

    @property
    def patients(self) -> list[str]:
        """Patient of each case."""
        return [case.patient for case in self.cases]

    def table(self, metric: str) -> Table:
        """Return one metric as (cases, labels)."""
        rows = [[getattr(case.organs[name].scores, metric) for name in self.labels] for case in self.cases]
        return np.array(rows, dtype=np.float64)

    def worst(self, count: int) -> list[CaseResult]:
        """Return the cases of lowest mean Dice, worst first; cases without any organ are left out."""
        known = [case for case in self.cases if np.isfinite(case.mean_dice)]
        return sorted(known, key=lambda case: case.mean_dice)[:count]


def spacing_is_known(cases: Sequence[CaseEntry]) -> bool:
    """Whether the spacing of all cases is known. If not, all are measured in voxels, so that means have one unit."""
    return all(getattr(case, "spacing_known", True) for case in cases)


def segmented(
    source: PredictionSource, cases: Sequence[CaseEntry], progress: Optional[ShareDone] = None
) -> Iterator[tuple[CaseEntry, Volume, Labelmap, Labelmap]]:
    """Yield case, image, prediction and reference (D, H, W) of each case; `progress` gets cases done, with fractions.

    Raises:
        InvalidInputError: Prediction and reference of a case have different shapes, or are no labelmaps.
    """
    for number, case in enumerate(cases):

        def tell(share: float, before: int = number) -> None:
            if progress is not None:
                progress(before + share)

        image = read_volume(case.image)
        reference = label_values(read_volume(case.label).array, str(case.label))
        try:
            predicted = source.predict(case, image, tell)
        except InvalidInputError as error:
            raise InvalidInputError(f"{case.name}: {error}") from error
        prediction = label_values(predicted, f"{case.name} of {source.name}")
        if prediction.shape != reference.shape:
            raise InvalidInputError(
                f"{case.name}: {source.name} gives shape {prediction.shape}, the reference has {reference.shape}."
            )
        yield case, image, prediction, reference


def label_values(array: NDArray[np.generic], name: str) -> Labelmap:
    """Return a labelmap as integers; InvalidInputError if it holds fractions, as probabilities would."""
    if np.issubdtype(array.dtype, np.integer):
        return cast(Labelmap, array)
    whole = array.astype(np.int64)
    if not np.array_equal(whole, array):
        raise InvalidInputError(f"{name} is no labelmap: it holds values that are not whole numbers.")
    return whole


def evaluate(
    source: PredictionSource,
    cases: Sequence[CaseEntry],
    labels: LabelTable,
    rules: Rules,
    progress: Optional[ShareDone] = None,
    finished: Optional[Callable[[CaseResult], None]] = None,
) -> SourceResult:
    """Measure all cases; `finished` is called after each of them."""
    results = []
    for case, image, prediction, reference in segmented(source, cases, progress):
        result = measure_case(case, image, _numbered(prediction, reference, source, labels), labels, rules, source)
        results.append(result)
        if finished is not None:
            finished(result)
    return SourceResult(source, labels.names, results)


def _numbered(
    prediction: Labelmap, reference: Labelmap, source: PredictionSource, labels: LabelTable
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both labelmaps with the table's numbers: 0, or 1 + index of the label; other labels become background."""
    values = [source.values[name] for name in labels.names]
    return _renumbered(prediction, values), _renumbered(reference, labels.reference_values)


def _renumbered(labelmap: Labelmap, values: Sequence[int]) -> NDArray[np.uint8]:
    result = np.zeros(labelmap.shape, dtype=np.uint8)
    for number, value in enumerate(values, start=1):
        result[labelmap == value] = number
    return result


def measure_case(
    case: CaseEntry,
    image: Volume,
    labelmaps: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    labels: LabelTable,
    rules: Rules,
    source: PredictionSource,
) -> CaseResult:
    """Measure one case; `labelmaps` are prediction and reference with the table's numbers."""
    prediction, reference = labelmaps
    grid = Grid(image.spacing_mm if rules.spacing_known else None)
    organs = {
        name: measure(rules.protocol, prediction == number, reference == number, grid, rules.tolerance)
        for number, name in enumerate(labels.names, start=1)
    }
    return CaseResult(case.name, case.patient, organs, worst_slice(image, prediction, reference, source.slice_axis))


def worst_slice(
    image: Volume, prediction: NDArray[np.uint8], reference: NDArray[np.uint8], slice_axis: str
) -> SliceView:
    """Return the slice with most voxels that prediction and reference label differently; the fullest when none is."""
    orientation = canonical_orientation(image, slice_axis)
    canonical = reorient(image, orientation)
    planes = [np.asarray(orientation.apply(labelmap)) for labelmap in (reference, prediction)]
    wrong = np.count_nonzero(planes[0] != planes[1], axis=(1, 2))
    if not wrong.any():
        wrong = np.count_nonzero(planes[0], axis=(1, 2))
    index = int(np.argmax(wrong))
    return SliceView(
        image=np.array(canonical.array[index], dtype=np.float32),
        reference=planes[0][index].copy(),
        prediction=planes[1][index].copy(),
        index=index,
        depth=len(wrong),
        spacing=(canonical.spacing_mm[1], canonical.spacing_mm[2]),
    )
