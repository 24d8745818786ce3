"""Bounds of settings, in words that name the field. What is no number is out of all bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from udfa.errors import InvalidInputError

Precision = Literal["bf16-mixed", "32-true"]
"""Precisions of Lightning Fabric that training offers. float16 needs a loss scale, which is no part of saved states."""


def check_at_least(least: float, settings: Any, names: Iterable[str]) -> None:
    """Raise InvalidInputError if a field of a dataclass is below `least`."""
    _check(settings, names, lambda value: value >= least, f"at least {least}")


def check_positive(settings: Any, names: Iterable[str]) -> None:
    """Raise InvalidInputError if a field of a dataclass is not above 0."""
    _check(settings, names, lambda value: value > 0, "above 0")


def check_shares(settings: Any, names: Iterable[str]) -> None:
    """Raise InvalidInputError if a field of a dataclass is not within 0 and 1."""
    _check(settings, names, lambda value: 0 <= value <= 1, "within 0 and 1")


def _check(settings: Any, names: Iterable[str], fits: Callable[[float], bool], words: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not fits(value):
            raise InvalidInputError(f"{name} is {value}, but must be {words}.")
