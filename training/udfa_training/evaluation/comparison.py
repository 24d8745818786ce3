"""Two results on the same cases: paired differences per organ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from udfa.errors import InvalidInputError
from udfa_training.evaluation.protocols import METRICS
from udfa_training.evaluation.run import SourceResult
from udfa_training.evaluation.statistics import (
    Bootstrap,
    Estimate,
    PairedTest,
    Table,
    holm,
    known_mean,
    paired_test,
    summarise,
)

OVERALL = "all labels"
"""Name of the row for the mean over labels."""


@dataclass(frozen=True)
class Difference:
    """First minus second result, for one label or for the mean over labels."""

    label: str
    estimate: Estimate
    """Mean difference; pairs in which either score is undefined or infinite are left out."""
    test: PairedTest
    p_corrected: Optional[float]
    """Corrected for the number of labels (Holm); None for the mean over labels and without a p-value."""


def compare(first: SourceResult, second: SourceResult, bootstrap: Bootstrap) -> dict[str, list[Difference]]:
    """Return the differences of each metric: one row per label, and the mean over labels last.

    Raises:
        InvalidInputError: The results are not of the same cases and labels.
    """
    names = [[case.name for case in result.cases] for result in (first, second)]
    if names[0] != names[1] or first.labels != second.labels:
        raise InvalidInputError("Only results of the same cases and labels can be compared.")
    return {metric: _differences(paired(first, second, metric), first, bootstrap) for metric in METRICS}


def paired(first: SourceResult, second: SourceResult, metric: str) -> Table:
    """Return first minus second, (cases, labels); not finite where either is undefined or infinite."""
    with np.errstate(invalid="ignore"):
        return first.table(metric) - second.table(metric)


def _differences(table: Table, result: SourceResult, bootstrap: Bootstrap) -> list[Difference]:
    summary = summarise(table, result.patients, bootstrap)
    tests = [paired_test(table[:, j], result.patients) for j in range(table.shape[1])]
    corrected = holm([test.p_value for test in tests])
    rows = [Difference(*row) for row in zip(result.labels, summary.labels, tests, corrected)]
    overall = paired_test(known_mean(table, axis=1), result.patients)
    return [*rows, Difference(OVERALL, summary.overall, overall, None)]
