"""Overlap of labelmaps with references."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks of the same shape: 2 |A and B| / (|A| + |B|); NaN when both are empty."""
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    if total == 0:
        return float("nan")
    return 2 * int(np.count_nonzero(prediction & reference)) / total


def dice_per_label(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], values: list[int]
) -> dict[int, float]:
    """Dice of each label value of two labelmaps of the same shape; NaN for labels that are in neither."""
    if prediction.shape != reference.shape:
        raise ValueError(f"Labelmaps have shapes {prediction.shape} and {reference.shape}; they must be the same.")
    return {value: dice(prediction == value, reference == value) for value in values}
