"""Means, intervals over patients, and paired tests, on numbers that can be checked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from udfa_training.evaluation.statistics import Bootstrap, holm, known_mean, paired_test, summarise

NAN, INF = math.nan, math.inf
QUICK = Bootstrap(resamples=2000)


def table(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


def test_means_are_taken_over_cases_and_then_over_labels() -> None:
    scores = table([0.8, 0.4], [0.6, NAN], [1.0, 0.6])
    summary = summarise(scores, ["a", "b", "c"], QUICK)
    assert [estimate.mean for estimate in summary.labels] == pytest.approx([0.8, 0.5])
    assert summary.overall.mean == pytest.approx(0.65)
    assert [estimate.cases for estimate in summary.labels] == [3, 2]


def test_infinite_distances_are_left_out_and_counted() -> None:
    summary = summarise(table([2.0, 1.0], [4.0, INF], [INF, INF]), ["a", "b", "c"], QUICK)
    assert [(e.mean, e.infinite, e.cases) for e in summary.labels] == [(3.0, 1, 2), (1.0, 2, 1)]
    assert (summary.overall.mean, summary.overall.infinite, summary.overall.cases) == (2.0, 3, 2)


def test_a_label_that_no_case_has_has_no_mean_and_does_not_count_in_the_overall_mean() -> None:
    summary = summarise(table([0.5, NAN], [0.7, NAN]), ["a", "b"], QUICK)
    assert math.isnan(summary.labels[1].mean)
    assert summary.overall.mean == pytest.approx(0.6)


def test_the_interval_is_that_of_all_possible_resamples() -> None:
    """Four patients have 4^4 = 256 resamples; percentiles over all of them are what many draws come near to."""
    values = [0.1, 0.4, 0.5, 0.9]
    means = [np.mean(draw) for draw in itertools.product(values, repeat=4)]
    estimate = summarise(table(*[[v] for v in values]), list("abcd"), Bootstrap(resamples=50_000)).labels[0]
    assert estimate.low == pytest.approx(np.percentile(means, 2.5), abs=0.03)
    assert estimate.high == pytest.approx(np.percentile(means, 97.5), abs=0.03)
    assert estimate.low < estimate.mean < estimate.high


def test_cases_of_a_patient_are_drawn_together() -> None:
    """Two patients with two cases each: a resample is all of a, all of b, or both, so the ends are 0.2 and 0.8."""
    scores = table([0.1], [0.3], [0.7], [0.9])
    estimate = summarise(scores, ["a", "a", "b", "b"], QUICK).labels[0]
    assert (estimate.low, estimate.high) == pytest.approx((0.2, 0.8))
    assert (estimate.cases, estimate.patients) == (4, 2)


def test_one_patient_has_no_interval() -> None:
    estimate = summarise(table([0.1], [0.3]), ["a", "a"], QUICK).labels[0]
    assert estimate.mean == pytest.approx(0.2)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_the_interval_depends_on_the_seed_only() -> None:
    scores = np.random.default_rng(0).random((12, 2))
    patients = [f"p{i}" for i in range(12)]
    first, again = (summarise(scores, patients, Bootstrap(500, seed=3)) for _ in range(2))
    other = summarise(scores, patients, Bootstrap(500, seed=4))
    assert first == again
    assert first.overall.low != other.overall.low


def test_the_mean_of_nothing_is_nan_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert math.isnan(float(known_mean(np.array([NAN, INF]))))
    assert len(recwarn) == 0


def test_six_patients_that_all_improve_have_p_of_two_in_64() -> None:
    result = paired_test(np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06]), list("abcdef"))
    assert result.p_value == pytest.approx(2 / 64)
    assert result.remark == ""


def test_with_five_patients_it_says_that_no_test_could_tell() -> None:
    result = paired_test(np.array([0.01, 0.02, 0.03, 0.04, 0.05]), list("abcde"))
    assert result.p_value is None
    assert result.remark == "no p-value: 5 patients with a difference, the least that the test could give is p = 0.0625"


def test_many_cases_of_few_patients_are_few() -> None:
    result = paired_test(np.linspace(0.01, 0.3, 30), ["a", "b", "c"] * 10)
    assert result.p_value is None
    assert "3 patients" in result.remark


def test_patients_without_difference_or_score_do_not_count() -> None:
    differences = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.0, NAN, INF])
    assert paired_test(differences, list("abcdefghi")).p_value == pytest.approx(2 / 64)
    assert paired_test(np.zeros(8), list("abcdefgh")).remark == "no p-value: 0 patients with a difference"


def test_holm_multiplies_the_least_by_the_count_and_keeps_the_order() -> None:
    """0.01 * 3, then 0.02 * 2, then max(0.04, 0.03 * 1); an absent p-value is not counted."""
    assert holm([0.03, None, 0.01, 0.02]) == pytest.approx([0.04, None, 0.03, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
