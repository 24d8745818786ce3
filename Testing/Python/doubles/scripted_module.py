"""`slicer.ScriptedLoadableModule` and `slicer.i18n`, which the slicer-core package lacks: the parts the module uses."""

from __future__ import annotations

import importlib.util
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import slicer

PARENT_ATTRIBUTES = {
    "path",
    "title",
    "categories",
    "dependencies",
    "contributors",
    "helpText",
    "acknowledgementText",
    "icon",
}


class ScriptedLoadableModule:
    """Base of the module class: looks up the icon as Slicer does."""

    def __init__(self, parent: Any) -> None:
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        import qt

        for suffix in (".svg", ".png"):
            icon = Path(parent.path).parent / "Resources" / "Icons" / f"{self.moduleName}{suffix}"
            if icon.is_file():
                parent.icon = qt.QIcon(str(icon))
                break

    def resourcePath(self, filename: str) -> str:
        """Path of a file in Resources."""
        return str(Path(self.parent.path).parent / "Resources" / filename)


class ScriptedLoadableModuleWidget:
    """Base of the widget class. Give a parent and call setup() yourself, as Slicer does."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        if parent is None:
            raise RuntimeError("The double needs a parent widget.")
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        """Path of a file in Resources."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def cleanup(self) -> None:
        """For the derived class."""

    def setup(self) -> None:
        """For the derived class."""

    def onReload(self) -> None:
        """As slicer.util.reloadScriptedModule: load the file again, clean up, make and set up a widget; no `enter`."""
        name = f"{self.moduleName}Widget"
        path = slicer.util.modulePath(self.moduleName)
        spec = importlib.util.spec_from_file_location(self.moduleName, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.moduleName] = module
        spec.loader.exec_module(module)
        widget = getattr(slicer.modules, name)
        widget.cleanup()
        slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", widget._onModuleAboutToBeUnloaded)
        layout = self.parent.layout()
        for item in [layout.itemAt(i) for i in range(layout.count())]:
            item.widget().hide()
            layout.removeItem(item)
        setattr(slicer.modules, name, getattr(module, name)(self.parent))
        getattr(slicer.modules, name).setup()


class ScriptedLoadableModuleLogic:
    """Base of the logic class: finds or makes the singleton parameter node."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        """The module's vtkMRMLScriptedModuleNode, made when there is none."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
            node = slicer.mrmlScene.AddNode(node)
        # Closing the scene resets the attributes of singletons.
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of the module's own tests."""

    def delayDisplay(self, message: str, msec: int = 0) -> None:
        """Slicer shows the message for a while."""
        slicer.app.processEvents()


def makeModules() -> dict[str, types.ModuleType]:
    """Return the modules to be put into sys.modules, by name."""
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    exported = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    for cls in exported:
        setattr(scripted, cls.__name__, cls)
    scripted.__all__ = [cls.__name__ for cls in exported]
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    return {"slicer.ScriptedLoadableModule": scripted, "slicer.i18n": i18n}
