"""Starts what the Slicer application would have started: the scene, the application logic, and the module logics.

After `boot()`, `slicer.mrmlScene`, `slicer.util`, `slicer.app` (a double) and `slicer.modules.<name>.logic()` (real
logics) work as scripts in Slicer expect, as far as no Qt is involved.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
import slicer.util
import vtk

from headless.app_double import AppDouble
from headless.terminology import write_terminologies

MODULE_LOGICS = {
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "transforms": "vtkSlicerTransformLogic",
    "models": "vtkSlicerModelsLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "plots": "vtkSlicerPlotsLogic",
}
"""Module name in `slicer.modules`, and the class of its logic. Terminologies come first: segmentations use them."""


@dataclass(frozen=True)
class HeadlessSlicer:
    """The parts that live as long as the process.

    Attributes:
        scene: The MRML scene, also `slicer.mrmlScene`.
        application_logic: vtkSlicerApplicationLogic.
        app: The double behind `slicer.app`.
        keep_alive: Objects that only Python refers to.
    """

    scene: Any
    application_logic: Any
    app: AppDouble
    keep_alive: tuple[Any, ...]


@functools.cache
def boot() -> HeadlessSlicer:
    """Start the headless Slicer, once per process."""
    work = tempfile.TemporaryDirectory(prefix="udfa-headless-")
    folder = Path(work.name)
    write_terminologies(folder / "terminologies")
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetSliceLogics(vtk.vtkCollection())
    application_logic.SetViewLogics(vtk.vtkCollection())
    io_logics = _connect_data_io(scene, application_logic, folder / "cache")
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLApplicationLogic(application_logic)
    application_logic.SetColorLogic(colors)
    application_logic.SetModuleLogic("Colors", colors)
    colors.SetMRMLScene(scene)
    application_logic.SetMRMLScene(scene)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    slicer.app = AppDouble(folder)
    slicer.modules = SimpleNamespace()
    for name, class_name in MODULE_LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application_logic)
        if name == "terminologies":
            logic.SetModuleShareDirectory(str(folder / "terminologies"))
        logic.SetMRMLScene(scene)
        setattr(slicer.modules, name, SimpleNamespace(logic=functools.partial(_identity, logic)))
        application_logic.SetModuleLogic(name.capitalize(), logic)
    return HeadlessSlicer(scene, application_logic, slicer.app, (work, colors, *io_logics))


def _identity(value: Any) -> Any:
    return value


def _connect_data_io(scene: Any, application_logic: Any, cache: Path) -> tuple[Any, ...]:
    """Give the scene the cache folder without which scene bundles cannot be read."""
    cache.mkdir()
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    remote.SetMRMLScene(scene)
    data_io = slicer.vtkDataIOManagerLogic()
    data_io.SetMRMLApplicationLogic(application_logic)
    data_io.SetAndObserveDataIOManager(remote.GetDataIOManager())
    application_logic.SetMRMLSceneDataIO(scene, remote, data_io)
    return remote, data_io


def clear_scene() -> None:
    """Empty the scene; the logics add the nodes that every scene has, such as the colour tables, again."""
    scene = boot().scene
    scene.Clear(False)
    # The scene keeps its subject hierarchy; in the application the plug-ins take the items out when it closes.
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene).RemoveAllItems()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
