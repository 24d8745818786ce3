"""The embedded Segment Editor, on the result of the last run.

Its parameter node is its own. All editors of one node take up the same tool and listen to the views, also hidden ones:
with the node of the Segment Editor module, that module's editor would answer clicks made here, and keep their undo.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import slicer
import slicer.util
from slicer.i18n import tr as _

from UDFASegmentationLib.UndoMemory import UndoMemory

SINGLETON_TAG = "UDFASegmentation.SegmentEditor"
NODE_CLASS = "vtkMRMLSegmentEditorNode"


class CorrectionSection:
    """Keeps the editor widget in step with the scene, and its keys and view events off while the panel is not shown.

    Args:
        ui: The panel's widgets.
        readUndoDepth: Returns the number of edits that can be undone, from the user's settings.
    """

    def __init__(self, ui: Any, readUndoDepth: Callable[[], int]) -> None:
        self._ui = ui
        self._readUndoDepth = readUndoDepth
        self._entered = False
        self._live = False
        self._undoMemory = UndoMemory()
        editor = ui.segmentEditorWidget
        # Slicer asks for this order: the parameter node before the scene.
        self._useEditorNode()
        editor.setMRMLScene(slicer.mrmlScene)
        self.limitUndo()
        ui.correctionCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self._update())

    def edit(self, segmentationNode: Optional[Any], volumeNode: Optional[Any]) -> None:
        """Offer a segmentation for correction, on its volume; None offers nothing.

        Without a volume the editor's tools are off. Left to itself, its hidden selector goes on to a neighbour of a
        volume that is deleted, such as the uncertainty map, and the tools would work on that.
        """
        self._useEditorNode()
        editor = self._ui.segmentEditorWidget
        # The widget's own `segmentationNode` is what its selector shows: before or after what is edited.
        if editor.mrmlSegmentEditorNode().GetSegmentationNode() is not segmentationNode:
            editor.setSegmentationNode(segmentationNode)
        # While a scene is being loaded the selector shows nothing, and the editor refuses a volume; this comes again.
        ready = segmentationNode is not None and editor.segmentationNode() is segmentationNode
        if ready and editor.sourceVolumeNode() is not volumeNode:
            editor.setSourceVolumeNode(volumeNode)
        self._ui.correctionCollapsibleButton.enabled = segmentationNode is not None
        self.limitUndo()
        self._update()

    def limitUndo(self) -> None:
        """Keep as many steps for undo as the user wants, and as fit into the memory for them."""
        editor = self._ui.segmentEditorWidget
        node = editor.mrmlSegmentEditorNode().GetSegmentationNode()
        editor.setMaximumNumberOfUndoStates(self._undoMemory.states(node, self._readUndoDepth()))

    def enter(self) -> None:
        """The module is shown."""
        self._entered = True
        self._useEditorNode()
        self.limitUndo()
        self._update()

    def exit(self) -> None:
        """The module is left, or its widget goes away."""
        self._entered = False
        self._update()

    def closeScene(self) -> None:
        """The scene is about to be closed."""
        self._setLive(False)
        self._ui.segmentEditorWidget.setSegmentationNode(None)

    def reopenScene(self) -> None:
        """The scene has been closed or loaded; the editor node may be another one."""
        self._useEditorNode()
        self._ui.segmentEditorWidget.updateWidgetFromMRML()
        self._update()

    def _update(self) -> None:
        section = self._ui.correctionCollapsibleButton
        self._setLive(self._entered and section.enabled and not section.collapsed)

    def _setLive(self, live: bool) -> None:
        """Switch the editor's keys and its listening to the views on or off; off also puts the tool away."""
        if live == self._live:
            return
        self._live = live
        editor = self._ui.segmentEditorWidget
        if live:
            self._closeLightBoxes()
            editor.setupViewObservations()
            editor.installKeyboardShortcuts()
            editor.updateWidgetFromMRML()
        else:
            editor.setActiveEffect(None)
            editor.uninstallKeyboardShortcuts()
            editor.removeViewObservations()

    def _closeLightBoxes(self) -> None:
        """Let every view show one slice: the editor takes clicks on the others for clicks on the first one.

        Newer versions of Slicer have no light boxes.
        """
        turnOff = getattr(self._ui.segmentEditorWidget, "turnOffLightboxes", None)
        if turnOff is not None and turnOff():
            slicer.util.warningDisplay(
                _("Segments cannot be edited in views in light box mode; each view shows one slice again."),
                windowTitle=_("UDFA Segmentation"),
            )

    def _useEditorNode(self) -> None:
        """Take the editor's node, one for all scenes; made when there is none.

        It is not saved with the scene: a tool that was in use would start by itself when the scene is loaded.
        """
        node = slicer.mrmlScene.GetSingletonNode(SINGLETON_TAG, NODE_CLASS)
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass(NODE_CLASS)
            node.UnRegister(None)
            node.SetSingletonTag(SINGLETON_TAG)
            node.SetSaveWithScene(False)
            node = slicer.mrmlScene.AddNode(node)
        if self._ui.segmentEditorWidget.mrmlSegmentEditorNode() is not node:
            self._ui.segmentEditorWidget.setMRMLSegmentEditorNode(node)
