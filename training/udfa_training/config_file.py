"""Reads the YAML file of a run, with overrides from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from udfa.config import from_dict
from udfa.errors import InvalidInputError
from udfa_training.fit_config import FitConfig

T = TypeVar("T")


def load_config(path: Path, overrides: Sequence[str] = (), kind: type[T] = FitConfig) -> T:  # type: ignore[assignment]
    """Read a YAML file of a config's fields and apply overrides like ["--steps", "200", "--augment.scale", "0.1"].

    Raises:
        InvalidInputError: Unreadable file, unknown field, wrong type, or an override without a value.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} does not exist. Examples are in training/configs.")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is no valid YAML file: {error}.") from error
    if len(overrides) % 2 or any(not name.startswith("--") for name in overrides[::2]):
        raise InvalidInputError(f"Give overrides as --field value, got: {' '.join(overrides)}.")
    for name, value in zip(overrides[::2], overrides[1::2]):
        *parents, last = name[2:].replace("-", "_").split(".")
        target = fields
        for parent in parents:
            target = target.setdefault(parent, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            raise InvalidInputError(f"{name} cannot be set: {'.'.join(parents)} is a single value.")
        target[last] = _override_value(value)
    return from_dict(kind, fields, str(path))


def _override_value(text: str) -> Any:
    """Read an override as JSON or else as YAML, whose numbers such as 1e-3 would be text."""
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)
