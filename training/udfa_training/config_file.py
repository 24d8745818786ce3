"""Reads the YAML file of a run, with overrides from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from udfa.checkpoint import CheckpointInfo, read_info
from udfa.config import from_dict, to_dict
from udfa.errors import CheckpointError, InvalidInputError
from udfa.models import resolve_model
from udfa_training.augment import AugmentConfig
from udfa_training.dataset import open_prepared
from udfa_training.fit_config import FitConfig
from udfa_training.unified_config import UnifiedConfig, unified_from_fields

T = TypeVar("T")


def load_config(path: Path, overrides: Sequence[str] = (), kind: type[T] = FitConfig) -> T:  # type: ignore[assignment]
    """Read a YAML file of a config's fields and apply overrides like ["--steps", "200", "--augment.scale", "0.1"].

    Raises:
        InvalidInputError: Unreadable file, unknown field, wrong type, or an override without a value.
    """
    return from_dict(kind, read_fields(path, overrides), str(path))


def load_run(path: Path | None, overrides: Sequence[str] = ()) -> FitConfig | UnifiedConfig:
    """Read the settings of a training run.

    A run that starts from a checkpoint need not describe the model: what `model` leaves out is as in the checkpoint,
    and the labels are those of the data. The same holds for `augment`.

    Args:
        path: YAML file with the fields of FitConfig, or with `tasks` those of UnifiedConfig; None for overrides only.
        overrides: Fields from the command line, as in `load_config`.

    Raises:
        InvalidInputError: Unreadable file, unknown field, wrong type, or an override without a value.
        CheckpointError: The checkpoint to start from cannot be read.
    """
    fields = read_fields(path, overrides)
    if path is None and not {"init", "model"} & set(fields):
        raise InvalidInputError(
            "There is nothing to train. Give --config FILE (examples are in training/configs), or fine-tune with "
            "--init CHECKPOINT --data FOLDER --output FOLDER."
        )
    where = "command line" if path is None else str(path)
    tasks = fields.get("tasks")
    if tasks is None:
        return from_dict(FitConfig, completed(fields), where)
    if isinstance(tasks, dict):
        common = {name: value for name, value in fields.items() if name not in ("tasks", "shared", "output")}
        given = {name: completed({**common, **own}) for name, own in tasks.items() if isinstance(own, dict)}
        fields = {**fields, "tasks": {**tasks, **given}}
    return unified_from_fields(fields, where)


def read_fields(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the content of a YAML file with overrides applied."""
    fields: dict[str, Any] = {}
    if path is not None:
        if not path.is_file():
            raise InvalidInputError(f"{path} does not exist. Examples are in training/configs.")
        try:
            fields = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{path} is no valid YAML file: {error}.") from error
    if not isinstance(fields, dict):
        raise InvalidInputError(f"{path} must map fields to values, got: {str(fields)[:60]}.")
    if len(overrides) % 2 or any(not name.startswith("--") for name in overrides[::2]):
        raise InvalidInputError(f"Give overrides as --field value, got: {' '.join(overrides)}.")
    for name, value in zip(overrides[::2], overrides[1::2]):
        *parents, last = name[2:].replace("-", "_").split(".")
        target: Any = fields
        for parent in parents:
            target = target.setdefault(parent, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            raise InvalidInputError(f"{name} cannot be set: {'.'.join(parents)} is a single value.")
        target[last] = _override_value(name, value)
    return fields


def completed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a run with what it takes over from the checkpoint `init`: model and augmentation.

    Nothing is added without a checkpoint, or when it cannot be read but the fields describe the model themselves: the
    run says so when it begins.

    Raises:
        CheckpointError: The model is to be that of the checkpoint, which cannot be read.
        InvalidInputError: The labels are to be those of the data, which are not prepared.
    """
    init, data, model = fields.get("init"), fields.get("data"), fields.get("model", {})
    if not isinstance(init, str):
        return fields
    without_model = isinstance(model, dict) and not {"task", "labels"} <= set(model) and isinstance(data, str)
    try:
        source = read_info(resolve_model(init))
    except CheckpointError:
        if without_model:
            raise
        return fields
    taken = {"augment": augmentation_of(source, fields.get("augment", {}))}
    if without_model:
        taken["model"] = model_of(source, Path(str(data)), model)
    return {**fields, **taken}


def model_of(source: CheckpointInfo, data: Path, own: dict[str, Any]) -> dict[str, Any]:
    """Return the model of a checkpoint with the labels of the data; `own` values stay."""
    labels = tuple(own["labels"] if "labels" in own else open_prepared(data).labels)
    base = to_dict(source.config)
    base["labels"] = list(labels)
    base["network"]["num_classes"] = len(labels) + 1
    for rule in ("largest_component_labels", "small_part_labels"):
        base["postprocessing"][rule] = [name for name in base["postprocessing"][rule] if name in labels]
    if labels != source.config.labels:
        base["task"] = f"{data.name} ({source.config.preprocessing.modality})"
    return _merged(base, own)


def augmentation_of(source: CheckpointInfo, own: Any) -> Any:
    """Return the augmentation that a checkpoint was trained with last; `own` values stay.

    Whether images may be flipped or turned is as much a property of the data as of the run.
    """
    if not isinstance(own, dict):
        return own
    runs = source.training.get("history", [])
    earlier = [run["settings"]["augment"] for run in runs if "augment" in run.get("settings", {})]
    known = set(AugmentConfig.__dataclass_fields__)
    base = {name: value for name, value in earlier[-1].items() if name in known} if earlier else {}
    return {**base, **own}


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return base with the values of own, which may leave out any."""
    merged = dict(base)
    for name, value in own.items():
        inside = merged.get(name)
        merged[name] = _merged(inside, value) if isinstance(inside, dict) and isinstance(value, dict) else value
    return merged


def _override_value(name: str, text: str) -> Any:
    """Read an override as JSON or else as YAML, whose numbers such as 1e-3 would be text."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInputError(
            f"{name} {text} is no YAML value. Put text with special characters into quotes: {name} '\"{text}\"'."
        ) from error
