"""The module's page in Slicer's Application Settings. Import it only where there is a main window.

Each widget is tied to a key of `Settings`: CTK stores what the user changes, and restores it on Cancel or Restore
Defaults, so the values that the widgets start with are the defaults.
"""

from __future__ import annotations

from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from UDFASegmentationLib.Settings import CACHE_RANGE_MB, FIELDS, UNDO_RANGE, Preferences

TITLE = "UDFA Segmentation"


class UDFASettingsPanel(ctk.ctkSettingsPanel):
    """Device, precision, cache, undo depth."""

    def __init__(self, *arguments: Any) -> None:
        ctk.ctkSettingsPanel.__init__(self, *arguments)
        form = qt.QFormLayout(self)
        default = Preferences()
        self.deviceComboBox = self._choice(
            (
                (_("Automatic"), "auto"),
                (_("CPU"), "cpu"),
                (_("NVIDIA graphics card (CUDA)"), "cuda"),
                (_("Apple graphics (MPS)"), "mps"),
            ),
            default.device,
            _("Where new panels start to compute. The module's panel can choose another device for a run."),
        )
        self.precisionComboBox = self._choice(
            (
                (_("Automatic"), "auto"),
                (_("Single (float32)"), "float32"),
                (_("Half (float16)"), "float16"),
                (_("Half (bfloat16)"), "bfloat16"),
            ),
            default.precision,
            _("Half precision needs less memory and is faster on graphics cards; results differ by a few voxels."),
        )
        self.cacheSpinBox = self._number(
            CACHE_RANGE_MB,
            default.cacheMegabytes,
            64,
            _("Memory for image features that are kept, so that further clicks on a slice are answered at once."),
        )
        self.cacheSpinBox.suffix = _(" MB")
        self.undoSpinBox = self._number(
            UNDO_RANGE,
            default.undoDepth,
            1,
            _("How many corrections can be taken back; fewer where all steps together would take more than 1 GB."),
        )
        form.addRow(_("Device:"), self.deviceComboBox)
        form.addRow(_("Precision:"), self.precisionComboBox)
        form.addRow(_("Feature cache:"), self.cacheSpinBox)
        form.addRow(_("Undo steps:"), self.undoSpinBox)
        self._tie("device", self.deviceComboBox, "currentUserDataAsString", "currentIndexChanged(int)")
        self._tie("precision", self.precisionComboBox, "currentUserDataAsString", "currentIndexChanged(int)")
        self._tie("cacheMegabytes", self.cacheSpinBox, "value", "valueChanged(int)")
        self._tie("undoDepth", self.undoSpinBox, "value", "valueChanged(int)")

    def _choice(self, items: tuple[tuple[str, str], ...], default: str, toolTip: str) -> Any:
        box = ctk.ctkComboBox()
        for title, value in items:
            box.addItem(title, value)
        box.currentIndex = [value for _title, value in items].index(default)
        box.toolTip = toolTip
        return box

    def _number(self, limits: tuple[int, int], default: int, step: int, toolTip: str) -> Any:
        box = qt.QSpinBox()
        box.minimum, box.maximum = limits
        box.singleStep = step
        box.value = default
        box.toolTip = toolTip
        return box

    def _tie(self, name: str, widget: Any, widgetProperty: str, signal: str) -> None:
        self.registerProperty(FIELDS[name].key, widget, widgetProperty, str(qt.SIGNAL(signal)))


def addSettingsPanel() -> UDFASettingsPanel | None:
    """Add the page to Application Settings; call it when Slicer has started up.

    Returns:
        The page, which the caller keeps as long as Slicer runs; None without a main window.
    """
    if slicer.app.commandOptions().noMainWindow:
        return None
    panel = UDFASettingsPanel()
    slicer.app.settingsDialog().addPanel(TITLE, panel)
    return panel
