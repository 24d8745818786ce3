"""What is measured for one organ in one case, and by which rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import numpy as np

from udfa.metrics import dice
from udfa_training.evaluation.distances import Mask, hd95, pooled_hd95, surface_dice
from udfa_training.label_names import SYNAPSE_ORDERS

METRICS = ("dice", "hd95", "nsd")
"""Names of the scores, as in `Scores`."""

VOXEL_GRID = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Grid:
    """The grid that two masks lie on."""

    spacing_mm: Optional[tuple[float, float, float]]
    """Voxel size along (D, H, W); None when it is unknown."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm, or in voxels when it is unknown."""
        return self.spacing_mm or VOXEL_GRID

    def millilitres(self, voxels: int) -> float:
        """Volume of so many voxels; NaN when the spacing is unknown."""
        return math.nan if self.spacing_mm is None else voxels * math.prod(self.spacing_mm) / 1000


@dataclass(frozen=True)
class Scores:
    """Agreement of two masks. NaN: undefined, does not count."""

    dice: float
    hd95: float
    """In the unit of the grid; infinite where only one of the masks is empty, unless the protocol says otherwise."""
    nsd: float


@dataclass(frozen=True)
class Measurement:
    """One organ in one case."""

    scores: Scores
    reference_voxels: int
    predicted_voxels: int
    reference_ml: float
    predicted_ml: float


@dataclass(frozen=True)
class Protocol:
    """Rules of an evaluation."""

    name: str
    description: str
    score: Callable[[Mask, Mask, Grid, float], Scores]
    """Prediction, reference, grid and tolerance (in the grid's unit) to scores."""
    preferred_labels: tuple[str, ...] = ()
    """Labels that are evaluated, in this order, when there are all of them and the user chose none."""
    ignores_spacing: bool = False
    """Whether distances are in voxels even where the spacing is known."""


def standard_scores(prediction: Mask, reference: Mask, grid: Grid, tolerance: float) -> Scores:
    """Dice, HD95 and NSD of two (D, H, W) masks.

    Both empty: all scores are NaN and do not count. One empty: Dice 0, NSD 0 and HD95 infinite; a mean HD95 is taken
    over the finite values, and the number of infinite ones is stated with it.
    """
    overlap = dice(prediction, reference)
    if math.isnan(overlap):
        return Scores(math.nan, math.nan, math.nan)
    if not prediction.any() or not reference.any():
        return Scores(0.0, math.inf, 0.0)
    distance = hd95(prediction, reference, grid.spacing)
    return Scores(overlap, distance, surface_dice(prediction, reference, grid.spacing, tolerance))


def transunet_scores(prediction: Mask, reference: Mask, grid: Grid, tolerance: float) -> Scores:
    """Dice and HD95 of two (D, H, W) masks by the rules of TransUNet's test code.

    The rules are those of `calculate_metric_percase` in utils.py of github.com/Beckschen/TransUNet: distances on the
    voxel grid, whatever the spacing; HD95 over both directions together, as medpy does; prediction without reference
    counts as Dice 1 and HD95 0; every other case with an empty mask counts as Dice 0 and HD95 0, a missed organ too.
    There is no NSD. `grid` and `tolerance` are not used.
    """
    if prediction.any() and reference.any():
        return Scores(dice(prediction, reference), pooled_hd95(prediction, reference, VOXEL_GRID), math.nan)
    return Scores(1.0 if prediction.any() else 0.0, 0.0, math.nan)


STANDARD = Protocol(
    "standard",
    "HD95 is the larger of the two directed 95th percentiles, NSD is weighted by area. An organ in neither mask does "
    "not count; in only one of them: Dice 0, NSD 0, HD95 infinite (left out of the mean, counted beside it).",
    standard_scores,
)

TRANSUNET = Protocol(
    "transunet",
    "TransUNet's test code (github.com/Beckschen/TransUNet, utils.py and test.py): HD95 in voxels whatever the "
    "spacing, over both directions together; prediction without reference: Dice 1, HD95 0; any other empty mask: Dice "
    "0, HD95 0; mean over all cases, then over organs.",
    transunet_scores,
    preferred_labels=SYNAPSE_ORDERS["transunet"],
    ignores_spacing=True,
)

PROTOCOLS = {protocol.name: protocol for protocol in (STANDARD, TRANSUNET)}


def measure(protocol: Protocol, prediction: Mask, reference: Mask, grid: Grid, tolerance: float) -> Measurement:
    """Measure one organ in one case; masks are (D, H, W).

    Raises:
        ValueError: The masks have different shapes.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"Masks have shapes {prediction.shape} and {reference.shape}; they must be the same.")
    counts = [int(np.count_nonzero(mask)) for mask in (reference, prediction)]
    scores = protocol.score(prediction, reference, grid, tolerance)
    return Measurement(scores, counts[0], counts[1], grid.millilitres(counts[0]), grid.millilitres(counts[1]))
