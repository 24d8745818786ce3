"""The training loop: set-up, fit, validate, in this order."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from udfa.checkpoint import load_checkpoint
from udfa.config import ModelConfig
from udfa.errors import InvalidInputError, UDFAError
from udfa.networks.udfa import UDFA
from udfa_training.augment import Augmentation
from udfa_training.click_stage import ClickObjective
from udfa_training.dataset import PreparedData, SliceDataset, load_stack, open_prepared
from udfa_training.fit_config import FitConfig
from udfa_training.publish import Provenance, publish
from udfa_training.supervised_stage import SupervisedObjective
from udfa_training.training_state import (
    TrainingState,
    averaged_network,
    restore,
    restore_average,
    save,
    update_average,
)
from udfa_training.validation import validate


def fit(config: FitConfig, stop_after: int | None = None) -> Path:
    """Train a model, resuming the run in `config.output` if there is one.

    Args:
        config: Settings.
        stop_after: Stop (as if interrupted) once this many steps are done.

    Returns:
        Path of the published checkpoint, `<output>/model.safetensors`.

    Raises:
        InvalidInputError: Data or settings do not fit, or are not those of the run to resume.
        UDFAError: The loss became NaN or infinite; the last saved state stays.
    """
    fabric = Fabric(accelerator=config.accelerator, devices=config.devices, precision=config.precision)  # type: ignore[arg-type]
    fabric.launch()
    data = open_prepared(Path(config.data))
    check_labels(data, config.model)
    state = set_up(config)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    restore(state, config, output / "last.pt")
    loader = make_loader(config, data, state.step, fabric)
    train(config, fabric, state, loader, data, min(stop_after or config.steps, config.steps))
    if state.step < config.steps:
        return output / "last.pt"
    return finish(config, fabric, state, data)


def check_labels(data: PreparedData, model: ModelConfig) -> None:
    """Raise InvalidInputError unless the model's labels are those of the data, in the same order."""
    if data.labels != model.labels:
        raise InvalidInputError(f"The data has labels {data.labels}, but the model {model.labels}. They must agree.")


