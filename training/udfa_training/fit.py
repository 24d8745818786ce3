"""The training loop: set-up, fit, validate, in this order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from tqdm import tqdm

from udfa.errors import CancelledError
from udfa_training.click_stage import ClickObjective
from udfa_training.fit_config import FitConfig
from udfa_training.journal import Journal
from udfa_training.loaders import make_loader
from udfa_training.loop_parts import check_finite, clipped_norm, devices_explained, draw_seed, warmup_cosine
from udfa_training.milestones import Milestones
from udfa_training.set_up import Plan, make_plan, make_state
from udfa_training.stopping import StopRequest, failures_explained
from udfa_training.supervised_stage import SupervisedObjective, over_processes
from udfa_training.training_state import TrainingState, follow_to_device, pull_back, restore, save, update_average
from udfa_training.unified_config import UnifiedConfig

LONGEST_WAIT = timedelta(hours=12)
"""How long processes wait for each other: the first one prepares all cases, which takes longer than torch's minutes."""


@dataclass(frozen=True)
class Run:
    """What the parts of a run work with."""

    plan: Plan
    state: TrainingState
    fabric: Fabric
    journal: Journal | None
    """None on all processes but the first."""
    milestones: Milestones
    stop: StopRequest

    @property
    def saved(self) -> Path:
        """Path of the resumable state."""
        return self.plan.output / "last.pt"

    def save(self) -> None:
        """Write the resumable state."""
        if self.fabric.is_global_zero:
            save(self.state, self.plan.identity, self.saved)


def fit(config: FitConfig, stop_after: int | None = None) -> Path:
    """Train a model, resuming the run in `config.output` if there is one.

    Args:
        config: Settings.
        stop_after: Stop (as if interrupted) once this many steps are done.

    Returns:
        Path of the published checkpoint, `<output>/model.safetensors`, or of `last.pt` after `stop_after`.

    Raises:
        InvalidInputError: Data or settings do not fit, or are not those of the run to resume.
        CancelledError: Ctrl+C; the state was saved.
        UDFAError: The loss became NaN or infinite, or the machine failed; the last saved state stays.
    """
    return execute(config, stop_after)[0]


def fit_tasks(config: UnifiedConfig, stop_after: int | None = None) -> list[Path]:
    """Train several tasks around one frozen backbone; see `fit`. Returns a checkpoint for each task."""
    return execute(config, stop_after)


def execute(config: FitConfig | UnifiedConfig, stop_after: int | None = None) -> list[Path]:
    """Train what the settings say, and publish it."""
    fabric = make_fabric(config)
    fabric.launch()
    plan = make_plan(config)
    state = make_state(plan)
    plan.output.mkdir(parents=True, exist_ok=True)
    restore(state, plan.identity, plan.output / "last.pt")
    if state.step == state.validated == plan.common.steps and all(path.is_file() for path in plan.published()):
        return plan.published()
    with StopRequest() as stop, failures_explained(plan.output / "last.pt", lambda: state.step):
        names = [task.name for task in plan.tasks]
        journal = Journal(plan.output, names, state.step, state.validated) if fabric.is_global_zero else None
        milestones = Milestones(plan, fabric, journal, lambda: stop.asked)
        try:
            this = Run(plan, state, fabric, journal, milestones, stop)
            train(this, min(stop_after or plan.common.steps, plan.common.steps))
            return finish(this)
        finally:
            if journal is not None:
                journal.close()


def make_fabric(config: FitConfig | UnifiedConfig) -> Fabric:
    """Return Lightning Fabric for the devices and nodes that the settings name."""
    common = config.common if isinstance(config, UnifiedConfig) else config
    strategy: str | DDPStrategy = "auto"
    if common.devices * common.num_nodes > 1:
        # Weights that a step does not use: those of other tasks, and the prompt encoder in stage network.
        clicks = common.model.network.prompt_channels is not None and common.stage == "network"
        partly = isinstance(config, UnifiedConfig) or clicks
        strategy = DDPStrategy(timeout=LONGEST_WAIT, find_unused_parameters=partly)
    with devices_explained():
        return Fabric(
            accelerator=common.accelerator,
            devices=common.devices,
            num_nodes=common.num_nodes,
            strategy=strategy,
            precision=common.precision,  # type: ignore[arg-type]
        )


class Objectives(nn.Module):
    """The loss of each task, behind one module for Fabric.

    Args:
        config: Settings that hold for all tasks.
        networks: Network of each task.
        processes: Processes of the run.
    """

    def __init__(self, config: FitConfig, networks: Sequence[nn.Module], processes: int) -> None:
        super().__init__()
        self.tasks = nn.ModuleList(make_objective(config, network, processes) for network in networks)

    def forward(self, task: int, *batch: Any) -> Tensor:
        """Return the loss of a task's image, label and seed (and Dice sums of the whole batch)."""
        loss: Tensor = self.tasks[task](*batch)
        return loss

    def dice_sums(self, task: int, image: Tensor, label: Tensor) -> Tensor:
        """Return the Dice sums of a part of a batch; supervised tasks only."""
        sums: Tensor = self.tasks[task].dice_sums(image, label)  # type: ignore[operator]
        return sums


