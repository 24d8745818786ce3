"""The panel's parameter node: taken from the scene, shown by the widgets, and kept in step with the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import slicer
import vtk
from slicer.util import VTKObservationMixin

PARAMETER_NAME = "SlicerParameterName"
"""Property of widgets in the .ui file: the parameter that they show."""

SELECTED_NODES = ("inputVolume", "outputSegmentation")
"""Parameters that a selector shows."""

NODE_PARAMETERS = ("inputVolume", "outputSegmentation", "resultSegmentation", "resultVolume", "uncertaintyVolume")


class ParameterBinding(VTKObservationMixin):
    """Binds the widgets to the scene's parameter node.

    Slicer's wrapper keeps the nodes that it has read until the parameter node is modified: also those that have left
    the scene meanwhile, and None for those that were not there yet while a scene was loaded.

    Args:
        ui: The panel's widgets.
        getParameterNode: Returns the module's parameter node, made when there is none.
        onModified: Called after a parameter has changed.
    """

    def __init__(self, ui: Any, getParameterNode: Callable[[], Any], onModified: Callable[[], None]) -> None:
        super().__init__()
        self._ui = ui
        self._getParameterNode = getParameterNode
        self._onModified = onModified
        self._guiTag: Optional[int] = None
        self.node: Optional[Any] = None
        """The parameter node in use; None before `use` and after `release`."""

    def use(self) -> None:
        """Take the scene's parameter node, and choose the active volume if none is chosen yet."""
        self._bind(self._getParameterNode())
        self.preselectVolume()

    def release(self) -> None:
        """Let go of the parameter node."""
        self._bind(None)

    def refresh(self) -> None:
        """Have all parameters read and shown afresh: nodes came or went while nobody looked."""
        if self.node is not None:
            self.node.parameterNode.Modified()

    def preselectVolume(self) -> None:
        """Choose the volume that the slice views show, if none is chosen."""
        if self.node is not None and self.node.inputVolume is None:
            volume = activeVolume()
            if volume is not None:
                self.node.inputVolume = volume

    def letGoOf(self, leaving: Any) -> None:
        """Choose nothing where a node is chosen that is about to leave the scene.

        Its line vanishes from the selector next. Of a chosen line that vanishes Qt chooses a neighbour, although there
        is a 'None': another segmentation would then be overwritten.
        """
        for name in SELECTED_NODES if self.node is not None else ():
            if getattr(self.node, name) is leaving:
                setattr(self.node, name, None)

    def dropRemovedNodes(self) -> None:
        """Forget nodes that are no longer in the scene, so that no later node with the same ID takes their place."""
        for name in NODE_PARAMETERS if self.node is not None else ():
            chosen = getattr(self.node, name)
            if chosen is not None and chosen.GetScene() is None:
                setattr(self.node, name, None)

    def _bind(self, node: Optional[Any]) -> None:
        """Bind the widgets to a parameter node. Slicer's binding leaves an observer behind: once per node only."""
        old = self.node
        if old is not None and node is not None and old.parameterNode is node.parameterNode:
            self._onModified()
            return
        if old is not None:
            self.removeObservers()
            old.disconnectGui(self._guiTag)
        self.node = node
        if node is not None:
            # Slicer's `connectGui` would find the widgets by itself, but returns no tag to disconnect them with.
            self._guiTag = node.connectParametersToGui(boundWidgets(self._ui))
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNodeModified)
            self._onModified()

    def _onNodeModified(self, caller: Any = None, event: Any = None) -> None:
        self._onModified()


def boundWidgets(ui: Any) -> dict[str, Any]:
    """Return the widgets that show a parameter, by the parameter's name."""
    return {name: widget for widget in vars(ui).values() if (name := widget.property(PARAMETER_NAME))}


def activeVolume() -> Optional[Any]:
    """Return the background volume of the first visible slice view that has one."""
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames() if layout is not None else ():
        view = layout.sliceWidget(name)
        identifier = view.mrmlSliceCompositeNode().GetBackgroundVolumeID() if view is not None else None
        volume = slicer.mrmlScene.GetNodeByID(identifier) if identifier else None
        if volume is not None and volume.GetClassName() == "vtkMRMLScalarVolumeNode":
            return volume
    return None