def set_up(config: FitConfig) -> TrainingState:
    """Build network, optimiser and moving average."""
    torch.manual_seed(config.seed)
    network = UDFA(config.model.network)
    if config.init is not None:
        initialise(network, Path(config.init))
    if config.train_backbone:
        network.backbone.unfreeze()
    if config.stage == "clicks":
        train_prompt_encoder_only(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    backbone = [p for n, p in trained.items() if n.startswith("backbone.")]
    others = [p for n, p in trained.items() if not n.startswith("backbone.")]
    groups: list[dict[str, Any]] = [{"params": others, "peak": config.learning_rate}]
    if backbone:
        groups.append({"params": backbone, "peak": config.backbone_learning_rate})
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    average = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    return TrainingState(network, optimizer, average)


def initialise(network: UDFA, path: Path) -> None:
    """Take over a checkpoint's weights; a prompt encoder that the checkpoint lacks keeps its initial ones."""
    source = load_checkpoint(path).network.state_dict()
    own = network.state_dict()
    fresh = {key for key in own if key.startswith("prompt_encoder.")} - set(source)
    misfits = sorted((set(own) - fresh) ^ set(source)) or [k for k in source if source[k].shape != own[k].shape]
    if misfits:
        raise InvalidInputError(f"{path} does not fit model.network: {len(misfits)} weights differ: {misfits[:3]}.")
    network.load_state_dict({**own, **source})


def train_prompt_encoder_only(network: UDFA) -> None:
    """Freeze everything but the prompt encoder."""
    network.requires_grad_(False)
    if network.prompt_encoder is not None:
        network.prompt_encoder.requires_grad_(True)


def make_loader(config: FitConfig, data: PreparedData, first_step: int, fabric: Fabric) -> DataLoader[Any]:
    """Return a loader whose batches start at `first_step` and are the same however the run was split."""
    cases = data.split("train")
    if not cases:
        raise InvalidInputError(f"{data.folder} has no case in its 'train' split.")
    classes = config.model.network.num_classes
    progress = tqdm(cases, desc="reading cases", disable=not fabric.is_global_zero)
    stacks = [load_stack(case, config.model.preprocessing, classes) for case in progress]
    dataset = SliceDataset(
        stacks,
        classes,
        config.model.preprocessing.in_slices,
        Augmentation(config.size, config.augment),
        config.foreground_share,
        config.seed,
        neighbour_labels=config.stage == "clicks",
    )
    total = config.batch_size * fabric.world_size
    order = [
        step * total + fabric.global_rank * config.batch_size + i
        for step in range(first_step, config.steps)
        for i in range(config.batch_size)
    ]
    return DataLoader(dataset, config.batch_size, sampler=order, num_workers=config.workers)


def train(
    config: FitConfig,
    fabric: Fabric,
    state: TrainingState,
    loader: DataLoader[Any],
    data: PreparedData,
    last_step: int,
) -> None:
    """Run optimiser steps up to `last_step`, saving and validating on the way."""
    model, optimizer = fabric.setup(make_objective(config, state.network), state.optimizer)
    restore_average(state, fabric)
    output, started = Path(config.output), time.monotonic()
    progress = tqdm(total=config.steps, initial=state.step, desc="fit", disable=not fabric.is_global_zero)
    for image, label in loader:
        if state.step >= last_step:
            break
        set_learning_rate(optimizer, config, state.step)
        image = fabric.to_device(image).contiguous(memory_format=torch.channels_last)
        loss = model(image, fabric.to_device(label), draw_seed(config, fabric, state.step))
        if not torch.isfinite(loss):
            raise UDFAError(diverged(loss.item(), state.step, output / "last.pt"))
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average(state, config.ema_decay)
        state.step += 1
        progress.update()
        progress.set_postfix(loss=f"{loss.item():.3f}")
        row = {"step": state.step, "loss": loss.item(), "seconds": time.monotonic() - started}
        if fabric.is_global_zero and state.step % 20 == 0:
            append_row(output / "log.csv", row)
        done = state.step == last_step
        if fabric.is_global_zero and (state.step % config.save_every == 0 or done):
            save(state, config, output / "last.pt")
        if fabric.is_global_zero and state.step % config.validate_every == 0 and state.step < config.steps:
            check(config, state, data, output)
    progress.close()
    fabric.barrier()


def diverged(loss: float, step: int, saved: Path) -> str:
    """Return the message for a loss that is not finite."""
    where = f"{saved} holds an earlier state." if saved.exists() else "Nothing had been saved yet."
    return (
        f"The loss became {loss} at step {step}. {where} Resume with precision 32-true, or start anew with a lower "
        f"learning_rate in another output folder."
    )


def make_objective(config: FitConfig, network: UDFA) -> nn.Module:
    """Return the module that turns (image, label, seed) into the loss of the configured stage."""
    if config.stage == "clicks":
        return ClickObjective(network, config.max_clicks, config.reader)
    return SupervisedObjective(network)


def draw_seed(config: FitConfig, fabric: Fabric, step: int) -> int:
    """Seed of a step's draws: the same however the run was split, different on each process."""
    return config.seed + 1_000_003 * (step * fabric.world_size + fabric.global_rank)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: FitConfig, step: int) -> None:
    """Linear warm-up, then cosine to 1 % of the peak of each parameter group."""
    if step < config.warmup_steps:
        factor = (step + 1) / config.warmup_steps
    else:
        share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def check(config: FitConfig, state: TrainingState, data: PreparedData, output: Path) -> None:
    """Validate on whole volumes, log the mean Dice, and keep the best checkpoint."""
    network = averaged_network(config, state)
    report = validate(network, config.model, data.split("val")[: config.quick_cases])
    append_row(output / "validation.csv", {"step": state.step, "mean_dice": report.mean_dice, **report.dice})
    if report.mean_dice > state.best_dice:
        state.best_dice = report.mean_dice
        publish(output / "best.safetensors", network, config, data, Provenance(state.step, report))


def finish(config: FitConfig, fabric: Fabric, state: TrainingState, data: PreparedData) -> Path:
    """Validate the averaged weights on all validation cases and publish them."""
    path = Path(config.output) / "model.safetensors"
    if fabric.is_global_zero:
        network = averaged_network(config, state)
        report = validate(network, config.model, data.split("val"))
        append_row(path.parent / "validation.csv", {"step": state.step, "mean_dice": report.mean_dice, **report.dice})
        publish(path, network, config, data, Provenance(state.step, report))
    fabric.barrier()
    return path


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a CSV file, with a header when it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
