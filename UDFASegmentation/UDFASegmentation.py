"""UDFA Segmentation: segments organs in CT and MR with U-DFA networks, and lets a reader correct the result.

This file only tells Slicer about the module; the work is done in UDFASegmentationLib and in the package udfa. Nothing
slow is imported before the panel is opened, and torch not before the first run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional

import slicer
import slicer.util
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

if TYPE_CHECKING:
    from UDFASegmentationLib.SegmentationWidget import SegmentationWidget

LIBRARY = "UDFASegmentationLib"


class UDFASegmentation(ScriptedLoadableModule):
    """What Slicer lists: name, category, help."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("UDFA Segmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "SegmentEditor", "SubjectHierarchy", "Volumes", "Terminologies"]
        parent.contributors = ["UDFA contributors"]
        parent.helpText = _(
            "Segments abdominal organs in CT and the heart's chambers in cine MR, on this computer, and lets you "
            "correct the result by clicks. Choose a volume and a model, then press <b>Segment</b>. All frames of a "
            "cine series can be segmented, too, which tells the ejection fraction. Nothing leaves this computer.<p>"
            '<a href="https://github.com/SlicerUDFA/SlicerUDFA#in-slicer">Step by step</a><p>'
            "For research; not a medical device: a qualified reader has to check every result."
        )
        parent.acknowledgementText = _(
            "The network follows the abstract of U-DFA (arXiv 2510.00585): a U-Net around a frozen vision "
            "transformer, joined by local-global fusion adapters. Code and weights of this extension are its own; the "
            "transformer of the bundled models is not DINOv2, but a small one that this project trained."
        )
        slicer.app.connect("startupCompleted()", onStartupCompleted)


class UDFASegmentationWidget(ScriptedLoadableModuleWidget):
    """The module's panel as Slicer knows it; `panel` is the panel itself."""

    def __init__(self, parent: Optional[Any] = None) -> None:
        self.panel: Optional[SegmentationWidget] = None
        self.logic: Optional[UDFASegmentationLogic] = None
        self._uiWidget: Optional[Any] = None
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self) -> None:
        """Build the panel from the .ui file. Called once, when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        from UDFASegmentationLib.PanelFactory import makePanel

        # The module may have been added to a Slicer that had started already; before the editor lists its tools.
        onStartupCompleted()
        self._uiWidget = slicer.util.loadUI(self.resourcePath("UI/UDFASegmentation.ui"))
        self.layout.addWidget(self._uiWidget)
        self.ui = slicer.util.childWidgetVariables(self._uiWidget)
        self._uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = UDFASegmentationLogic()
        self.panel = makePanel(self.ui, self.logic, self.resourcePath("requirements.txt"))

    def enter(self) -> None:
        """The user opens the module."""
        if self.panel is not None:
            self.panel.enter()

    def exit(self) -> None:
        """The user opens another module."""
        if self.panel is not None:
            self.panel.exit()

    def cleanup(self) -> None:
        """The module is unloaded or reloaded, or Slicer quits."""
        if self.panel is not None:
            self.panel.cleanup()
            self.panel = None

    def onReload(self) -> None:
        """Load the library's files again too, for developers."""
        forgetLibrary()
        ScriptedLoadableModuleWidget.onReload(self)
        if self._uiWidget is not None:
            # Slicer only hides it, and the hidden editor would go on listening.
            self._uiWidget.deleteLater()
        # Slicer sets up the new panel, but does not tell it that it is shown.
        slicer.modules.UDFASegmentationWidget.enter()


class UDFASegmentationLogic(ScriptedLoadableModuleLogic):
    """Segments volumes from scripts, without the panel: `UDFASegmentationLogic().segmentVolume(volumeNode)`."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self._segmentation: Optional[Any] = None

    @property
    def segmentation(self) -> Any:
        """The `SegmentationLogic` that loads models and keeps the last one."""
        if self._segmentation is None:
            from UDFASegmentationLib.SegmentationLogic import SegmentationLogic

            self._segmentation = SegmentationLogic()
        return self._segmentation

    def getParameterNode(self) -> Any:
        """Return the module's parameter node, typed."""
        from UDFASegmentationLib.ParameterNode import typedParameterNode

        return typedParameterNode(super().getParameterNode())

    def segmentVolume(self, volumeNode: Any, model: Any = None, settings: Any = None) -> Any:
        """Segment a volume node and wait for the result. See `SegmentationLogic.segmentVolume`.

        Returns:
            vtkMRMLSegmentationNode with one segment per label that was found.
        """
        return self.segmentation.segmentVolume(volumeNode, model, settings)

    def segmentSequence(self, volumeNode: Any, model: Any = None, settings: Any = None) -> Any:
        """Segment all frames of the sequence that a volume node shows. See `SegmentationLogic.segmentSequence`.

        Returns:
            vtkMRMLSegmentationNode that shows the frame which the volume shows.
        """
        return self.segmentation.segmentSequence(volumeNode, model, settings)


class UDFASegmentationTest(ScriptedLoadableModuleTest):
    """Runs the module's checks inside Slicer: 'Reload and Test', or ctest."""

    def setUp(self) -> None:
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all checks; unittest takes this method for the whole case."""
        from UDFASegmentationLib.SlicerChecks import runChecks

        self.setUp()
        for sentence in runChecks(UDFASegmentationLogic()):
            self.delayDisplay(sentence)


def onStartupCompleted() -> None:
    """Offer effect, sample data and settings page, once Slicer has started; further calls do nothing."""
    from UDFASegmentationLib.Startup import startUp

    startUp()


def forgetLibrary() -> None:
    """Make the next import of the library load its files again.

    What was made of the former files, such as the effect in an open editor, keeps working with them: classes of the
    two never meet. What Slicer was told at its start is not told again.
    """
    for name in [name for name in sys.modules if name == LIBRARY or name.startswith(f"{LIBRARY}.")]:
        if name != f"{LIBRARY}.Startup":
            del sys.modules[name]
