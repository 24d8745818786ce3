"""Three organs as blocks, an image of them, and a network that goes by intensity."""

from __future__ import annotations

import numpy as np

from fakes.clicks import LIVER, SPLEEN, STOMACH, by_intensity
from udfa.history import Edit

HU = {0: 0, LIVER: 100, SPLEEN: 200, STOMACH: -50}
BY_HU = by_intensity((80, 120, LIVER), (180, 220, SPLEEN), (-70, -30, STOMACH))


def organs() -> np.ndarray:
    """The truth: a liver block beside a spleen block, a stomach apart; 9 slices of 48 x 48."""
    truth = np.zeros((9, 48, 48), np.uint8)
    truth[1:8, 8:30, 6:24] = LIVER
    truth[1:8, 8:30, 24:36] = SPLEEN
    truth[2:6, 36:44, 30:44] = STOMACH
    return truth


def hu_of(truth: np.ndarray) -> np.ndarray:
    """An image in which every organ has an intensity of its own."""
    return np.vectorize(HU.get)(truth).astype(np.int16)


def everything_but(edit: Edit, shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the voxels outside an edit's box."""
    mask = np.ones(shape, bool)
    mask[edit.box] = False
    return mask
