"""Dice on masks small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from udfa.metrics import dice, dice_per_label


def test_dice_of_two_overlapping_masks() -> None:
    a = np.array([1, 1, 1, 0, 0], dtype=bool)
    b = np.array([0, 1, 1, 1, 1], dtype=bool)
    assert dice(a, b) == 2 * 2 / (3 + 4)


def test_dice_is_1_for_equal_and_0_for_disjoint_masks() -> None:
    a = np.array([1, 0], dtype=bool)
    assert dice(a, a) == 1.0
    assert dice(a, ~a) == 0.0


def test_dice_of_two_empty_masks_is_undefined() -> None:
    empty = np.zeros(4, dtype=bool)
    assert math.isnan(dice(empty, empty))


def test_dice_per_label_looks_at_each_label_alone() -> None:
    prediction = np.array([[0, 1, 1], [2, 2, 0]])
    reference = np.array([[0, 1, 0], [2, 2, 0]])
    scores = dice_per_label(prediction, reference, [1, 2, 3])
    assert scores[1] == 2 * 1 / 3
    assert scores[2] == 1.0
    assert math.isnan(scores[3])


def test_labelmaps_of_different_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        dice_per_label(np.zeros((2, 3), int), np.zeros((3, 2), int), [1])
