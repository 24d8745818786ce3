"""The model drop-down, what the chosen model says about itself, and the list of structures to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

import qt
import slicer
from slicer.i18n import tr as _

from udfa.checkpoint import CheckpointInfo, read_info
from udfa.errors import UDFAError
from udfa.models import DEFAULT_MODEL, ModelEntry, list_models
from UDFASegmentationLib.Settings import Settings

FILE_FILTER = "UDFA checkpoint (*.safetensors)"


class ModelSelector:
    """Offers the bundled checkpoints and those that the user added. Reads their metadata only: no torch.

    Args:
        ui: The panel's widgets.
        settings: Remembers the added files.
        onModelChosen: Called when the user chooses another model.
        onLabelsChanged: Called when the user ticks or unticks a structure.
    """

    def __init__(
        self, ui: Any, settings: Settings, onModelChosen: Callable[[], None], onLabelsChanged: Callable[[], None]
    ) -> None:
        self._ui = ui
        self._settings = settings
        self._onModelChosen = onModelChosen
        self._onLabelsChanged = onLabelsChanged
        self._entries: list[ModelEntry] = []
        self._updating = False
        ui.modelSelector.connect("currentIndexChanged(int)", self._onIndexChanged)
        ui.addModelButton.connect("clicked()", self.addFile)
        ui.removeModelButton.connect("clicked()", self.removeCurrent)
        ui.labelList.connect("itemChanged(QListWidgetItem*)", self._onItemChanged)
        ui.allLabelsButton.connect("clicked()", lambda: self._tickAll(True))
        ui.noLabelsButton.connect("clicked()", lambda: self._tickAll(False))
        self.refresh()

    @property
    def current(self) -> Optional[ModelEntry]:
        """The chosen model; None when there is none at all."""
        index = self._ui.modelSelector.currentIndex
        return self._entries[index] if 0 <= index < len(self._entries) else None

    @property
    def currentKey(self) -> str:
        """What the parameter node keeps: the name of a bundled model, the path of an added one, or ''."""
        return modelKey(self.current) if self.current is not None else ""

    def refresh(self, key: str = "") -> None:
        """Look for models again and choose one by its key; an unknown key chooses the default model."""
        self._entries = list_models() + [_addedEntry(path) for path in self._settings.read().extraCheckpoints]
        self._updating = True
        try:
            selector = self._ui.modelSelector
            selector.clear()
            for entry in self._entries:
                selector.addItem(modelTitle(entry))
            selector.enabled = bool(self._entries)
            selector.setCurrentIndex(self._indexOf(key))
        finally:
            self._updating = False
        self._showCurrent(())

    def choose(self, key: str, omittedLabels: Sequence[str]) -> None:
        """Show a model and its ticked structures, as the parameter node has them."""
        index = self._indexOf(key)
        if index != self._ui.modelSelector.currentIndex:
            self._updating = True
            try:
                self._ui.modelSelector.setCurrentIndex(index)
            finally:
                self._updating = False
            self._showCurrent(omittedLabels)
        elif list(omittedLabels) != self.omittedLabels():
            self._showCurrent(omittedLabels)

    def keptLabels(self) -> list[str]:
        """Names of the ticked structures, in the model's order."""
        return [name for name, kept in self._ticks() if kept]

    def omittedLabels(self) -> list[str]:
        """Names of the structures that are not ticked, in the model's order."""
        return [name for name, kept in self._ticks() if not kept]

    def addFile(self) -> None:
        """Let the user choose a checkpoint file, show what it says about itself, and add it after a confirmation."""
        name = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Add checkpoint file"), "", FILE_FILTER)
        if not name:
            return
        path = str(Path(name).resolve())
        try:
            info = read_info(Path(path))
        except (UDFAError, OSError) as error:
            slicer.util.errorDisplay(str(error), windowTitle=_("Add checkpoint file"))
            return
        question = f"{describeModel(info, long=True)}\n\n{_('Add this model to the list?')}"
        if slicer.util.confirmOkCancelDisplay(question, windowTitle=_("Add checkpoint file")):
            self._settings.addCheckpoint(path)
            self.refresh(path)
            self._onModelChosen()

    def removeCurrent(self) -> None:
        """Take an added checkpoint off the list; bundled ones stay."""
        entry = self.current
        if entry is None or not self._isAdded(entry):
            return
        self._settings.removeCheckpoint(str(entry.path))
        self.refresh()
        self._onModelChosen()

    def _isAdded(self, entry: ModelEntry) -> bool:
        """Whether the user added the model here; others come with the module or from UDFA_MODELS."""
        return str(entry.path) in self._settings.read().extraCheckpoints

    def _indexOf(self, key: str) -> int:
        for wanted in (key, DEFAULT_MODEL):
            for index, entry in enumerate(self._entries):
                if wanted and modelKey(entry) == wanted:
                    return index
        return next((i for i, entry in enumerate(self._entries) if entry.info is not None), 0 if self._entries else -1)

    def _onIndexChanged(self) -> None:
        if not self._updating:
            self._showCurrent(())
            self._onModelChosen()

    def _onItemChanged(self) -> None:
        if not self._updating:
            self._onLabelsChanged()

    def _showCurrent(self, omittedLabels: Sequence[str]) -> None:
        entry = self.current
        self._ui.removeModelButton.enabled = entry is not None and self._isAdded(entry)
        self._ui.modelInfoLabel.text = _describeEntry(entry)
        info = entry.info if entry is not None else None
        self._ui.modelInfoLabel.toolTip = _describeEntry(entry) if info is None else describeModel(info, long=True)
        self._updating = True
        try:
            self._fillLabels(info, omittedLabels)
        finally:
            self._updating = False

    def _fillLabels(self, info: Optional[CheckpointInfo], omittedLabels: Sequence[str]) -> None:
        labelList = self._ui.labelList
        labelList.clear()
        for label in info.labels if info is not None else ():
            # An item that Python makes would vanish with Python's reference to it, in some versions of PythonQt.
            labelList.addItem(label.title)
            item = labelList.item(labelList.count - 1)
            item.setData(qt.Qt.UserRole, label.name)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Unchecked if label.name in omittedLabels else qt.Qt.Checked)
            item.setToolTip(_("Tick to make a segment of: {title}").format(title=label.title))
        for widget in (labelList, self._ui.allLabelsButton, self._ui.noLabelsButton):
            widget.enabled = info is not None

    def _ticks(self) -> list[tuple[str, bool]]:
        items = [self._ui.labelList.item(i) for i in range(self._ui.labelList.count)]
        return [(str(item.data(qt.Qt.UserRole)), item.checkState() == qt.Qt.Checked) for item in items]

    def _tickAll(self, tick: bool) -> None:
        self._updating = True
        try:
            for i in range(self._ui.labelList.count):
                self._ui.labelList.item(i).setCheckState(qt.Qt.Checked if tick else qt.Qt.Unchecked)
        finally:
            self._updating = False
        self._onLabelsChanged()


