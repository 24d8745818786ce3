"""What counts as what when a mask is empty, and which unit the numbers have."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from udfa_training.dataset import CaseEntry
from udfa_training.evaluation.protocols import METRICS, PROTOCOLS, STANDARD, TRANSUNET, Grid, Scores, measure
from udfa_training.evaluation.run import Rules, spacing_is_known

EMPTY = np.zeros((4, 5, 6), dtype=bool)
VOXEL = EMPTY.copy()
VOXEL[1, 2, 3] = True
PAIR = VOXEL.copy()
PAIR[3, 2, 3] = True
GRID = Grid((5.0, 2.0, 2.0))


def scores(protocol: str, prediction: np.ndarray, reference: np.ndarray, grid: Grid = GRID) -> Scores:
    return measure(PROTOCOLS[protocol], prediction, reference, grid, 2.0).scores


def test_an_organ_in_neither_mask_does_not_count() -> None:
    assert all(math.isnan(getattr(scores("standard", EMPTY, EMPTY), metric)) for metric in METRICS)


@pytest.mark.parametrize(("prediction", "reference"), [(VOXEL, EMPTY), (EMPTY, VOXEL)], ids=["invented", "missed"])
def test_an_organ_in_one_mask_only_scores_zero_with_infinite_distance(
    prediction: np.ndarray, reference: np.ndarray
) -> None:
    assert scores("standard", prediction, reference) == Scores(0.0, math.inf, 0.0)


def test_a_far_voxel_too_many_is_measured_in_mm() -> None:
    """Dice 2 * 1 / (2 + 1). Directed distances: (0, 10) and (0): 95th percentile at rank 0.95 between 0 and 10.

    Surfaces of single voxels: two of three lie on the other mask.
    """
    result = scores("standard", PAIR, VOXEL)
    assert result.dice == pytest.approx(2 / 3)
    assert result.hd95 == pytest.approx(9.5)
    assert result.nsd == pytest.approx(2 / 3)


def test_without_a_spacing_distances_are_in_voxels_and_volumes_unknown() -> None:
    measured = measure(STANDARD, PAIR, VOXEL, Grid(None), 2.0)
    assert measured.scores.hd95 == pytest.approx(0.95 * 2)
    assert (measured.reference_voxels, measured.predicted_voxels) == (1, 2)
    assert math.isnan(measured.reference_ml)
    assert math.isnan(measured.predicted_ml)


def test_volumes_are_voxels_times_their_size() -> None:
    measured = measure(STANDARD, PAIR, VOXEL, GRID, 2.0)
    assert (measured.reference_ml, measured.predicted_ml) == pytest.approx((0.020, 0.040))


@pytest.mark.parametrize(
    ("prediction", "reference", "dice", "hd95"),
    [
        (VOXEL, EMPTY, 1.0, 0.0),
        (EMPTY, VOXEL, 0.0, 0.0),
        (EMPTY, EMPTY, 0.0, 0.0),
        (VOXEL, VOXEL, 1.0, 0.0),
    ],
    ids=["prediction only", "reference only", "neither", "equal"],
)
def test_transunet_counts_every_case(prediction: np.ndarray, reference: np.ndarray, dice: float, hd95: float) -> None:
    result = scores("transunet", prediction, reference)
    assert (result.dice, result.hd95) == (dice, hd95)
    assert math.isnan(result.nsd)


def test_transunet_measures_in_voxels_over_both_directions_together() -> None:
    """Distances 0, 2 (prediction) and 0 (reference): the 95th percentile is at rank 1.9, so 0.9 of the way to 2."""
    assert scores("transunet", PAIR, VOXEL).hd95 == pytest.approx(0.9 * 2)


def test_transunet_evaluates_the_eight_organs_of_its_paper() -> None:
    assert len(set(TRANSUNET.preferred_labels)) == 8
    assert "esophagus" not in TRANSUNET.preferred_labels


def case(spacing_known: bool) -> CaseEntry:
    return CaseEntry("a", "a", "val", Path("a"), Path("a"), spacing_known=spacing_known)


def test_one_case_of_unknown_spacing_puts_all_distances_in_voxels() -> None:
    assert spacing_is_known([case(True), case(True)])
    assert not spacing_is_known([case(True), case(False)])


@pytest.mark.parametrize(
    ("rules", "unit"),
    [(Rules(), "mm"), (Rules(spacing_known=False), "voxels"), (Rules(TRANSUNET), "voxels")],
    ids=["standard", "unknown spacing", "transunet"],
)
def test_the_unit_follows_from_spacing_and_protocol(rules: Rules, unit: str) -> None:
    assert rules.unit == unit


def test_masks_of_different_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"\(4, 5, 6\) and \(4, 5, 5\)"):
        measure(STANDARD, EMPTY, EMPTY[:, :, :5], GRID, 2.0)
