"""What changes during a run, and how it is saved and taken up again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from udfa.config import to_dict
from udfa.errors import InvalidInputError
from udfa.networks.udfa import UDFA
from udfa.volume_io import written_aside
from udfa_training.fit_config import FitConfig

FREE_TO_CHANGE = frozenset(
    {
        *("data", "output", "init", "steps", "accelerator", "devices", "precision", "workers"),
        *("save_every", "validate_every", "quick_cases"),
    }
)
"""Settings that a resumed run may change: where it runs, how long, and how often it saves and validates."""


@dataclass
class TrainingState:
    """Everything that changes during a run."""

    network: UDFA
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    step: int = 0
    best_dice: float = 0.0


@torch.no_grad()
def update_average(state: TrainingState, decay: float) -> None:
    """Move the average towards the current weights; early on it follows faster."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    current = [p.detach() for p in state.network.parameters() if p.requires_grad]
    torch._foreach_lerp_(list(state.average.values()), current, 1 - decay)


def restore_average(state: TrainingState, fabric: Fabric) -> None:
    """Bring the moving average to the device of the network."""
    state.average = {name: fabric.to_device(value) for name, value in state.average.items()}


def averaged_network(config: FitConfig, state: TrainingState) -> UDFA:
    """Return a copy of the network with the averaged weights."""
    network = UDFA(config.model.network)
    weights = {key: value.detach().cpu() for key, value in state.network.state_dict().items()}
    weights.update({key: value.detach().cpu() for key, value in state.average.items()})
    network.load_state_dict(weights)
    return network


def save(state: TrainingState, config: FitConfig, path: Path) -> None:
    """Write the resumable state aside, then rename it."""
    record = {
        "settings": fixed_settings(config),
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": state.average,
        "step": state.step,
        "best_dice": state.best_dice,
    }
    with written_aside(path) as aside:
        torch.save(record, aside)


def restore(state: TrainingState, config: FitConfig, path: Path) -> None:
    """Take up a saved state, if there is one.

    Raises:
        InvalidInputError: The saved run had other settings.
    """
    if not path.is_file():
        return
    record = torch.load(path, map_location="cpu", weights_only=True)
    check_settings(record.get("settings", {}), fixed_settings(config), path)
    state.network.load_state_dict(record["network"])
    state.optimizer.load_state_dict(record["optimizer"])
    for name, value in record["average"].items():
        state.average[name].copy_(value)
    state.step, state.best_dice = record["step"], record["best_dice"]


def fixed_settings(config: FitConfig) -> dict[str, Any]:
    """Return the settings that make up the identity of a run, as plain types."""
    return {name: value for name, value in to_dict(config).items() if name not in FREE_TO_CHANGE}


def check_settings(saved: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    """Raise InvalidInputError if a saved run had other settings; settings that it did not record are not compared."""
    changed = [name for name, value in saved.items() if wanted.get(name) != value]
    if changed:
        listing = "; ".join(f"{name} was {saved[name]}, now {wanted.get(name)}" for name in changed)
        raise InvalidInputError(
            f"{path} holds a run with other settings ({listing}). Resume with the same settings, or start anew with "
            f"another output folder."
        )