def modelKey(entry: ModelEntry) -> str:
    """Return what names a model in a scene: its name if it is bundled, else its path."""
    return entry.name if entry.bundled else str(entry.path)


def modelTitle(entry: ModelEntry) -> str:
    """Return the line of the drop-down: the task and the file's name."""
    if entry.info is None:
        return _("{name} (cannot be used)").format(name=entry.name)
    return f"{entry.info.config.task} - {entry.name}"


def describeModel(info: CheckpointInfo, long: bool = False) -> str:
    """Return what a checkpoint says about itself: in a line for the panel, in full with `long`."""
    size = f"{info.size_bytes / 1e6:.0f} MB"
    count = _("{count} structures").format(count=len(info.labels))
    if not long:
        return "\n".join(part for part in (f"{count}, {size}, {info.licence}", info.intended_use) if part)
    rows = [
        (_("File"), str(info.path)),
        (_("Task"), info.config.task),
        (_("Structures"), ", ".join(label.title for label in info.labels)),
        (_("Size"), size),
        (_("SHA-256 of its content"), info.content_sha256),
        (_("Licence"), info.licence),
        (_("Intended use"), info.intended_use),
    ]
    return "\n".join(f"{title}: {text}" for title, text in rows if text)


def _describeEntry(entry: Optional[ModelEntry]) -> str:
    if entry is None:
        return _("There is no model. Add a checkpoint file (.safetensors).")
    return entry.error if entry.info is None else describeModel(entry.info)


def _addedEntry(path: str) -> ModelEntry:
    """Return the entry of a file that the user added; one that cannot be read says why."""
    file = Path(path)
    try:
        return ModelEntry(file.stem, file, False, read_info(file))
    except (UDFAError, OSError) as error:
        return ModelEntry(file.stem, file, False, None, str(error))
