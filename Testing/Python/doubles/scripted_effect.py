"""A strict double of a scripted Segment Editor effect's host, over the real vtkSlicerSegmentEditorLogic.

What it offers is what qSlicerSegmentEditorAbstractEffect offers Python, as far as the effect uses it; anything else
raises. What is done with labelmaps, masks and undo is Slicer's own code.
"""

from __future__ import annotations

import sys
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer
import vtk

from headless.boot import boot

BUTTON_EVENTS = tuple(
    f"{button}Button{what}Event"
    for button in ("Left", "Right", "Middle")
    for what in ("Press", "Release", "DoubleClick")
)
WHEEL_EVENTS = tuple(f"MouseWheel{direction}Event" for direction in ("Forward", "Backward", "Left", "Right"))
EVENTS = (
    *BUTTON_EVENTS,
    *WHEEL_EVENTS,
    "MouseMoveEvent",
    "KeyPressEvent",
    "KeyReleaseEvent",
    "EnterEvent",
    "LeaveEvent",
)
"""What the editor hands to an effect (qMRMLSegmentEditorWidget::setupViewObservations)."""

LARGEST_CURSOR = 64
"""Pixels; a larger cursor covers what the user points at."""


class ScriptedEffect:
    """`self.scriptedEffect` of an effect (Modules/Loadable/Segmentations/EditorEffects).

    Args:
        logic: vtkSlicerSegmentEditorLogic with scene and node.
    """

    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = 0, 1, 2

    __slots__ = (
        "_active",
        "_confirmed",
        "_logic",
        "actors",
        "calls",
        "hiddenSegmentAnswer",
        "name",
        "optionsWidgets",
        "perSegment",
        "requireSegments",
        "title",
    )

    def __init__(self, logic: Any) -> None:
        self._logic = logic
        self._active = False
        self._confirmed: Any = None
        self.hiddenSegmentAnswer = "cancel"
        """What the user answers when Slicer asks whether to show the hidden segment: yes, no or cancel."""
        self.name = self.title = ""
        self.perSegment = self.requireSegments = True
        self.calls: list[str] = []
        """Names of the editing calls, in order."""
        self.actors: list[tuple[Any, Any]] = []
        self.optionsWidgets: list[Any] = []

    def parameterSetNode(self) -> Any:
        """The editor's node."""
        return self._logic.GetSegmentEditorNode()

    def active(self) -> bool:
        """Whether the tool is taken."""
        return self._active

    def saveStateForUndo(self) -> None:
        """Remember the segmentation for undo."""
        self.calls.append("saveStateForUndo")
        self._logic.SaveStateForUndo()

    def modifySegmentByLabelmap(
        self, segmentationNode: Any, segmentID: str, labelmap: Any, mode: Any, bypassMasking: bool = False
    ) -> None:
        """Change a segment; an unknown segment or an image without voxels, which Slicer only logs, raises."""
        if segmentationNode.GetSegmentation().GetSegment(segmentID) is None:
            raise ValueError(f"There is no segment '{segmentID}'.")
        if labelmap.GetPointData().GetScalars() is None:
            raise ValueError("The modifier labelmap has no voxels.")
        self.calls.append("modifySegmentByLabelmap")
        self._logic.ModifySegmentByLabelmap(segmentationNode, segmentID, labelmap, mode, True, bypassMasking)

    def confirmCurrentSegmentVisible(self) -> int:
        """Ask before a hidden segment is edited, once per segment; the question swallows the mouse's release."""
        node = self.parameterSetNode()
        segmentationNode, segmentID = node.GetSegmentationNode(), node.GetSelectedSegmentID()
        segment = None if segmentationNode is None else segmentationNode.GetSegmentation().GetSegment(segmentID or "")
        if segment is None or segment is self._confirmed or self._logic.IsSelectedSegmentVisible():
            return self.ConfirmedWithoutDialog
        if self.hiddenSegmentAnswer == "cancel":
            return self.NotConfirmed
        if self.hiddenSegmentAnswer == "yes":
            segmentationNode.GetDisplayNode().SetVisibility(True)
            segmentationNode.GetDisplayNode().SetSegmentVisibility(segmentID, True)
        else:
            self._confirmed = segment
        return self.ConfirmedWithDialog

    def setParameter(self, name: str, value: float) -> None:
        """Store a parameter: no ModifiedEvent, but EffectParameterModified, at which the editor updates the effect."""
        node, key, text = self.parameterSetNode(), f"{self.name}.{name}", str(value)
        if node.GetAttribute(key) == text:
            return
        disabled = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(1)
        node.SetAttribute(key, text)
        node.SetDisableModifiedEvent(disabled)
        node.InvokeCustomModifiedEvent(node.EffectParameterModified)

    def setParameterDefault(self, name: str, value: float) -> None:
        """Store a parameter that is not set."""
        if self.parameterSetNode().GetAttribute(f"{self.name}.{name}") is None:
            self.setParameter(name, value)

    def integerParameter(self, name: str) -> int:
        """Read a parameter; one that is not set raises, where Slicer logs an error and gives 0."""
        value = self.parameterSetNode().GetAttribute(f"{self.name}.{name}")
        if value is None:
            raise KeyError(f"Parameter '{name}' has no default.")
        return int(float(value))

    def addOptionsWidget(self, widget: Any) -> None:
        """Add a widget to the options frame."""
        self.optionsWidgets.append(widget)

    def addLabeledOptionsWidget(self, label: str, widget: Any) -> None:
        """Add a widget with a label to the options frame."""
        self.optionsWidgets.append(widget)

    def viewNode(self, viewWidget: Any) -> Any:
        """The MRML node of a view."""
        return viewWidget.mrmlSliceNode()

    def addActor2D(self, viewWidget: Any, actor: Any) -> None:
        """Add an actor to a view."""
        self.actors.append((viewWidget, actor))
        if viewWidget.renderer is not None:
            viewWidget.renderer.AddViewProp(actor)

    def removeActor2D(self, viewWidget: Any, actor: Any) -> None:
        """Remove an actor from a view; one that is not there raises."""
        self.actors.remove((viewWidget, actor))
        if viewWidget.renderer is not None:
            viewWidget.renderer.RemoveViewProp(actor)

    def scheduleRender(self, viewWidget: Any) -> None:
        """Draw the view soon."""


