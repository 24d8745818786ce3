"""What a run starts from: data, networks, what of them trains, optimiser."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from udfa.checkpoint import load_checkpoint, read_info
from udfa.errors import InvalidInputError
from udfa.models import resolve_model
from udfa.networks.backbone import load_pretrained
from udfa.networks.udfa import UDFA
from udfa_training.backbone_file import backbone_training, load_backbone
from udfa_training.dataset import PreparedData, open_prepared
from udfa_training.fit_config import FitConfig
from udfa_training.misfits import other_labels, warn_of_misfits, warn_of_seen_patients
from udfa_training.resume_rules import FREE, fixed_settings
from udfa_training.stack_cache import training_content
from udfa_training.training_state import TrainingState
from udfa_training.transfer import Transfer, take_over
from udfa_training.unified_config import UnifiedConfig

logger = logging.getLogger(__name__)

SHARED_PARTS = {
    "backbone": ("backbone",),
    "adapters": ("backbone", "spa", "lgfa"),
    "all-but-heads": (
        *("backbone", "spa", "lgfa"),
        *(f"decoder.{name}" for name in ("tokens", "stage16", "stage8", "stage4", "stage2")),
    ),
}
"""Modules of UDFA that all tasks of a run have in common."""

TRAINED_PARTS = {"adapters": ("spa.", "lgfa."), "decoder": ("decoder.",), "heads": ()}
"""Beginnings of the names of the weights that train, beside the heads."""

PLACES = frozenset({"data", "output", "init", "backbone_weights", "cache"})
"""Settings that name files and folders, which may have moved when a run is resumed."""

HEADS = ("decoder.head.", "decoder.auxiliary_heads.")
"""Beginnings of the names of the heads' weights, which always train, since labels may be new."""


@dataclass(frozen=True)
class Task:
    """One data set of a run, and the network for it."""

    name: str
    """Empty when it is the only one."""
    config: FitConfig
    data: PreparedData
    network: UDFA
    transfer: Transfer | None
    """What was taken over from the checkpoint `config.init`."""


@dataclass(frozen=True)
class Plan:
    """What a run does: its tasks, and the settings that hold for all of them."""

    tasks: tuple[Task, ...]
    output: Path
    identity: dict[str, Any]
    """Settings that a resumed run must repeat."""
    shared: str | None = None
    """Key of SHARED_PARTS; None for a single task."""

    @property
    def common(self) -> FitConfig:
        """Settings that hold for all tasks."""
        return self.tasks[0].config

    def published(self) -> list[Path]:
        """Return where the final checkpoint of each task belongs."""
        return [self.output / task.name / "model.safetensors" for task in self.tasks]

    def task_of(self, step: int) -> int:
        """Return the number of the task that a step trains: they take turns."""
        return step % len(self.tasks)

    def steps_of(self, task: int, first: int) -> range:
        """Return how often a task was trained before step `first`, up to how often it is trained in all."""
        before, end = (len(range(task, step, len(self.tasks))) for step in (first, self.common.steps))
        return range(before, max(before, end))


def make_plan(config: FitConfig | UnifiedConfig) -> Plan:
    """Open the data and build the networks.

    Raises:
        InvalidInputError: Data, settings and checkpoint do not fit each other.
    """
    if isinstance(config, FitConfig):
        task = make_task("", config)
        return Plan((task,), Path(config.output), identity(task))
    tasks = tuple(make_task(name, task) for name, task in config.tasks.items())
    share([task.network for task in tasks], config.shared)
    all_tasks = {"shared": config.shared, "tasks": {task.name: identity(task) for task in tasks}}
    return Plan(tasks, Path(config.output), all_tasks, config.shared)


def identity(task: Task) -> dict[str, Any]:
    """Return what a resumed run must repeat: files and folders may have moved, but must hold the same."""
    init = task.config.init
    return {
        **fixed_settings(task.config, FREE | PLACES),
        "training_cases": training_content(task.data),
        "weights_of_init": None if init is None else read_info(resolve_model(init)).content_sha256[:12],
    }


