"""Means with bootstrap confidence intervals, and paired tests. Patients are the independent units, not cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

FEW_PATIENTS = 6
"""With fewer patients than this no difference can reach p < 0.05, and a bootstrap interval is too narrow."""

Table = NDArray[np.float64]
"""(cases, labels) scores; what is not finite does not count."""


@dataclass(frozen=True)
class Bootstrap:
    """How confidence intervals are made: patients are drawn with replacement, percentiles of the means are taken."""

    resamples: int = 10_000
    seed: int = 0
    confidence: float = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval."""

    mean: float
    low: float
    """NaN with fewer than two patients."""
    high: float
    cases: int
    """Cases that count."""
    patients: int
    """Patients of these cases."""
    infinite: int = 0
    """Values left out because they are infinite (HD95 of an organ that one of the masks lacks)."""


@dataclass(frozen=True)
class Summary:
    """Estimates of one metric."""

    labels: tuple[Estimate, ...]
    """Mean over cases, per label."""
    overall: Estimate
    """Mean over labels of the means over cases."""


@dataclass(frozen=True)
class PairedTest:
    """Two-sided Wilcoxon signed-rank test on the patients' mean differences."""

    p_value: Optional[float]
    """None when there are too few patients."""
    differing: int
    """Patients with a difference: those that the test is about."""
    remark: str
    """Why there is no p-value; empty when there is one."""


def summarise(scores: Table, patients: Sequence[str], bootstrap: Bootstrap) -> Summary:
    """Return means with intervals.

    Args:
        scores: (cases, labels).
        patients: Patient of each case.
        bootstrap: How intervals are made.
    """
    means, drawn = known_mean(scores, axis=0), _resampled_means(scores, patients, bootstrap)
    labels = [
        _estimate(float(means[j]), drawn[:, j], scores[:, [j]], patients, bootstrap) for j in range(scores.shape[1])
    ]
    overall = _estimate(float(known_mean(means)), known_mean(drawn, axis=1), scores, patients, bootstrap)
    return Summary(tuple(labels), overall)


def known_mean(values: NDArray[np.float64], axis: Optional[int] = None) -> NDArray[np.float64]:
    """Mean of the finite values; NaN, without a warning, where there is none."""
    finite = np.isfinite(values)
    count = finite.sum(axis=axis)
    total = np.where(finite, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), math.nan))


def _resampled_means(scores: Table, patients: Sequence[str], bootstrap: Bootstrap) -> NDArray[np.float64]:
    """Label means of each resample: (resamples, labels); NaN where no drawn patient has the label."""
    names = sorted(set(patients))
    member = np.array([[patient == name for patient in patients] for name in names], dtype=np.float64)
    finite = np.isfinite(scores)
    sums, counts = member @ np.where(finite, scores, 0.0), member @ finite.astype(np.float64)
    random = np.random.default_rng(bootstrap.seed)
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=bootstrap.resamples)
    drawn = draws @ counts
    return np.asarray(np.where(drawn > 0, (draws @ sums) / np.maximum(drawn, 1), math.nan))


def _estimate(
    mean: float, drawn: NDArray[np.float64], scores: Table, patients: Sequence[str], bootstrap: Bootstrap
) -> Estimate:
    counted = np.asarray(np.isfinite(scores).any(axis=1))
    units = {patient for patient, counts in zip(patients, counted.tolist()) if counts}
    drawn = drawn[np.isfinite(drawn)]
    low = high = math.nan
    if len(units) > 1:
        tail = 50 * (1 - bootstrap.confidence)
        low, high = (float(edge) for edge in np.percentile(drawn, [tail, 100 - tail]))
    return Estimate(mean, low, high, int(counted.sum()), len(units), int(np.isinf(scores).sum()))


def paired_test(differences: NDArray[np.float64], patients: Sequence[str]) -> PairedTest:
    """Test whether differences of cases lie around zero.

    Cases of one patient are averaged first. Patients without any difference are left out, as Wilcoxon does.

    Args:
        differences: (cases,); what is not finite does not count.
        patients: Patient of each case.
    """
    names = sorted(set(patients))
    rows = np.array(patients)
    means = np.array([float(known_mean(differences[rows == name])) for name in names])
    means = means[np.isfinite(means) & (means != 0)]
    if len(means) < FEW_PATIENTS:
        least = f", the least that the test could give is p = {2 / 2 ** len(means):.3g}" if len(means) else ""
        return PairedTest(None, len(means), f"no p-value: {len(means)} patients with a difference{least}")
    return PairedTest(float(wilcoxon(means).pvalue), len(means), "")


def holm(p_values: Sequence[Optional[float]]) -> list[Optional[float]]:
    """Return p-values corrected for their number by Holm's step-down method; None stays None and is not counted."""
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[Optional[float]] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[index] = largest
    return corrected
