"""What changes during a run, and how it is saved and taken up again."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from udfa.errors import InvalidInputError
from udfa_training.loop_parts import at_weights, follow, read_state, write_state
from udfa_training.resume_rules import check_settings


@dataclass
class TrainingState:
    """Everything that changes during a run."""

    network: nn.Module
    """UDFA, or with several tasks a ModuleDict of them."""
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    """Moving average of the weights that train."""
    step: int = 0
    """Steps done."""
    best_dice: float = -1.0
    """Mean Dice of the best validation; below 0 before the first."""
    best_step: int = 0
    """Step of the best validation."""
    validated: int = 0
    """Step of the last validation; -1 when the checkpoint that the run starts from is to be validated first."""
    anchor: dict[str, Tensor] = field(default_factory=dict)
    """Weights that the run started from, where `pull` draws those of the same name back to. Not saved: they are read
    again from `init`."""


def update_average(state: TrainingState, decay: float) -> None:
    """Move the average towards the current weights; early on it follows faster."""
    follow(state.average, state.network, state.step, decay)


@torch.no_grad()
def pull_back(state: TrainingState, share: float) -> None:
    """Move the weights towards the anchor by a share of their distance; AdamW's decay does so towards 0."""
    if not state.anchor or not share:
        return
    weights = dict(state.network.named_parameters())
    torch._foreach_lerp_([weights[name] for name in state.anchor], list(state.anchor.values()), min(share, 1.0))


def follow_to_device(state: TrainingState, fabric: Fabric) -> None:
    """Bring the moving average, the anchor and the optimiser's moments to the device of the network."""
    at_weights(state.optimizer)
    state.average = {name: fabric.to_device(value) for name, value in state.average.items()}
    state.anchor = {name: fabric.to_device(value) for name, value in state.anchor.items()}


def averaged_network(state: TrainingState) -> nn.Module:
    """Return a copy of the network with the averaged weights, on the CPU."""
    network = copy.deepcopy(state.network).to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in state.average.items():
            parameters[name].copy_(value)
    return network


def save(state: TrainingState, settings: dict[str, Any], path: Path) -> None:
    """Write the resumable state aside, then rename it.

    Args:
        state: What to save.
        settings: Settings that a resumed run must repeat.
        path: Target.

    Raises:
        OSError: The file cannot be written; an earlier one stays as it was.
    """
    record = {
        "settings": settings,
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": state.average,
        **{name: getattr(state, name) for name in ("step", "best_dice", "best_step", "validated")},
    }
    write_state(record, path)


def restore(state: TrainingState, settings: dict[str, Any], path: Path) -> None:
    """Take up a saved state, if there is one.

    Args:
        state: Fresh state to fill.
        settings: Settings of the run; see `save`.
        path: Where the state may be.

    Raises:
        InvalidInputError: The saved run had other settings, or the file is damaged.
    """
    if not path.is_file():
        return
    record = read_state(path)
    check_settings(record.get("settings", {}), settings, path)
    own = (state.average.keys(), state.network.state_dict().keys())
    if (record["average"].keys(), record["network"].keys()) != own:
        raise InvalidInputError(f"{path} holds another network, of another version. Choose another output folder.")
    state.network.load_state_dict(record["network"])
    state.optimizer.load_state_dict(record["optimizer"])
    for name, value in record["average"].items():
        state.average[name].copy_(value)
    state.step, state.best_dice = record["step"], record["best_dice"]
    state.best_step, state.validated = record.get("best_step", state.step), record.get("validated", state.step)