def make_objective(config: FitConfig, network: Any, processes: int = 1) -> nn.Module:
    """Return the module that turns (image, label, seed) into the loss of the configured stage."""
    if config.stage == "clicks":
        return ClickObjective(network, config.max_clicks, config.reader)
    return SupervisedObjective(network, processes * config.accumulate)


def train(run: Run, last_step: int) -> None:
    """Run optimiser steps up to `last_step`, saving and validating on the way."""
    state, config, fabric = run.state, run.plan.common, run.fabric
    objectives = Objectives(config, [task.network for task in run.plan.tasks], fabric.world_size)
    model, optimizer = fabric.setup(objectives, state.optimizer)
    model.mark_forward_method("dice_sums")
    follow_to_device(state, fabric)
    batches = batches_of(run)
    progress = tqdm(total=config.steps, initial=state.step, desc="fit", disable=not fabric.is_global_zero)
    stopping = False
    while True:
        if run.milestones.due(state):
            stopping = not run.milestones.check(state) or stopping
            run.save()
        if stopping or state.step >= last_step:
            break
        set_learning_rate(optimizer, config, state.step)
        loss, stopping = step(run, model, optimizer, batches)
        progress.update()
        progress.set_postfix(loss=f"{loss:.3f}")
        log(run, loss, optimizer)
        if state.step % config.save_every == 0 or stopping or state.step == last_step:
            run.save()
    progress.close()
    fabric.barrier()
    if stopping:
        raise CancelledError(f"Stopped after step {state.step}. {run.saved} holds the state; the same command goes on.")


def batches_of(run: Run) -> list[Iterator[Any]]:
    """Return the batches of each task from the current step on."""
    plan = run.plan
    return [
        iter(make_loader(task, plan.steps_of(number, run.state.step), run.fabric))
        for number, task in enumerate(plan.tasks)
    ]


def step(run: Run, model: Any, optimizer: Any, batches: list[Iterator[Any]]) -> tuple[float, bool]:
    """Do one optimiser step. Returns the loss, and whether somebody asked to stop: the same on all processes."""
    state, config, fabric = run.state, run.plan.common, run.fabric
    task = run.plan.task_of(state.step)
    parts = [on_device(fabric, next(batches[task])) for _ in range(config.accumulate)]
    whole = whole_batch(model, task, parts) if config.accumulate > 1 and config.stage == "network" else ()
    losses = []
    for number, (image, label) in enumerate(parts):
        seed = draw_seed(config.seed, fabric, state.step * config.accumulate + number)
        with fabric.no_backward_sync(model, enabled=number + 1 < len(parts)):
            loss = model(task, image, label, seed, *whole)
            fabric.backward(loss / len(parts))
        losses.append(loss.detach())
    mean, stop = agreed(fabric, torch.stack(losses).mean(), run.stop.asked)
    check_finite(mean, "loss", state.step, run.saved)
    check_finite(clipped_norm(fabric, model, optimizer, config.gradient_clip), "gradient", state.step, run.saved)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    pull_back(state, optimizer.param_groups[0]["lr"] * config.pull)
    update_average(state, config.ema_decay)
    state.step += 1
    if run.journal is not None:
        run.journal.count(len(parts) * len(parts[0][0]) * fabric.world_size)
    # Several processes must stop after the same step, so a request that came after they agreed waits for the next.
    return mean, stop or (fabric.world_size == 1 and run.stop.asked)


def on_device(fabric: Fabric, batch: Any) -> tuple[Tensor, Tensor]:
    """Bring image and label of a batch to the device."""
    image, label = batch
    return fabric.to_device(image).contiguous(memory_format=torch.channels_last), fabric.to_device(label)


@torch.no_grad()
def whole_batch(model: Any, task: int, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor]:
    """Return the Dice sums over all passes and processes, which each pass needs for the gradient of the whole batch."""
    return (over_processes(torch.stack([model.dice_sums(task, image, label) for image, label in parts]).sum(dim=0)),)


def agreed(fabric: Fabric, loss: Tensor, stop: bool) -> tuple[float, bool]:
    """Return the mean loss of all processes, and whether any of them is to stop."""
    values = torch.stack([loss.float(), torch.tensor(float(stop), device=loss.device)])
    mean, asked = fabric.all_reduce(values, reduce_op="mean").tolist()  # type: ignore[union-attr]
    return mean, asked > 0


def log(run: Run, loss: float, optimizer: Any) -> None:
    """Write a row of the log when it is time."""
    state, config = run.state, run.plan.common
    if run.journal is not None and state.step % config.log_every == 0:
        task = run.plan.tasks[run.plan.task_of(state.step - 1)].name
        run.journal.log_step(state.step, loss, optimizer.param_groups[0]["lr"], task)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: FitConfig, step: int) -> None:
    """Linear warm-up, then cosine to 1 % of the peak of each parameter group."""
    factor = warmup_cosine(step, config.warmup_steps, config.steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def finish(run: Run) -> list[Path]:
    """Publish the averaged weights when all steps are done; otherwise return where the state is."""
    if run.state.step < run.plan.common.steps:
        return [run.saved]
    published = run.milestones.finish(run.state)
    if published is None:
        raise CancelledError(
            f"Stopped before the last validation. {run.saved} holds the state; the same command goes on."
        )
    run.save()
    run.fabric.barrier()
    return published
