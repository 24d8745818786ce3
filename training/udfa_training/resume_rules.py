"""What a resumed run must repeat: the same rules for `fit`, `pretrain` and `ablate`.

* Free to change: where a run computes, how its work is divided in time (`FREE`), and where its files lie.
* All other settings decide the outcome. They are saved with the state, and a resumed run must have the same ones.
* A setting that the saved state does not record is not compared: the version that wrote it did not have it.
* A recorded setting that is not there any more counts as changed.
* A comparison with one budget, as in `ablate`, also fixes the number of steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from udfa.config import to_dict
from udfa.errors import InvalidInputError

WHERE = ("accelerator", "devices", "num_nodes", "precision", "workers")
"""Where a run computes."""

HOW_LONG_AND_OFTEN = ("steps", "log_every", "save_every", "validate_every", "quick_cases")
"""How many steps it has, and after how many it logs, saves and validates."""

FREE = frozenset({*WHERE, *HOW_LONG_AND_OFTEN})


def fixed_settings(config: Any, free: Collection[str] = FREE) -> dict[str, Any]:
    """Return the settings of a dataclass that a resumed run must repeat, as plain types.

    Args:
        config: The settings.
        free: Names of its fields that may change.
    """
    return {name: value for name, value in to_dict(config).items() if name not in free}


def check_settings(saved: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Compare the settings of a saved run with those of the run that is to go on with it.

    Args:
        saved: Recorded in the state.
        wanted: Settings now.
        path: The state, for the message.

    Raises:
        InvalidInputError: They differ; all differences are listed.
    """
    changed = _differences(saved, wanted)
    if changed:
        raise InvalidInputError(
            f"{path} holds a run with other settings ({'; '.join(changed)}). Resume with the same settings, or start "
            f"anew with another output folder."
        )


def _differences(saved: Any, wanted: Any, name: str = "") -> list[str]:
    """Return "name was x, now y" for each single value that differs, also inside mappings and lists."""
    if isinstance(saved, Mapping) and isinstance(wanted, Mapping):
        inside = f"{name}." if name else ""
        return [line for key in saved for line in _differences(saved[key], wanted.get(key), f"{inside}{key}")]
    if _are_lists_of_mappings(saved, wanted):
        pairs = enumerate(zip(saved, wanted))
        return [line for number, pair in pairs for line in _differences(*pair, f"{name}.{number}")]
    return [] if saved == wanted else [f"{name} was {saved}, now {wanted}"]


def _are_lists_of_mappings(first: Any, second: Any) -> bool:
    if not (isinstance(first, list) and isinstance(second, list) and len(first) == len(second)):
        return False
    return all(isinstance(item, Mapping) for item in (*first, *second))
