"""Whole-volume validation with the product's own inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from udfa.config import ModelConfig
from udfa.devices import ExecutionPlan, make_plan
from udfa.inference import Segmenter
from udfa.metrics import dice_per_label
from udfa.networks.udfa import UDFA
from udfa.volume_io import read_volume
from udfa_training.dataset import CaseEntry


@dataclass(frozen=True)
class ValidationReport:
    """Dice of whole volumes on their native grids."""

    cases: dict[str, dict[str, float]]
    """Case name to label name to Dice; NaN where a label is in neither mask."""

    @property
    def dice(self) -> dict[str, float]:
        """Mean Dice of each label over the cases that have it."""
        names = list(next(iter(self.cases.values()), {}))
        return {name: float(np.nanmean([case[name] for case in self.cases.values()])) for name in names}

    @property
    def mean_dice(self) -> float:
        """Mean over labels of the mean over cases; 0 without cases."""
        return float(np.nanmean(list(self.dice.values()))) if self.cases else 0.0


def validate(
    network: UDFA, config: ModelConfig, cases: Sequence[CaseEntry], plan: ExecutionPlan | None = None
) -> ValidationReport:
    """Segment whole cases and compare them with their references."""
    network.eval()
    segmenter = Segmenter(network, config, plan or make_plan())
    values = list(range(1, len(config.labels) + 1))
    results = {}
    for case in cases:
        result = segmenter.segment(read_volume(case.image))
        scores = dice_per_label(result.labelmap, read_volume(case.label).array.astype(np.uint8), values)
        results[case.name] = {config.labels[value - 1]: score for value, score in scores.items()}
    return ValidationReport(results)