class AbstractScriptedSegmentEditorEffect:
    """Base class of scripted effects (SegmentEditorEffects)."""

    def __init__(self, scriptedEffect: ScriptedEffect) -> None:
        self.scriptedEffect = scriptedEffect

    def xyToRas(self, xy: tuple[int, int], viewWidget: Any) -> list[float]:
        """Position in the world of a pixel of a slice view."""
        ras = [0.0, 0.0, 0.0]
        slicer.vtkSlicerSegmentEditorLogic.XyToRas([int(xy[0]), int(xy[1])], ras, viewWidget.mrmlSliceNode())
        return ras


class ViewWidget:
    """A slice view's widget: real MRML slice node, real interactor, and a renderer where there is one."""

    def __init__(self, sliceNode: Any, interactor: Any, renderer: Any = None) -> None:
        self._sliceNode = sliceNode
        self.interactor = interactor
        self.renderer = renderer

    def className(self) -> str:
        """Name of the C++ class."""
        return "qMRMLSliceWidget"

    def mrmlSliceNode(self) -> Any:
        """The slice node."""
        return self._sliceNode


class Layout:
    """The layout manager with given views."""

    def __init__(self, *widgets: ViewWidget) -> None:
        self._widgets = {widget.mrmlSliceNode().GetName(): widget for widget in widgets}

    def sliceViewNames(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> ViewWidget:
        """A view by name."""
        return self._widgets[name]


class Editor:
    """The Segment Editor around one effect: what qMRMLSegmentEditorWidget does with it.

    Args:
        segmentationNode: The edited segmentation.
        volumeNode: The source volume.
        effectClass: Class of the effect.
    """

    def __init__(self, segmentationNode: Any, volumeNode: Any, effectClass: type) -> None:
        self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetMRMLApplicationLogic(boot().application_logic)
        self.logic.SetSegmentEditorNode(self.node)
        self.logic.SetMaximumNumberOfUndoStates(50)
        self.logic.SetSegmentationNode(segmentationNode)
        self.logic.SetSourceVolumeNode(volumeNode)
        self.host = ScriptedEffect(self.logic)
        self.effect = effectClass(self.host)
        self.errors: list[str] = []
        """Exceptions in callbacks, which VTK only prints."""
        self._observed: list[tuple[Any, int]] = []
        self.effect.setupOptionsFrame()
        self.effect.setMRMLDefaults()
        self._call(self.node, self.node.EffectParameterModified, self.effect.updateGUIFromMRML)

    def select(self, segmentID: str) -> None:
        """Choose the segment to edit. Slicer does not tell effects about it."""
        self.node.SetSelectedSegmentID(segmentID)

    def activate(self) -> None:
        """Take the tool; the views get its cursor."""
        self.host._active = True
        self.effect.updateGUIFromMRML()
        self.effect.activate()
        import qt

        cursor = self.effect.createCursor(None)
        if not isinstance(cursor, qt.QCursor) or not 8 <= cursor.pixmap().width() <= LARGEST_CURSOR:
            raise TypeError("createCursor has to return a QCursor that one can point with.")

    def deactivate(self) -> None:
        """Put the tool away."""
        self.host._active = False
        self.effect.deactivate()

    def observe(self, widget: ViewWidget) -> None:
        """Hand a view's mouse events and movements to the effect."""
        for name in EVENTS:
            eventId = getattr(vtk.vtkCommand, name)
            self._listen(widget.interactor, eventId, "processInteractionEvents", widget)
        self._listen(widget.mrmlSliceNode(), vtk.vtkCommand.ModifiedEvent, "processViewNodeEvents", widget)

    def _call(self, source: Any, eventId: int, method: Any) -> None:
        def callback(caller: Any, event: str) -> None:
            try:
                method()
            except Exception:
                self.errors.append(traceback.format_exc())

        self._observed.append((source, source.AddObserver(eventId, callback)))

    def _listen(self, source: Any, eventId: int, method: str, widget: ViewWidget) -> None:
        def callback(caller: Any, event: str) -> None:
            if slicer.mrmlScene.IsClosing() or not self.host.active():
                return
            try:
                taken = getattr(self.effect, method)(source, eventId, widget)
                if method == "processInteractionEvents" and not isinstance(taken, bool):
                    raise TypeError(f"{method} returned {taken!r}, but Slicer wants a bool.")
            except Exception:
                self.errors.append(traceback.format_exc())
            else:
                source.GetCommand(tag).SetAbortFlag(bool(taken))

        # Before the view's own interactor style, which does not see what the effect takes.
        tag = source.AddObserver(eventId, callback, 1.0)
        self._observed.append((source, tag))

    def close(self) -> None:
        """Take the editor apart; errors in callbacks are raised."""
        for source, tag in self._observed:
            source.RemoveObserver(tag)
        if self.host.active():
            self.deactivate()
        self.effect.cleanup()
        if self.errors:
            raise AssertionError("\n".join(self.errors))


@contextmanager
def effectModules() -> Iterator[None]:
    """Offer the effects' base class and enumerations where Slicer offers them."""
    module = types.ModuleType("SegmentEditorEffects")
    module.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect
    enumerations = types.SimpleNamespace(
        **{
            name: getattr(slicer.vtkSlicerSegmentEditorLogic, name)
            for name in ("ModificationModeSet", "ModificationModeAdd", "ModificationModeRemove")
        }
    )
    sys.modules["SegmentEditorEffects"] = module
    slicer.qSlicerSegmentEditorAbstractEffect = enumerations
    try:
        yield
    finally:
        del sys.modules["SegmentEditorEffects"], slicer.qSlicerSegmentEditorAbstractEffect


class EffectsPythonQt(types.ModuleType):
    """`qSlicerSegmentationsEditorEffectsPythonQt`: loads an effect's file as Slicer does, and keeps what registers."""

    def __init__(self) -> None:
        super().__init__("qSlicerSegmentationsEditorEffectsPythonQt")
        self.registered: list[Any] = []
        self.qSlicerSegmentEditorScriptedEffect = lambda parent: _LoadedEffect(self)


class _LoadedEffect(ScriptedEffect):
    """A host that takes its effect from a file: module named after the folder, class after the file."""

    __slots__ = ("_module", "_self")

    def __init__(self, module: EffectsPythonQt) -> None:
        logic = slicer.vtkSlicerSegmentEditorLogic()
        super().__init__(logic)
        self._module = module

    def setPythonSource(self, path: str) -> bool:
        """Load the effect's class and make its instance."""
        import importlib.util

        name = Path(path).parent.name
        if name in sys.modules and getattr(sys.modules[name], "__path__", None) is not None:
            raise RuntimeError(f"Slicer would replace the package '{name}' by {path}.")
        spec = importlib.util.spec_from_file_location(name, path)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        self._self = getattr(loaded, Path(path).stem)(self)
        self._self.register = lambda: self._module.registered.append(self)
        return True

    def self(self) -> Any:
        """The Python instance."""
        return self._self
