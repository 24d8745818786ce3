"""The training loop: set-up, fit, validate, in this order."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from udfa.config import ModelConfig
from udfa.errors import InvalidInputError, UDFAError
from udfa.networks.udfa import UDFA
from udfa.volume_io import written_aside
from udfa_training.augment import Augmentation, AugmentConfig
from udfa_training.dataset import PreparedData, SliceDataset, load_stack, open_prepared
from udfa_training.publish import Provenance, publish
from udfa_training.validation import validate

AUXILIARY_WEIGHTS = (1.0, 0.5, 0.25, 0.125)
"""Loss weights of the logits at strides 1, 2, 4 and 8 before normalisation, halving as in nnU-Net."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of one training run; the same fields in YAML files, on the command line and in the record."""

    data: str
    """Folder written by `udfa-train prepare`."""
    output: str
    """Folder for the run: state, log and the checkpoint."""
    model: ModelConfig
    """Model to train."""
    init: Optional[str] = None
    """Checkpoint (.safetensors) whose weights the run starts from."""
    train_backbone: bool = False
    """Pre-training of `mini`: also train the backbone, which is otherwise frozen."""
    size: int = 160
    """Side S of the training crops in pixels, a multiple of 32."""
    batch_size: int = 12
    """Slices per step and process."""
    steps: int = 4000
    """Optimiser steps."""
    warmup_steps: int = 100
    """Steps of linear learning-rate warm-up before the cosine."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    backbone_learning_rate: float = 5e-4
    """Peak learning rate of the backbone while it is pre-trained."""
    weight_decay: float = 0.02
    """Weight decay of AdamW."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is what gets validated and published."""
    foreground_share: float = 0.8
    """Share of slices drawn class by class; the rest is drawn from all slices."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Strength of the augmentation."""
    accelerator: str = "auto"
    """Device kind for Lightning Fabric: auto, cpu, cuda, mps."""
    devices: int = 1
    """Processes or GPUs on this node."""
    precision: str = "bf16-mixed"
    """Precision for Lightning Fabric, such as bf16-mixed or 32-true."""
    workers: int = 1
    """Loader processes."""
    seed: int = 0
    """Seed of initialisation and sampling."""
    save_every: int = 200
    """Steps between saved states."""
    validate_every: int = 1000
    """Steps between whole-volume validations."""
    quick_cases: int = 3
    """Validation cases used for these; all are used at the end."""

    def __post_init__(self) -> None:
        for name in ("size", "batch_size", "steps", "save_every", "validate_every", "devices"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, but must be at least 1.")
        if self.size % 32:
            raise InvalidInputError(f"size is {self.size}, but must be a multiple of 32, such as 160, 192 or 256.")
        if self.train_backbone and self.model.network.backbone != "mini":
            raise InvalidInputError("train_backbone is for the 'mini' backbone only; DINOv2 stays frozen.")


class SupervisedForward(nn.Module):
    """The forward pass of training: (B, 3, S, S) -> logits at strides 1, 2, 4, 8."""

    def __init__(self, network: UDFA) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.network.decode(self.network.encode(image), deep_supervision=True)


@dataclass
class TrainingState:
    """Everything that changes during a run."""

    network: UDFA
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    step: int = 0
    best_dice: float = 0.0


def fit(config: FitConfig, stop_after: int | None = None) -> Path:
    """Train a model, resuming the run in `config.output` if there is one.

    Args:
        config: Settings.
        stop_after: Stop (as if interrupted) once this many steps are done.

    Returns:
        Path of the published checkpoint, `<output>/model.safetensors`.

    Raises:
        InvalidInputError: Data or settings do not fit.
        UDFAError: The loss became NaN or infinite; the last saved state stays.
    """
    fabric = Fabric(accelerator=config.accelerator, devices=config.devices, precision=config.precision)  # type: ignore[arg-type]
    fabric.launch()
    data = open_prepared(Path(config.data))
    check_labels(data, config.model)
    state = set_up(config)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    restore(state, output / "last.pt")
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
        from udfa.checkpoint import load_checkpoint

        network.load_state_dict(load_checkpoint(Path(config.init)).network.state_dict())
    if config.train_backbone:
        network.backbone.unfreeze()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adapters = [p for n, p in network.named_parameters() if not n.startswith("backbone.")]
    groups: list[dict[str, Any]] = [{"params": adapters, "peak": config.learning_rate}]
    if config.train_backbone:
        groups.append({"params": list(network.backbone.parameters()), "peak": config.backbone_learning_rate})
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    average = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    return TrainingState(network, optimizer, average)


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
    model, optimizer = fabric.setup(SupervisedForward(state.network), state.optimizer)
    restore_average(state, fabric)
    criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    output, started = Path(config.output), time.monotonic()
    progress = tqdm(total=config.steps, initial=state.step, desc="fit", disable=not fabric.is_global_zero)
    for image, label in loader:
        if state.step >= last_step:
            break
        set_learning_rate(optimizer, config, state.step)
        image = fabric.to_device(image).contiguous(memory_format=torch.channels_last)
        loss = supervised_loss(criterion, model(image), fabric.to_device(label))
        if not torch.isfinite(loss):
            raise UDFAError(
                f"The loss became {loss.item()} at step {state.step}. The last state is in {output / 'last.pt'}. "
                f"Lower learning_rate, or use precision 32-true, and start again to resume."
            )
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
            save(state, output / "last.pt")
        if fabric.is_global_zero and state.step % config.validate_every == 0 and state.step < config.steps:
            check(config, state, data, output)
    progress.close()
    fabric.barrier()


def set_learning_rate(optimizer: torch.optim.Optimizer, config: FitConfig, step: int) -> None:
    """Linear warm-up, then cosine to 1 % of the peak of each parameter group."""
    if step < config.warmup_steps:
        factor = (step + 1) / config.warmup_steps
    else:
        share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def supervised_loss(criterion: nn.Module, logits: list[Tensor], label: Tensor) -> Tensor:
    """Dice plus cross-entropy at all strides. [(B, K, s, s), ...], (B, 1, S, S) -> scalar."""
    losses = []
    for output in logits:
        size = (int(output.shape[-2]), int(output.shape[-1]))
        target = label if label.shape[-2:] == size else F.interpolate(label.float(), size=size, mode="nearest-exact")
        losses.append(criterion(output.float(), target))
    weights = torch.tensor(AUXILIARY_WEIGHTS, device=label.device) / sum(AUXILIARY_WEIGHTS)
    return (torch.stack(losses) * weights).sum()


@torch.no_grad()
def update_average(state: TrainingState, decay: float) -> None:
    """Move the average towards the current weights; early on it follows faster."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    current = [p.detach() for p in state.network.parameters() if p.requires_grad]
    torch._foreach_lerp_(list(state.average.values()), current, 1 - decay)


def restore_average(state: TrainingState, fabric: Fabric) -> None:
    """Bring the moving average to the device of the network."""
    state.average = {name: fabric.to_device(value) for name, value in state.average.items()}


def save(state: TrainingState, path: Path) -> None:
    """Write the resumable state aside, then rename it."""
    record = {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": state.average,
        "step": state.step,
        "best_dice": state.best_dice,
    }
    with written_aside(path) as aside:
        torch.save(record, aside)


def restore(state: TrainingState, path: Path) -> None:
    """Take up a saved state, if there is one."""
    if not path.is_file():
        return
    record = torch.load(path, map_location="cpu", weights_only=True)
    state.network.load_state_dict(record["network"])
    state.optimizer.load_state_dict(record["optimizer"])
    for name, value in record["average"].items():
        state.average[name].copy_(value)
    state.step, state.best_dice = record["step"], record["best_dice"]


def averaged_network(config: FitConfig, state: TrainingState) -> UDFA:
    """Return a copy of the network with the averaged weights."""
    network = UDFA(config.model.network)
    weights = {key: value.detach().cpu() for key, value in state.network.state_dict().items()}
    weights.update({key: value.detach().cpu() for key, value in state.average.items()})
    network.load_state_dict(weights)
    return network


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
