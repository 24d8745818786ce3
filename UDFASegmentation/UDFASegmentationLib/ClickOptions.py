"""The options of the effect UDFA Click: how far a correction is carried, locks, doubtful slices, what a click did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from UDFASegmentationLib.ClickLocks import lockedSegments, segmentIDs, setLocked

CARRY_SLICES = "CarrySlices"
"""Effect parameter."""

MOST_CARRY_SLICES = 20
LOCK_LIST_HEIGHT = 110
"""Pixels: about five segments; the list scrolls."""


class ClickOptions:
    """The widgets in the effect's options frame.

    Args:
        scriptedEffect: The effect's host.
        onEdited: Called when the user changed something.
        onNextDoubtful: Called when the user wants to see the next doubtful slice.
    """

    def __init__(self, scriptedEffect: Any, onEdited: Callable[[], None], onNextDoubtful: Callable[[], None]) -> None:
        self._scriptedEffect = scriptedEffect
        self._onEdited = onEdited
        self._updating = False
        self._shown: list[tuple[str, str, bool]] = []
        self.carrySlices = qt.QSpinBox()
        self.carrySlices.setRange(0, MOST_CARRY_SLICES)
        self.carrySlices.setToolTip(
            _("How many slices up and down a correction may be carried where the image agrees; 0: this slice only.")
        )
        self.locks = qt.QListWidget()
        self.locks.setMaximumHeight(LOCK_LIST_HEIGHT)
        self.locks.setToolTip(_("Tick the segments that are finished: clicks neither add to them nor take from them."))
        self.lockOthers = qt.QPushButton(_("Lock all others"))
        self.lockOthers.setToolTip(_("Only the selected segment can then be changed by clicks."))
        self.unlockAll = qt.QPushButton(_("Unlock all"))
        self.nextDoubtful = qt.QPushButton(_("Next doubtful slice"))
        self.nextDoubtful.setToolTip(
            _("Go to the slice on which the network was least sure, then to the next one. Needs the uncertainty map of "
              "the volume; where there is none, it is computed first.")
        )  # fmt: skip
        self.doubt, self.status = qt.QLabel(), qt.QLabel()
        scriptedEffect.addLabeledOptionsWidget(_("Carry to slices:"), self.carrySlices)
        scriptedEffect.addLabeledOptionsWidget(_("Locked:"), self.locks)
        for label in (self.doubt, self.status):
            label.setWordWrap(True)
        for widget in (self.lockOthers, self.unlockAll, self.nextDoubtful, self.doubt, self.status):
            scriptedEffect.addOptionsWidget(widget)
        self._connections: tuple[tuple[Any, str, Callable[..., None]], ...] = (
            (self.carrySlices, "valueChanged(int)", self._edited),
            (self.locks, "itemChanged(QListWidgetItem*)", self._onTicked),
            (self.lockOthers, "clicked()", self._lockOthers),
            (self.unlockAll, "clicked()", self._unlockAll),
            (self.nextDoubtful, "clicked()", onNextDoubtful),
        )
        for widget, signal, slot in self._connections:
            widget.connect(signal, slot)

    def cleanup(self) -> None:
        """Let go of the widgets; the object cannot be used any more."""
        for widget, signal, slot in self._connections:
            widget.disconnect(signal, slot)
        self._connections = ()

    def update(self, status: str, doubt: str, available: bool) -> None:
        """Show the parameters, the locks, and a line each of what happened.

        Args:
            status: About clicks.
            doubt: About doubtful slices.
            available: Whether clicks are possible.
        """
        editor = self._scriptedEffect.parameterSetNode()
        node = self._segmentationNode()
        self._updating = True
        try:
            if editor is not None:
                self.carrySlices.setValue(self._scriptedEffect.integerParameter(CARRY_SLICES))
            self._showLocks(node)
        finally:
            self._updating = False
        for widget in (self.locks, self.lockOthers, self.unlockAll):
            widget.setEnabled(node is not None)
        self.nextDoubtful.setEnabled(editor is not None and editor.GetSourceVolumeNode() is not None)
        self.carrySlices.setEnabled(available)
        self.status.setText(status)
        self.doubt.setText(doubt)
        self.doubt.setVisible(bool(doubt))

    def store(self) -> None:
        """Write the parameters into the editor's node."""
        self._scriptedEffect.setParameter(CARRY_SLICES, self.carrySlices.value)

    def _showLocks(self, node: Any) -> None:
        """A line per segment; the list is made afresh only when it changes, so that it does not jump."""
        rows: list[tuple[str, str, bool]] = []
        if node is not None:
            locked, segmentation = lockedSegments(node), node.GetSegmentation()
            rows = [(one, segmentation.GetSegment(one).GetName(), one in locked) for one in segmentIDs(segmentation)]
        if rows == self._shown:
            return
        self._shown = rows
        self.locks.clear()
        for segmentID, name, on in rows:
            # An item that Python makes would vanish with Python's reference to it, in some versions of PythonQt.
            self.locks.addItem(name)
            item = self.locks.item(self.locks.count - 1)
            item.setData(qt.Qt.UserRole, segmentID)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)

    def _edited(self) -> None:
        if not self._updating:
            self._onEdited()

    def _segmentationNode(self) -> Any:
        editor = self._scriptedEffect.parameterSetNode()
        return None if editor is None else editor.GetSegmentationNode()

    def _onTicked(self, item: Any) -> None:
        node = self._segmentationNode()
        if node is None or self._updating:
            return
        segmentID, on = str(item.data(qt.Qt.UserRole)), item.checkState() == qt.Qt.Checked
        # The list shows this already.
        self._shown = [(one, name, on if one == segmentID else was) for one, name, was in self._shown]
        setLocked(node, [segmentID], on)
        self._onEdited()

    def _lockOthers(self) -> None:
        node = self._segmentationNode()
        if node is not None:
            selected = self._scriptedEffect.parameterSetNode().GetSelectedSegmentID() or ""
            setLocked(node, [one for one in segmentIDs(node.GetSegmentation()) if one != selected], True)
            setLocked(node, [selected], False)
            self._onEdited()

    def _unlockAll(self) -> None:
        node = self._segmentationNode()
        if node is not None:
            setLocked(node, segmentIDs(node.GetSegmentation()), False)
            self._onEdited()
