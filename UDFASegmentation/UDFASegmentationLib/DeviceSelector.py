"""The device drop-down: filled with what torch finds, once torch can be imported, and never on the main thread."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

AUTOMATIC = "auto"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceChoice:
    """A device that can be chosen."""

    name: str
    """auto, cpu, cuda:N or mps, as `udfa.devices.make_plan` takes it."""
    title: str
    """What people read, with the free memory where it is known."""


def torchIsThere() -> bool:
    """Whether torch could be imported; looks for it without importing it."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def findDevices() -> list[DeviceChoice]:
    """Return the devices that torch can use, graphics cards first. Imports torch: call it on the executor thread."""
    import torch

    choices = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            try:
                free, total = torch.cuda.mem_get_info(index)
            except RuntimeError as error:
                # A card that this torch has no kernels for, or that another program has locked.
                _logger.warning("Graphics card %d does not answer and is not offered: %s", index, error)
                continue
            memory = _("{free:.1f} of {total:.0f} GB free").format(free=free / 2**30, total=total / 2**30)
            choices.append(DeviceChoice(f"cuda:{index}", f"{torch.cuda.get_device_name(index)} ({memory})"))
    if torch.backends.mps.is_available():
        choices.append(DeviceChoice("mps", _("Apple graphics (MPS)")))
    return [*choices, DeviceChoice("cpu", _("Processor (CPU)"))]


class DeviceSelector:
    """Shows the devices. A device that a scene names but this computer lacks stays visible and falls back to automatic.

    Args:
        ui: The panel's widgets.
        onChosen: Called when the user chooses a device.
    """

    def __init__(self, ui: Any, onChosen: Callable[[], None]) -> None:
        self._ui = ui
        self._onChosen = onChosen
        self._updating = False
        self._choices: list[DeviceChoice] = []
        self.detected = False
        self._fill([DeviceChoice("cpu", _("Processor (CPU)"))], AUTOMATIC)
        ui.deviceSelector.connect("currentIndexChanged(int)", self._onIndexChanged)

    @property
    def current(self) -> str:
        """Name of the chosen device."""
        index = self._ui.deviceSelector.currentIndex
        return self._choices[index].name if 0 <= index < len(self._choices) else AUTOMATIC

    def choose(self, name: str) -> None:
        """Show a device; before the devices are known, one that is not listed is added as it is called."""
        name = _normal(name)
        if name == self.current:
            return
        known = [choice.name for choice in self._choices]
        if name not in known and not self.detected:
            self._fill([*self._choices[1:], DeviceChoice(name, name)], name)
            return
        self._select(name)

    def showDetected(self, found: list[DeviceChoice]) -> None:
        """Offer the devices that `findDevices` returned; the choice is kept if it is among them."""
        wanted = self.current
        self.detected = True
        self._fill(found, wanted)

    def _fill(self, devices: list[DeviceChoice], wanted: str) -> None:
        self._choices = [DeviceChoice(AUTOMATIC, _("Automatic")), *devices]
        self._updating = True
        try:
            self._ui.deviceSelector.clear()
            for choice in self._choices:
                self._ui.deviceSelector.addItem(choice.title)
        finally:
            self._updating = False
        self._select(wanted)

    def _select(self, name: str) -> None:
        names = [choice.name for choice in self._choices]
        self._updating = True
        try:
            self._ui.deviceSelector.setCurrentIndex(names.index(name) if name in names else 0)
        finally:
            self._updating = False

    def _onIndexChanged(self) -> None:
        if not self._updating:
            self._onChosen()


def _normal(name: str) -> str:
    """Devices are listed with their number; 'cuda' means the first one, and '' the automatic choice."""
    return {"cuda": "cuda:0", "": AUTOMATIC}.get(name, name)
