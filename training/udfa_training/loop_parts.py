"""What all training loops share: learning rate, moving average, order and seeds of the samples, saved states.

What a resumed run must repeat stands in `resume_rules`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from udfa.errors import InvalidInputError, UDFAError
from udfa.volume_io import written_aside
from udfa_training.stopping import LOADER_FAILURE, diverged


@contextmanager
def devices_explained() -> Iterator[None]:
    """Turn Fabric's complaints about devices that are not there into an error with what to do.

    Raises:
        InvalidInputError: The accelerator is unknown or not there, or it has fewer devices.
    """
    try:
        yield
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise InvalidInputError(
            f"The devices cannot be used ({' '.join(str(error).split())}). Set accelerator to auto or cpu, and devices "
            f"to as many as there are."
        ) from error


def warmup_cosine(step: int, warmup_steps: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine to 1 %."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def follow(average: Mapping[str, Tensor], module: nn.Module, step: int, decay: float) -> None:
    """Move the average of the trained weights towards the current ones, in place; early on it follows faster.

    Args:
        average: By name, in the order of the module's parameters that require a gradient.
        module: Holds the current weights.
        step: Steps done.
        decay: Share of the average that stays.
    """
    decay = min(decay, (1 + step) / (10 + step))
    current = [p.detach() for p in module.parameters() if p.requires_grad]
    torch._foreach_lerp_(list(average.values()), current, 1 - decay)


def at_weights(optimizer: torch.optim.Optimizer) -> None:
    """Bring a restored optimiser's moments to where its weights are: Fabric moves the weights alone."""
    optimizer.load_state_dict(optimizer.state_dict())


def check_finite(value: float, name: str, step: int, saved: Path) -> None:
    """Stop a run before it spoils its weights.

    Args:
        value: Loss or gradient norm.
        name: Which of them it is.
        step: Steps done.
        saved: Path of the resumable state.

    Raises:
        UDFAError: The value is NaN or infinite.
    """
    if not math.isfinite(value):
        raise UDFAError(diverged(name, value, step, saved))


def clipped_norm(fabric: Fabric, model: Any, optimizer: Any, largest: float) -> float:
    """Clip the gradient in place; returns its norm before that, which may be NaN or infinite."""
    norm = fabric.clip_gradients(model, optimizer, max_norm=largest, error_if_nonfinite=False)
    return float(norm)  # type: ignore[arg-type]


def sample_order(steps: range, batch_size: int, accumulate: int, processes: int, rank: int) -> list[int]:
    """Return the samples that a process sees: pass by pass, its part of what one process would see as one batch."""
    whole = batch_size * processes
    return [
        (step * accumulate + part) * whole + rank * batch_size + i
        for step in steps
        for part in range(accumulate)
        for i in range(batch_size)
    ]


def draw_seed(seed: int, fabric: Fabric, number: int) -> int:
    """Seed of a pass's draws: the same however the run was split, different on each process."""
    return seed + 1_000_003 * (number * fabric.world_size + fabric.global_rank)


def write_state(record: Mapping[str, Any], path: Path) -> None:
    """Write a resumable state aside, then rename it.

    Raises:
        OSError: The file cannot be written; an earlier one stays as it was.
    """
    with written_aside(path) as aside:
        try:
            torch.save(record, aside)
        except RuntimeError as error:
            if LOADER_FAILURE in str(error):
                raise
            # torch's own writer reports a full disk as RuntimeError.
            raise OSError(f"{path} could not be written: {str(error).splitlines()[0]}") from error


def read_state(path: Path) -> dict[str, Any]:
    """Read a resumable state.

    Raises:
        InvalidInputError: The file is damaged.
    """
    try:
        record: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises anything on a damaged file.
        raise InvalidInputError(f"{path} is damaged ({error}). Remove it to start the run anew.") from error
    return record
