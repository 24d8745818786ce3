"""The Export menu: one entry per format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from UDFASegmentationLib.Export import (
    FORMATS,
    ExportFormat,
    exportSegmentation,
    fileStem,
    referenceVolume,
    slicerContext,
)
from UDFASegmentationLib.ExportFiles import ExportError


class ExportSection:
    """Asks where to, exports the result, and says what was written.

    Args:
        ui: The panel's widgets.
        getSegmentation: Returns the segmentation to export, None if there is none.
        getSettings: Returns the settings of the run, for the record beside the files.
        showStatus: Shows a sentence to the user.
    """

    def __init__(
        self,
        ui: Any,
        getSegmentation: Callable[[], Optional[Any]],
        getSettings: Callable[[], Mapping[str, Any]],
        showStatus: Callable[[str], None],
    ) -> None:
        self._getSegmentation = getSegmentation
        self._getSettings = getSettings
        self._showStatus = showStatus
        menu = qt.QMenu(ui.exportButton)
        menu.toolTipsVisible = True
        for entry in FORMATS.values():
            action = qt.QAction(_(entry.title), menu)
            action.toolTip = _(entry.hint)
            action.connect("triggered()", lambda chosen=entry: self.export(chosen))
            menu.addAction(action)
        ui.exportButton.setMenu(menu)

    def export(self, chosen: ExportFormat) -> None:
        """Export in a format that the user chose."""
        node = self._getSegmentation()
        if node is None:
            return
        target = _askTarget(node, chosen)
        if target is None:
            return
        context = replace(slicerContext(referenceVolume(node)), settings=dict(self._getSettings()))
        try:
            result = exportSegmentation(node, target, chosen.key, context)
        except (ExportError, OSError) as error:
            slicer.util.errorDisplay(str(error), windowTitle=_("Export"))
            return
        names = ", ".join(path.name for path in result.files)
        saved = _("Saved in {folder}: {names}").format(folder=result.files[0].parent, names=names)
        self._showStatus("\n".join([saved, *result.notes]))


def _askTarget(node: Any, chosen: ExportFormat) -> Optional[Path]:
    """Return the file or folder to export to, None if the user changed their mind."""
    window, title = slicer.util.mainWindow(), _(chosen.title)
    if not chosen.suffix:
        name = qt.QFileDialog.getExistingDirectory(window, title, "")
        return Path(name) if name else None
    proposed = f"{fileStem(node)}{chosen.suffix}"
    name = qt.QFileDialog.getSaveFileName(window, title, proposed, f"*{chosen.suffix}")
    if not name or name.lower().endswith(chosen.suffix):
        return Path(name) if name else None
    # The dialog has asked about a file of the name as it was typed, not about the one that will be written.
    path = Path(name + chosen.suffix)
    question = _("{name} exists already. Replace it?").format(name=path.name)
    wanted = not path.exists() or slicer.util.confirmOkCancelDisplay(question, windowTitle=title)
    return path if wanted else None