def make_task(name: str, config: FitConfig) -> Task:
    """Open the data of a task and build its network, from `config.init` if there is one."""
    data = open_prepared(Path(config.data), config.fold)
    warn_of_misfits(data, config)
    if data.labels != config.model.labels:
        raise InvalidInputError(other_labels(data.labels, config.model.labels))
    torch.manual_seed(config.seed)
    network = UDFA(config.model.network)
    transfer = None
    if config.init is not None:
        transfer = initialise(network, config, data)
        logger.info("%s%s: %s", f"{name}: " if name else "", config.init, transfer.describe())
    else:
        fill_backbone(network, config, data)
    select_trainable(network, config)
    return Task(name, config, data, network.to(memory_format=torch.channels_last), transfer)  # type: ignore[call-overload]


def fill_backbone(network: UDFA, config: FitConfig, data: PreparedData) -> None:
    """Load the weights of the backbone for a run that starts from no checkpoint."""
    weights = None if config.backbone_weights is None else Path(config.backbone_weights)
    if config.model.network.backbone != "mini":
        load_pretrained(network.backbone, weights)
    elif weights is not None:
        load_backbone(network.backbone, weights)
        warn_of_seen_patients(weights.name, backbone_training(weights), data)
    elif not config.train_backbone:
        logger.warning("The backbone is frozen and has random weights: name init or backbone_weights.")


def initialise(network: UDFA, config: FitConfig, data: PreparedData) -> Transfer:
    """Take over the weights of the checkpoint `config.init`; rows of new labels keep their initial ones."""
    weights = None if config.backbone_weights is None else Path(config.backbone_weights)
    source = load_checkpoint(resolve_model(config.init), weights)
    if config.stage == "clicks" and source.info.config.labels != config.model.labels:
        raise InvalidInputError(
            f"{config.init} has labels {source.info.config.labels}, the model {config.model.labels}. Stage clicks "
            f"leaves the automatic result as it is: first train stage network on the new labels."
        )
    warn_of_seen_patients(source.info.name, source.info.training, data)
    return take_over(network, config.model.labels, source)


def select_trainable(network: UDFA, config: FitConfig) -> None:
    """Let exactly those weights train that the settings name."""
    if config.train_backbone:
        network.backbone.unfreeze()
    if config.stage == "clicks":
        network.requires_grad_(False)
        if network.prompt_encoder is not None:
            network.prompt_encoder.requires_grad_(True)
    elif config.train != "everything-but-backbone":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith((*TRAINED_PARTS[config.train], *HEADS)))


def share(networks: list[UDFA], shared: str) -> None:
    """Give all networks the modules of the first that they are to share.

    Raises:
        InvalidInputError: They started from checkpoints with different backbones.
    """
    first = networks[0]
    for other in networks[1:]:
        backbones = zip(first.backbone.state_dict().values(), other.backbone.state_dict().values())
        if not all(torch.equal(a, b) for a, b in backbones):
            raise InvalidInputError("The tasks start from checkpoints with different backbones. Name one init for all.")
        for path in SHARED_PARTS[shared]:
            owner, _, name = path.rpartition(".")
            setattr(other.get_submodule(owner), name, getattr(first.get_submodule(owner), name))


def make_state(plan: Plan) -> TrainingState:
    """Return the state before the first step: networks, optimiser, moving average."""
    network: nn.Module = plan.tasks[0].network
    if plan.shared is not None:
        network = nn.ModuleDict({task.name: task.network for task in plan.tasks})
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    backbone = [p for n, p in trained.items() if n.startswith("backbone.")]
    others = [p for n, p in trained.items() if not n.startswith("backbone.")]
    config = plan.common
    groups: list[dict[str, Any]] = [{"params": others, "peak": config.learning_rate}]
    if backbone:
        groups.append({"params": backbone, "peak": config.backbone_learning_rate})
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    average = {n: p.detach().clone() for n, p in trained.items()}
    state = TrainingState(network, optimizer, average, anchor=anchor_of(plan, trained))
    if config.init is not None and config.stage == "network":
        state.validated = -1
    return state


def anchor_of(plan: Plan, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that `pull` draws back to: those taken over, but no heads with rows of new labels."""
    if not plan.common.pull:
        return {}
    fresh = any(task.transfer is not None and task.transfer.fresh for task in plan.tasks)
    return {n: p.detach().clone() for n, p in trained.items() if not (fresh and any(head in n for head in HEADS))}
