"""The module's settings: typed reading and writing over Slicer's QSettings, or any store of keys and values.

A stored value that cannot be used (edited by hand, from another version) is reported once in the log and replaced by
its default: settings must never keep the module from working.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from udfa.errors import InvalidInputError

GROUP = "UDFASegmentation"
"""All keys start with this, as in an ini file's group."""

PRECISIONS = ("auto", "float32", "float16", "bfloat16")
DEVICE_KINDS = ("auto", "cpu", "cuda", "mps")
CACHE_RANGE_MB = (64, 65536)
UNDO_RANGE = (1, 500)
SPEED_RANGE = (1e-6, 1e5)
"""Plausible seconds per slice; others are not remembered."""

_logger = logging.getLogger(__name__)


class KeyValueStore(Protocol):
    """The part of QSettings that is used here."""

    def contains(self, key: str) -> bool:
        """Whether the key has a value."""

    def value(self, key: str) -> Any:
        """Return the value of a key; QSettings may turn any type into text."""

    def setValue(self, key: str, value: Any) -> None:
        """Store a value."""

    def remove(self, key: str) -> None:
        """Forget a key."""


@dataclass(frozen=True)
class Preferences:
    """What the user chose once and for all."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: str = "auto"
    """auto, float32, float16 or bfloat16."""
    cacheMegabytes: int = 1024
    """Memory for image features that make clicks fast, in MB."""
    undoDepth: int = 50
    """Corrections that can be undone."""
    extraCheckpoints: tuple[str, ...] = ()
    """Paths of checkpoint files that the user added, in the order of adding."""


def parseDevice(value: Any) -> str:
    """Return a device name, or raise ValueError."""
    text = str(value).strip().lower()
    kind, separator, index = text.partition(":")
    if kind not in DEVICE_KINDS or (separator and not (kind == "cuda" and index.isdigit())):
        raise ValueError(f"'{value}' is not a device: {', '.join(DEVICE_KINDS)} or cuda:N")
    return text


def parsePrecision(value: Any) -> str:
    """Return a precision, or raise ValueError."""
    text = str(value).strip().lower()
    if text not in PRECISIONS:
        raise ValueError(f"'{value}' is not a precision: {', '.join(PRECISIONS)}")
    return text


def parseWholeNumber(value: Any, low: int, high: int) -> int:
    """Return a whole number within low..high, or raise ValueError."""
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number) or number != int(number) or not low <= number <= high:
        raise ValueError(f"'{value}' is not a whole number from {low} to {high}")
    return int(number)


def parsePaths(value: Any) -> tuple[str, ...]:
    """Return paths without repetition: QSettings gives None for no entry, text for one, a list for several."""
    if value is None:
        return ()
    entries = [value] if isinstance(value, str) else list(value)
    if not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{value!r} is not a list of paths")
    return tuple(dict.fromkeys(entry for entry in entries if entry.strip()))


@dataclass(frozen=True)
class _Field:
    key: str
    parse: Callable[[Any], Any]


FIELDS: dict[str, _Field] = {
    "device": _Field(f"{GROUP}/Device", parseDevice),
    "precision": _Field(f"{GROUP}/Precision", parsePrecision),
    "cacheMegabytes": _Field(f"{GROUP}/CacheMegabytes", lambda value: parseWholeNumber(value, *CACHE_RANGE_MB)),
    "undoDepth": _Field(f"{GROUP}/UndoDepth", lambda value: parseWholeNumber(value, *UNDO_RANGE)),
    "extraCheckpoints": _Field(f"{GROUP}/ExtraCheckpoints", parsePaths),
}
"""Key and parser of every field of Preferences."""

_SPEED_KEY = f"{GROUP}/SecondsPerSlice"


class Settings:
    """Reads and writes the module's settings.

    Args:
        store: Where values live; in Slicer a QSettings, which `applicationSettings` makes.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self._reported: set[str] = set()

    def read(self) -> Preferences:
        """Return the preferences; unusable values give their default and a line in the log."""
        default = Preferences()
        return Preferences(**{name: self._readField(name, getattr(default, name)) for name in FIELDS})

    def _readField(self, name: str, default: Any) -> Any:
        field = FIELDS[name]
        if not self.store.contains(field.key):
            return default
        try:
            return field.parse(self.store.value(field.key))
        except (ValueError, TypeError, OverflowError) as error:
            if field.key not in self._reported:
                self._reported.add(field.key)
                _logger.warning("Setting %s is not usable (%s); %r is used instead.", field.key, error, default)
            return default

    def write(self, **changes: Any) -> Preferences:
        """Store some fields of Preferences and return them all.

        Raises:
            InvalidInputError: A field is unknown or its value not valid; then nothing is stored.
        """
        parsed: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in FIELDS:
                raise InvalidInputError(f"There is no setting '{name}'. Known: {', '.join(FIELDS)}.")
            try:
                parsed[name] = FIELDS[name].parse(value)
            except (ValueError, TypeError, OverflowError) as error:
                raise InvalidInputError(f"Setting '{name}' cannot be stored: {error}.") from error
        for name, value in parsed.items():
            self.store.setValue(FIELDS[name].key, list(value) if isinstance(value, tuple) else value)
        return self.read()

    def addCheckpoint(self, path: str) -> Preferences:
        """Remember a checkpoint file of the user."""
        return self.write(extraCheckpoints=(*self.read().extraCheckpoints, path))

    def removeCheckpoint(self, path: str) -> Preferences:
        """Forget a checkpoint file of the user; the file stays."""
        return self.write(extraCheckpoints=[known for known in self.read().extraCheckpoints if known != path])

    def secondsPerSlice(self, modelHash: str, device: str) -> float | None:
        """Return the speed measured for a checkpoint on a device, None if there was no run yet.

        Args:
            modelHash: content_sha256 of the checkpoint.
            device: Device and precision of the run, such as "cpu, float32".

        Returns:
            Seconds for one slice of 256 x 256 pixels, as `RunEstimate.measuredSecondsPerSlice` gives it.
        """
        value = self._speeds().get(_speedName(modelHash, device))
        return value if isinstance(value, float) and SPEED_RANGE[0] <= value <= SPEED_RANGE[1] else None

    def rememberSecondsPerSlice(self, modelHash: str, device: str, seconds: float) -> None:
        """Remember the speed of a run; runs average with the speed known before, so that one slow run fades."""
        if not (math.isfinite(seconds) and SPEED_RANGE[0] <= seconds <= SPEED_RANGE[1]):
            return
        known = self.secondsPerSlice(modelHash, device)
        speeds = self._speeds()
        speeds[_speedName(modelHash, device)] = float(seconds if known is None else (seconds + known) / 2)
        self.store.setValue(_SPEED_KEY, json.dumps(speeds, sort_keys=True))

    def _speeds(self) -> dict[str, Any]:
        """The stored table, empty if there is none or it is damaged."""
        try:
            table = json.loads(str(self.store.value(_SPEED_KEY) or "{}"))
        except ValueError:
            return {}
        return table if isinstance(table, dict) else {}


def _speedName(modelHash: str, device: str) -> str:
    return f"{modelHash[:16]} {device}"


def applicationSettings() -> Settings:
    """Return the settings of the running Slicer."""
    import qt

    return Settings(qt.QSettings())
