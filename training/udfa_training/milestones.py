"""Whole-volume validation during and after a run, and the checkpoints that come out of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from udfa.devices import make_plan as execution_plan
from udfa.networks.udfa import UDFA
from udfa_training.dataset import CaseEntry
from udfa_training.journal import Journal
from udfa_training.publish import Provenance, publish
from udfa_training.set_up import Plan, Task
from udfa_training.training_state import TrainingState, averaged_network
from udfa_training.validation import ValidationReport, validate

logger = logging.getLogger(__name__)

Reports = dict[str, ValidationReport]
"""Report of each task by its name."""


class Milestones:
    """Validates the averaged weights of a run and publishes them.

    Args:
        plan: Tasks of the run.
        fabric: Processes; each validates its share of the cases.
        journal: Where results are logged; None on all processes but the first.
        interrupted: Whether the user wants to stop.
    """

    def __init__(self, plan: Plan, fabric: Fabric, journal: Journal | None, interrupted: Callable[[], bool]) -> None:
        self.plan = plan
        self.fabric = fabric
        self.journal = journal
        self.interrupted = interrupted

    def due(self, state: TrainingState) -> bool:
        """Whether the weights as they stand are to be validated before the next step."""
        config = self.plan.common
        on_schedule = state.step % config.validate_every == 0 and state.step < config.steps
        return on_schedule and state.step > state.validated

    def check(self, state: TrainingState) -> bool:
        """Validate on a few cases and keep the best checkpoints; false when that was interrupted."""
        networks = self._averaged(state)
        reports = self._validate(networks, quick=True)
        if reports is None:
            return False
        self._log(state.step, reports)
        self._keep_best(state, networks, reports)
        state.validated = state.step
        return True

    def finish(self, state: TrainingState) -> list[Path] | None:
        """Validate on all cases and publish; None when that was interrupted."""
        networks = self._averaged(state)
        reports = self._validate(networks, quick=False)
        if reports is None:
            return None
        self._log(state.step, reports)
        self._keep_best(state, networks, {t.name: _of_quick_cases(t, reports[t.name]) for t in self.plan.tasks})
        state.validated = state.step
        self._publish("model", state.step, networks, reports)
        self._tell_best(state)
        return self.plan.published()

    def _tell_best(self, state: TrainingState) -> None:
        """Say which step was the best on the first validation cases, when the start was among them."""
        config = self.plan.common
        if config.init is None or config.stage != "network" or state.best_dice < 0:
            return
        number = len(_cases(self.plan.tasks[0], quick=True))
        where = f"on {number} validation case{'s' * (number != 1)}"
        if state.best_step:
            logger.info("Best %s: step %d, mean Dice %.4f.", where, state.best_step, state.best_dice)
            return
        logger.warning(
            "No step was better than the start %s (mean Dice %.4f): best.safetensors has the weights of the start. "
            "Keep these, or train with less: a lower learning_rate, a larger pull, --train heads.",
            *(where, state.best_dice),
        )

    def _averaged(self, state: TrainingState) -> dict[str, UDFA]:
        network = averaged_network(state)
        return {task.name: _network_of(network, task) for task in self.plan.tasks}

    def _validate(self, networks: dict[str, UDFA], quick: bool) -> Reports | None:
        """Validate all tasks; each process takes its share of the cases. None when somebody interrupted."""
        plan = execution_plan(str(self.fabric.device))
        rank, world = self.fabric.global_rank, self.fabric.world_size
        scores: dict[tuple[str, str], dict[str, float]] = {}
        cases = [(task, case) for task in self.plan.tasks for case in _cases(task, quick)]
        progress = tqdm(cases[rank::world], "validation", leave=False, disable=rank != 0)
        for task, case in progress:
            if self.interrupted():
                break
            report = validate(networks[task.name], task.config.model, [case], plan)
            scores[task.name, case.name] = report.cases[case.name]
        for part in self._gathered(scores):
            scores.update(part)
        if len(scores) < len(cases):
            return None
        return {
            t.name: ValidationReport({c.name: scores[t.name, c.name] for c in _cases(t, quick)})
            for t in self.plan.tasks
        }

    def _gathered(self, scores: Any) -> list[Any]:
        """Return the scores of all processes."""
        parts: list[Any] = [scores] * self.fabric.world_size
        if self.fabric.world_size > 1:
            torch.distributed.all_gather_object(parts, scores)
        return parts

    def _log(self, step: int, reports: Reports) -> None:
        if self.journal is not None:
            for task in self.plan.tasks:
                if reports[task.name].cases:
                    self.journal.log_validation(step, reports[task.name], task.name)

    def _keep_best(self, state: TrainingState, networks: dict[str, UDFA], reports: Reports) -> None:
        """Publish as `best` when the mean over the tasks is the best so far: the weights of all tasks fit together."""
        means = [report.mean_dice for report in reports.values() if report.cases]
        mean = float(np.mean(means)) if means else math.nan
        # Stage clicks leaves the automatic result as it is: all its validations are alike, and the last one counts.
        if mean > state.best_dice or (mean == state.best_dice and self.plan.common.stage == "clicks"):
            state.best_dice, state.best_step = mean, state.step
            self._publish("best", state.step, networks, reports)

    def _publish(self, name: str, step: int, networks: dict[str, UDFA], reports: Reports) -> None:
        if not self.fabric.is_global_zero:
            return
        notes = self._notes()
        for task in self.plan.tasks:
            path = self.plan.output / task.name / f"{name}.safetensors"
            transfer = {} if task.transfer is None else {"taken_over": task.transfer.record()}
            others = [t.data for t in self.plan.tasks if t is not task and self.plan.shared != "backbone"]
            provenance = Provenance(step, reports[task.name], {**transfer, **notes}, tuple(others))
            publish(path, networks[task.name], task.config, task.data, provenance)

    def _notes(self) -> dict[str, Any]:
        if self.plan.shared is None:
            return {}
        return {"trained_together": {"tasks": [task.name for task in self.plan.tasks], "shared": self.plan.shared}}


def _network_of(network: nn.Module, task: Task) -> UDFA:
    found = network[task.name] if isinstance(network, nn.ModuleDict) else network
    if not isinstance(found, UDFA):
        raise TypeError(f"Expected a UDFA network for task '{task.name}', got {type(found).__name__}.")
    return found


def _cases(task: Task, quick: bool) -> list[CaseEntry]:
    cases = task.data.split("val")
    return cases[: task.config.quick_cases] if quick else cases


def _of_quick_cases(task: Task, report: ValidationReport) -> ValidationReport:
    """The part of a full report that is comparable with the validations on the way."""
    return ValidationReport({case.name: report.cases[case.name] for case in _cases(task, quick=True)})
