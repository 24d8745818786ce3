"""A small training loop with a fixed budget, for pre-training and ablations: any module that returns a loss.

`fit` is the loop for checkpoints; this one knows nothing of labels, validation or publishing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from udfa_training.bounds import Precision, check_at_least, check_positive, check_shares
from udfa_training.csv_table import CsvTable
from udfa_training.loop_parts import (
    at_weights,
    check_finite,
    clipped_norm,
    devices_explained,
    draw_seed,
    follow,
    read_state,
    sample_order,
    warmup_cosine,
    write_state,
)
from udfa_training.resume_rules import check_settings

LOG_EVERY = 20
"""Steps between rows of the log."""


@dataclass(frozen=True)
class Budget:
    """How long and how a module trains."""

    steps: int = 300
    """Optimiser steps."""
    batch_size: int = 8
    """Samples per step and process."""
    warmup_steps: int = 30
    """Steps of linear learning-rate warm-up before the cosine."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.02
    """Weight decay of AdamW."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is what the loop returns."""
    accelerator: str = "auto"
    """Device kind for Lightning Fabric: auto, cpu, cuda, mps."""
    devices: int = 1
    """Processes or GPUs on this node."""
    precision: Precision = "bf16-mixed"
    """Precision for Lightning Fabric."""
    workers: int = 0
    """Loader processes."""
    seed: int = 0
    """Seed of initialisation and sampling."""
    save_every: int = 100
    """Steps between saved states."""

    def __post_init__(self) -> None:
        check_at_least(1, self, ("steps", "batch_size", "devices", "save_every"))
        check_at_least(0, self, ("warmup_steps", "workers", "weight_decay", "seed"))
        check_positive(self, ("learning_rate", "gradient_clip"))
        check_shares(self, ("ema_decay",))


@dataclass
class LoopState:
    """Everything that changes during a run."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    """Moving average of the trainable parameters."""
    step: int = 0
    wall_seconds: list[float] = field(default_factory=list)
    """Wall time of each step without loading."""
    cpu_seconds: list[float] = field(default_factory=list)
    """Processor time of each step without loading; hardly depends on what else the machine does."""


def run_budget(
    module: nn.Module,
    dataset: Dataset[Any],
    budget: Budget,
    output: Path,
    settings: Mapping[str, Any],
    stop_after: int | None = None,
) -> LoopState:
    """Train a module, resuming the run in `output` if there is one.

    Args:
        module: Called as module(*batch, seed=...), returns the loss. Its parameters that require a gradient train.
        dataset: Item i depends on i only, any i is allowed.
        budget: Length and settings.
        output: Folder for `last.pt` and `log.csv`.
        settings: What a resumed run must repeat, as plain types, see `resume_rules`.
        stop_after: Stop (as if interrupted) once this many steps are done.

    Raises:
        InvalidInputError: The saved run had other settings, or its state is damaged.
        UDFAError: The loss became NaN or infinite; the last saved state stays.
    """
    with devices_explained():
        fabric = Fabric(accelerator=budget.accelerator, devices=budget.devices, precision=budget.precision)  # type: ignore[arg-type]
    fabric.launch()
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=budget.learning_rate, weight_decay=budget.weight_decay)
    state = LoopState(module, optimizer, {name: p.detach().clone() for name, p in trained.items()})
    output.mkdir(parents=True, exist_ok=True)
    restore(state, settings, output / "last.pt")
    last_step = min(stop_after or budget.steps, budget.steps)
    if state.step < last_step:
        _train(state, dataset, budget, fabric, (output, settings, last_step))
    fabric.barrier()
    return state


def _train(
    state: LoopState,
    dataset: Dataset[Any],
    budget: Budget,
    fabric: Fabric,
    run: tuple[Path, Mapping[str, Any], int],
) -> None:
    output, settings, last_step = run
    model, optimizer = fabric.setup(state.module, state.optimizer)
    at_weights(state.optimizer)
    state.average = {name: fabric.to_device(value) for name, value in state.average.items()}
    log = CsvTable(output / "log.csv", state.step) if fabric.is_global_zero else None
    progress = tqdm(total=budget.steps, initial=state.step, desc=output.name, disable=not fabric.is_global_zero)
    for batch in _loader(dataset, budget, fabric, state.step, last_step):
        wall, cpu = time.perf_counter(), time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate * warmup_cosine(state.step, budget.warmup_steps, budget.steps)
        seed = draw_seed(budget.seed, fabric, state.step)
        loss = model(*(fabric.to_device(part) for part in batch), seed=seed)
        value = float(loss.item())
        check_finite(value, "loss", state.step, output / "last.pt")
        fabric.backward(loss)
        norm = clipped_norm(fabric, model, optimizer, budget.gradient_clip)
        check_finite(norm, "gradient", state.step, output / "last.pt")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        follow(state.average, state.module, state.step, budget.ema_decay)
        state.step += 1
        state.wall_seconds.append(time.perf_counter() - wall)
        state.cpu_seconds.append(time.process_time() - cpu)
        progress.update()
        progress.set_postfix(loss=f"{value:.3f}")
        if log is None:
            continue
        if state.step % LOG_EVERY == 0:
            log.append({"step": state.step, "loss": value, "seconds": state.wall_seconds[-1]})
        if state.step % budget.save_every == 0 or state.step == last_step:
            save(state, settings, output / "last.pt")
    progress.close()


def _loader(dataset: Dataset[Any], budget: Budget, fabric: Fabric, first: int, last: int) -> DataLoader[Any]:
    """Batches of the steps from first to last; the same however the run was split."""
    order = sample_order(range(first, last), budget.batch_size, 1, fabric.world_size, fabric.global_rank)
    return DataLoader(dataset, budget.batch_size, sampler=order, num_workers=budget.workers)


@torch.no_grad()
def take_average(state: LoopState) -> None:
    """Put the averaged weights into the module, in place."""
    own = dict(state.module.named_parameters())
    for name, value in state.average.items():
        own[name].copy_(value)


def save(state: LoopState, settings: Mapping[str, Any], path: Path) -> None:
    """Write the resumable state aside, then rename it."""
    record = {
        "settings": dict(settings),
        "module": state.module.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": state.average,
        "step": state.step,
        "wall_seconds": state.wall_seconds,
        "cpu_seconds": state.cpu_seconds,
    }
    write_state(record, path)


def restore(state: LoopState, settings: Mapping[str, Any], path: Path) -> None:
    """Take up a saved state, if there is one.

    Raises:
        InvalidInputError: The saved run had other settings, or its state is damaged.
    """
    if not path.is_file():
        return
    record = read_state(path)
    check_settings(record.get("settings", {}), settings, path)
    state.module.load_state_dict(record["module"])
    state.optimizer.load_state_dict(record["optimizer"])
    for name, value in record["average"].items():
        state.average[name].copy_(value)
    state.step = record["step"]
    state.wall_seconds, state.cpu_seconds = list(record["wall_seconds"]), list(record["cpu_seconds"])
