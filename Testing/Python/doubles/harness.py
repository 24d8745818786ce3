"""Puts the doubles in place, opens the panel, and plays the user."""

from __future__ import annotations

import os
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets

from doubles import ctk, parameter_node, pythonqt, qmrml, scripted_module
from doubles.application import MainWindow, ModuleManagerDouble, WidgetAppDouble
from headless.boot import boot

REPOSITORY = Path(__file__).resolve().parents[3]
MODULE_FILE = REPOSITORY / "UDFASegmentation" / "UDFASegmentation.py"
MODULE_NAME = "UDFASegmentation"

_DIALOGS = ("errorDisplay", "warningDisplay", "infoDisplay", "confirmOkCancelDisplay", "confirmYesNoDisplay")


class Messages:
    """Takes the place of slicer.util's message boxes: records them, and answers questions as the test says."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []
        self.answers: list[bool] = []

    def replacement(self, name: str) -> Callable[..., Any]:
        """Return what stands for slicer.util.<name>."""

        def show(text: str, windowTitle: str | None = None, parent: Any = None, **rest: Any) -> Any:
            unknown = set(rest) - {"detailedText", "standardButtons", "icon"}
            if unknown:
                raise TypeError(f"slicer.util.{name} does not take {sorted(unknown)}.")
            self.shown.append((name, text))
            if not name.startswith("confirm"):
                return None
            if not self.answers:
                raise RuntimeError(f"A question was asked, but the test has laid down no answer: {text}")
            return self.answers.pop(0)

        return show


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Offer the doubles as modules `qt`, `ctk`, `slicer.ScriptedLoadableModule` ... and as slicer.app."""
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    pythonqt.useTemporarySettings(folder)
    headless = boot()
    modules = {
        "qt": pythonqt.makeQtModule(),
        "ctk": ctk.makeCtkModule(),
        **scripted_module.makeModules(),
        **parameter_node.makeModules(),
    }
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    for name in ("ScriptedLoadableModule", "i18n", "parameterNodeWrapper"):
        setattr(slicer, name, modules[f"slicer.{name}"])
    qmrml.install()
    app, slicer.app = slicer.app, WidgetAppDouble(folder, headless.application_logic)
    slicer.modules.udfasegmentation = types.SimpleNamespace(path=str(MODULE_FILE))
    try:
        yield
    finally:
        slicer.app = app
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        application.processEvents()


class Harness:
    """The opened module, and the user in front of it."""

    def __init__(self) -> None:
        self.messages = Messages()
        self._originals = {name: getattr(slicer.util, name) for name in (*_DIALOGS, "mainWindow")}
        for name in _DIALOGS:
            setattr(slicer.util, name, self.messages.replacement(name))
        self.mainWindow = MainWindow()
        slicer.util.mainWindow = lambda: self.mainWindow
        slicer.app._moduleManager = ModuleManagerDouble()
        slicer.app.layoutManager().createViews()
        pythonqt.FileDialogs.answers = []
        self.parent = qmrml.qMRMLWidget()
        layout = QtWidgets.QVBoxLayout(self.parent)
        layout.setContentsMargins(0, 0, 0, 0)
        self.parent.resize(400, 900)
        self.widget: Any = None
        self.errors: list[str] = []
        """Exceptions in slots, timers and observers, which Qt and VTK only print."""
        self._excepthook, sys.excepthook = sys.excepthook, self._remember

    def _remember(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        self.errors.append("".join(traceback.format_exception(kind, error, trace)))

    def open(self, **services: Any) -> Any:
        """Build the module's widget as Slicer does on the first visit. Keyword arguments replace panel services."""
        import UDFASegmentation as module
        from UDFASegmentationLib import Startup

        # What the start offers has tests of its own, and needs more of Slicer.
        Startup._told = True
        self.widget = slicer.modules.UDFASegmentationWidget = module.UDFASegmentationWidget(self.parent)
        if services:
            _replaceServices(services)
        try:
            self.widget.setup()
        finally:
            _replaceServices({})
        return self.widget

    @property
    def panel(self) -> Any:
        """The panel."""
        return self.widget.panel

    @property
    def ui(self) -> Any:
        """The panel's widgets by name."""
        return self.widget.ui

    def click(self, name: str) -> None:
        """Press a button, if it can be pressed."""
        button = getattr(self.ui, name)
        if not button.enabled:
            raise AssertionError(f"'{name}' is disabled.")
        if QtWidgets.QWidget.isHidden(button):
            raise AssertionError(f"'{name}' is hidden.")
        button.click()

    def visible(self, name: str) -> bool:
        """Whether a widget is not hidden by itself."""
        return not QtWidgets.QWidget.isHidden(getattr(self.ui, name))

    def settle(self, seconds: float = 20.0) -> None:
        """Let Qt and the executor work until nothing is under way."""
        deadline = time.monotonic() + seconds
        QtWidgets.QApplication.processEvents()
        while self.busy():
            if time.monotonic() > deadline:
                raise AssertionError(f"Still busy after {seconds} s.")
            QtWidgets.QApplication.processEvents()

    def busy(self) -> bool:
        """Whether a run, a chore or a timer is under way."""
        panel = self.panel
        timers = [panel._run._timer, panel.result._timer, panel.inspection._timer]
        return panel.runs.running or not panel.chores.idle or any(QtCore.QTimer.isActive(t) for t in timers)

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Let Qt and the executor work until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"The condition did not hold within {seconds} s.")
            QtWidgets.QApplication.processEvents()

    def close(self) -> None:
        """Unload the module and put slicer.util back."""
        if self.widget is not None:
            slicer.app.moduleManager().aboutToBeUnloaded.emit(MODULE_NAME)
        slicer.modules.UDFASegmentationWidget = None
        # The next panel gets a parameter node of its own, without the observers that Slicer's wrapper leaves behind.
        node = slicer.mrmlScene.GetSingletonNode(MODULE_NAME, "vtkMRMLScriptedModuleNode")
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)
        QtWidgets.QApplication.processEvents()
        for name, function in self._originals.items():
            setattr(slicer.util, name, function)
        self.parent.deleteLater()
        self.mainWindow.deleteLater()
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        sys.excepthook = self._excepthook
        if self.errors:
            raise AssertionError("\n".join(self.errors))


def _replaceServices(services: dict[str, Any]) -> None:
    """Let PanelFactory use other services for the next panel; {} restores Slicer's."""
    from dataclasses import replace

    from UDFASegmentationLib import PanelFactory

    original = PanelFactory.__dict__.setdefault("_slicerPanelServices", PanelFactory.panelServices)
    if services:
        PanelFactory.panelServices = lambda *arguments: replace(original(*arguments), **services)
    else:
        PanelFactory.panelServices = original
