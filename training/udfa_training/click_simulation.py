"""Simulated readers: where would somebody click to correct a slice?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from udfa.prompts import PlaneClick


@dataclass(frozen=True)
class ReaderConfig:
    """How a simulated reader clicks."""

    jitter_pixels: float = 2.0
    """Standard deviation of the distance from the ideal place, in network pixels."""
    wrong_share: float = 0.05
    """Share of clicks with the wrong sign."""
    choices: int = 3
    """The reader picks one of this many largest errors."""


@dataclass(frozen=True)
class _Error:
    area: int
    mask: NDArray[np.bool_]
    value: int
    positive: bool


def next_click(
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    random: np.random.Generator,
    config: Optional[ReaderConfig] = None,
) -> Optional[PlaneClick]:
    """Return a click that corrects one of the largest connected errors of a slice; None when there is no error.

    Args:
        prediction: (H, W) labels as they stand.
        reference: (H, W) labels as they should be.
        random: Source of randomness.
        config: Behaviour of the reader.
    """
    config = config or ReaderConfig()
    errors = sorted(_errors(prediction, reference), key=lambda e: -e.area)[: config.choices]
    if not errors:
        return None
    areas = np.asarray([error.area for error in errors], dtype=np.float64)
    error = errors[int(random.choice(len(errors), p=areas / areas.sum()))]
    depth = ndimage.distance_transform_edt(np.pad(error.mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    spread = min(config.jitter_pixels, float(depth.max()) / 2)
    shifted = (row + random.normal(0, spread), column + random.normal(0, spread))
    inside = tuple(int(np.clip(round(p), 0, n - 1)) for p, n in zip(shifted, prediction.shape))
    if not error.mask[inside]:
        inside = (int(row), int(column))
    positive = error.positive if random.random() >= config.wrong_share else not error.positive
    return PlaneClick(float(inside[0]), float(inside[1]), error.value, positive)


def _errors(prediction: NDArray[np.integer], reference: NDArray[np.integer]) -> list[_Error]:
    """All connected errors: places a label misses (positive click) and places it takes wrongly (negative click)."""
    wrong = prediction != reference
    found = []
    for value in np.union1d(np.unique(prediction[wrong]), np.unique(reference[wrong])):
        if value == 0:
            continue
        for positive, mask in ((True, wrong & (reference == value)), (False, wrong & (prediction == value))):
            parts, count = ndimage.label(mask)
            sizes = np.bincount(parts.ravel())[1:]
            for part in np.argsort(-sizes)[:2] if count else ():
                found.append(_Error(int(sizes[part]), parts == part + 1, int(value), positive))
    return found


def disturbed(labels: NDArray[np.integer], random: np.random.Generator) -> NDArray[np.integer]:
    """Return a labelmap with the mistakes that automatic results make: a label missing, shifted, grown or shrunk.

    Args:
        labels: (H, W) reference labels.
        random: Source of randomness.
    """
    result = labels.copy()
    for value in np.unique(labels):
        if value == 0 or random.random() < 0.5:
            continue
        mask = labels == value
        result[mask] = 0
        mode = int(random.integers(4))
        if mode == 0:
            continue
        rounds = int(random.integers(1, 5))
        if mode == 1:
            mask = ndimage.binary_erosion(mask, iterations=rounds)
        elif mode == 2:
            mask = ndimage.binary_dilation(mask, iterations=rounds)
        else:
            mask = ndimage.shift(mask.astype(np.uint8), random.integers(-6, 7, size=2), order=0).astype(bool)
        result[mask] = value
    return result
