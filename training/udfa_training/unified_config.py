"""Settings of a run on several data sets at once, around one frozen backbone."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from udfa.config import from_dict
from udfa.errors import InvalidInputError
from udfa_training.fit_config import FitConfig

Shared = Literal["backbone", "adapters", "all-but-heads"]

OF_A_TASK = frozenset(
    {"data", "fold", "output", "model", "init", "augment", "size", "batch_size", "foreground_share", "quick_cases"}
)
"""Fields of FitConfig in which the tasks of a run may differ."""


@dataclass(frozen=True)
class UnifiedConfig:
    """Several tasks, each with its own data set and labels, trained in turns: step s trains task s modulo their number.

    In a YAML file the fields of FitConfig stand at the top and hold for all tasks; `tasks` maps the name of each task
    to the fields that are its own.
    """

    output: str
    """Folder of the run; each task publishes into a folder of its name within."""
    shared: Shared
    """What the tasks share: the frozen backbone only; also SPA and LGFA; or all weights but the heads."""
    tasks: dict[str, FitConfig]
    """Settings of each task by its name."""

    def __post_init__(self) -> None:
        if len(self.tasks) < 2:
            raise InvalidInputError(f"tasks names {len(self.tasks)} data sets, but needs two or more.")
        for name, task in self.tasks.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise InvalidInputError(f"The task '{name}' must be named with letters, digits, - and _ only.")
            if task.stage != "network" or task.train_backbone:
                raise InvalidInputError(f"Task {name}: several data sets share a frozen backbone in stage network.")
        self._check_agreement()

    @property
    def common(self) -> FitConfig:
        """Settings of the first task, for what holds for all."""
        return next(iter(self.tasks.values()))

    def _check_agreement(self) -> None:
        for name, task in self.tasks.items():
            differing = [
                field
                for field in FitConfig.__dataclass_fields__
                if field not in OF_A_TASK and getattr(task, field) != getattr(self.common, field)
            ]
            if differing:
                raise InvalidInputError(f"Task {name} has its own {', '.join(differing)}; set these for all tasks.")
            shapes = [replace(t.model.network, num_classes=2, prompt_channels=None) for t in (task, self.common)]
            if self.shared == "backbone":
                shapes = [replace(shape, **_only_backbone(shape.backbone)) for shape in shapes]
            if shapes[0] != shapes[1]:
                raise InvalidInputError(f"Task {name} cannot share its {self.shared}: model.network is another.")


def _only_backbone(name: str) -> dict[str, Any]:
    """Default shapes around a backbone, so that only the backbone is compared."""
    return {"backbone": name, "spa_channels": (8,) * 5, "lgfa_width": 8, "lgfa_heads": 1, "lgfa_direction": "both"} | {
        "decoder_channels": (8,) * 4
    }


def unified_from_fields(fields: dict[str, Any], where: str) -> UnifiedConfig:
    """Build the settings of several tasks from the content of a YAML file.

    Args:
        fields: `output`, `shared`, `tasks` and common fields of FitConfig.
        where: Name of the source for messages.

    Raises:
        InvalidInputError: A field is unknown, missing or does not fit.
    """
    common = {name: value for name, value in fields.items() if name not in ("shared", "tasks")}
    own, shared = fields["tasks"], fields.get("shared")
    if shared not in ("backbone", "adapters", "all-but-heads"):
        raise InvalidInputError(
            f"{where}: shared is {shared!r}, but must be 'backbone', 'adapters' or 'all-but-heads'."
        )
    if "output" not in fields or not isinstance(own, dict) or not all(isinstance(f, dict) for f in own.values()):
        raise InvalidInputError(f"{where}: needs output, and tasks that map a name to the fields of each data set.")
    tasks = {
        str(name): from_dict(
            FitConfig, {**common, **task, "output": f"{fields['output']}/{name}"}, f"{where}: tasks.{name}"
        )
        for name, task in own.items()
    }
    try:
        return UnifiedConfig(str(fields["output"]), shared, tasks)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error
