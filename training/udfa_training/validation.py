"""Whole-volume validation with the product's own inference: Dice only, quick enough for the middle of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from udfa.config import ModelConfig
from udfa.devices import ExecutionPlan
from udfa.metrics import dice_per_label
from udfa.networks.udfa import UDFA
from udfa_training.dataset import CaseEntry
from udfa_training.evaluation.run import segmented
from udfa_training.evaluation.sources import NetworkSource
from udfa_training.evaluation.statistics import known_mean


@dataclass(frozen=True)
class ValidationReport:
    """Dice of whole volumes on their native grids."""

    cases: dict[str, dict[str, float]]
    """Case name to label name to Dice; NaN where a label is in neither mask."""

    @property
    def dice(self) -> dict[str, float]:
        """Mean Dice of each label over the cases that have it; NaN where none has it."""
        names = list(next(iter(self.cases.values()), {}))
        return {name: float(known_mean(np.array([case[name] for case in self.cases.values()]))) for name in names}

    @property
    def mean_dice(self) -> float:
        """Mean over labels of the mean over cases; 0 without cases."""
        return float(known_mean(np.array(list(self.dice.values())))) if self.cases else 0.0


def validate(
    network: UDFA, config: ModelConfig, cases: Sequence[CaseEntry], plan: ExecutionPlan | None = None
) -> ValidationReport:
    """Segment whole cases and compare them with their references."""
    source = NetworkSource(network, config, plan)
    results = {}
    for case, _, prediction, reference in segmented(source, cases):
        scores = dice_per_label(prediction, reference, list(source.values.values()))
        results[case.name] = {config.labels[value - 1]: score for value, score in scores.items()}
    return ValidationReport(results)
