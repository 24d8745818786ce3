""" "Check environment": the report on this computer, shown in a window from which it can be copied."""

from __future__ import annotations

from typing import Any, Optional

import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from UDFASegmentationLib.Chores import Chores
from UDFASegmentationLib.EnvironmentReport import environmentReport, slicerFacts
from UDFASegmentationLib.SlicerInstallers import PyTorchExtension


class EnvironmentSection:
    """Makes the report in the background and shows it.

    Args:
        ui: The panel's widgets.
        chores: Makes the report.
    """

    def __init__(self, ui: Any, chores: Chores) -> None:
        self._ui = ui
        self._chores = chores
        self.dialog: Optional[Any] = None
        self.text: Optional[Any] = None
        ui.environmentButton.connect("clicked()", self.check)

    def check(self) -> None:
        """Make the report; importing torch for it may take some seconds."""
        facts = slicerFacts(slicer.app, PyTorchExtension())
        self._ui.environmentButton.enabled = False
        self._ui.environmentButton.text = _("Checking...")
        self._chores.request("environment", lambda: environmentReport(facts), self.show, self._enableButton)

    def show(self, report: str) -> None:
        """Show a report."""
        self.close()
        self.dialog = qt.QDialog(slicer.util.mainWindow())
        self.dialog.setWindowTitle(_("UDFA Segmentation - Environment"))
        self.dialog.resize(640, 480)
        layout = qt.QVBoxLayout(self.dialog)
        self.text = qt.QPlainTextEdit(self.dialog)
        self.text.setPlainText(report)
        self.text.setReadOnly(True)
        self.text.setToolTip(_("What was found on this computer. It holds no patient data."))
        layout.addWidget(self.text)
        copyButton = qt.QPushButton(_("Copy"), self.dialog)
        copyButton.setToolTip(_("Copy the report to the clipboard, to ask for help with it."))
        copyButton.connect("clicked()", self.copy)
        layout.addWidget(copyButton)
        self.dialog.show()

    def copy(self) -> None:
        """Put the report on the clipboard."""
        if self.text is not None:
            slicer.app.clipboard().setText(self.text.plainText)

    def close(self) -> None:
        """Close the window, if it is open."""
        if self.dialog is not None:
            self.dialog.hide()
            self.dialog.deleteLater()
            self.dialog = self.text = None

    def _enableButton(self) -> None:
        self._ui.environmentButton.enabled = True
        self._ui.environmentButton.text = _("Check environment...")
