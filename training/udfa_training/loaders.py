"""Batches for the training loop."""

from __future__ import annotations

import signal
from typing import Any

from lightning_fabric import Fabric
from torch.utils.data import DataLoader
from tqdm import tqdm

from udfa.errors import InvalidInputError
from udfa_training.augment import Augmentation
from udfa_training.dataset import SliceDataset, SliceStack
from udfa_training.loop_parts import sample_order
from udfa_training.set_up import Task
from udfa_training.stack_cache import cache_folder, load_stacks


def make_loader(task: Task, steps: range, fabric: Fabric) -> DataLoader[Any]:
    """Return a loader of `accumulate` batches per step, the same however the run was split.

    Args:
        task: Data and settings.
        steps: Steps of this task to draw for, counted among its own.
        fabric: Processes.
    """
    config = task.config
    dataset = SliceDataset(
        read_cases(task, fabric),
        config.model.network.num_classes,
        config.model.preprocessing.in_slices,
        Augmentation(config.size, config.augment),
        config.foreground_share,
        config.seed,
        neighbour_labels=config.stage == "clicks",
    )
    order = sample_order(steps, config.batch_size, config.accumulate, fabric.world_size, fabric.global_rank)
    return DataLoader(
        dataset, config.batch_size, sampler=order, num_workers=config.workers, worker_init_fn=leave_signals_to_the_run
    )


def read_cases(task: Task, fabric: Fabric) -> list[SliceStack]:
    """Return the training cases on the network's grid; the first process prepares them for all."""
    cases = task.data.split("train")
    if not cases:
        raise InvalidInputError(f"{task.data.folder} has no case in its 'train' split.")
    config = task.config
    with fabric.rank_zero_first():
        folder = cache_folder(config.cache, task.data.folder)
        stacks = load_stacks(task.data, cases, config.model.preprocessing, config.model.network.num_classes, folder)
        description = f"reading cases {task.name}".strip()
        return list(tqdm(stacks, description, total=len(cases), disable=not fabric.is_global_zero))


def leave_signals_to_the_run(_: int) -> None:
    """Let Ctrl+C, which reaches all processes of a terminal, stop the run itself and not its loader processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
