"""The options of the effect UDFA Click: how far a correction is carried, locks, and what the last click did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from UDFASegmentationLib.ClickLabels import isLocked, setLocked

CARRY_SLICES = "CarrySlices"
"""Effect parameter."""

DEFAULT_CARRY_SLICES = 4
MOST_CARRY_SLICES = 20


class ClickOptions:
    """The widgets in the effect's options frame.

    Args:
        scriptedEffect: The effect's host.
        onEdited: Called when the user changed something.
    """

    def __init__(self, scriptedEffect: Any, onEdited: Callable[[], None]) -> None:
        self._scriptedEffect = scriptedEffect
        self._onEdited = onEdited
        self._updating = False
        self.carrySlices = qt.QSpinBox()
        self.carrySlices.setRange(0, MOST_CARRY_SLICES)
        self.carrySlices.setToolTip(
            _("How many slices up and down a correction may be carried where the image agrees; 0: this slice only.")
        )
        self.locked = qt.QCheckBox(_("Lock this segment"))
        self.locked.setToolTip(_("Clicks neither add to a locked segment nor take from it."))
        self.lockOthers = qt.QPushButton(_("Lock all others"))
        self.unlockAll = qt.QPushButton(_("Unlock all"))
        self.status = qt.QLabel()
        self.status.setWordWrap(True)
        scriptedEffect.addLabeledOptionsWidget(_("Carry to slices:"), self.carrySlices)
        for widget in (self.locked, self.lockOthers, self.unlockAll, self.status):
            scriptedEffect.addOptionsWidget(widget)
        self.carrySlices.connect("valueChanged(int)", self._edited)
        self.locked.connect("toggled(bool)", self._lock)
        self.lockOthers.connect("clicked()", self._lockOthers)
        self.unlockAll.connect("clicked()", self._unlockAll)

    def update(self, status: str, available: bool) -> None:
        """Show the parameters, the lock of the selected segment, and a line of text."""
        editor = self._scriptedEffect.parameterSetNode()
        segmentation, selectedID = self._selected()
        self._updating = True
        try:
            if editor is not None:
                self.carrySlices.setValue(self._scriptedEffect.integerParameter(CARRY_SLICES))
            self.locked.setChecked(segmentation is not None and isLocked(segmentation, selectedID))
        finally:
            self._updating = False
        self.locked.setEnabled(segmentation is not None)
        self.carrySlices.setEnabled(available)
        self.status.setText(status)

    def store(self) -> None:
        """Write the parameters into the editor's node."""
        self._scriptedEffect.setParameter(CARRY_SLICES, self.carrySlices.value)

    def _edited(self) -> None:
        if not self._updating:
            self._onEdited()

    def _selected(self) -> tuple[Any, str]:
        """The segmentation and the ID of the selected segment; None where there is none."""
        editor = self._scriptedEffect.parameterSetNode()
        node = None if editor is None else editor.GetSegmentationNode()
        selectedID = "" if editor is None else editor.GetSelectedSegmentID() or ""
        segmentation = None if node is None else node.GetSegmentation()
        if segmentation is None or segmentation.GetSegment(selectedID) is None:
            return None, ""
        return segmentation, selectedID

    def _lock(self, on: bool) -> None:
        segmentation, selectedID = self._selected()
        if segmentation is not None and not self._updating:
            setLocked(segmentation, [selectedID], on)
            self._onEdited()

    def _lockOthers(self) -> None:
        segmentation, selectedID = self._selected()
        if segmentation is not None:
            setLocked(segmentation, [one for one in _allIDs(segmentation) if one != selectedID], True)
            setLocked(segmentation, [selectedID], False)
            self._onEdited()

    def _unlockAll(self) -> None:
        segmentation, _selectedID = self._selected()
        if segmentation is not None:
            setLocked(segmentation, _allIDs(segmentation), False)
            self._onEdited()


def _allIDs(segmentation: Any) -> list[str]:
    return [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
