"""The module's panel: binds the widgets to the parameter node, and the sections to each other.

Each section keeps to its own widgets; here is what concerns several of them: which buttons are enabled, what happens
when the scene closes or a node vanishes, and what is live while the module is shown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import qt
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from UDFASegmentationLib import Shortcuts as keys
from UDFASegmentationLib.Chores import Chores
from UDFASegmentationLib.Contracts import SegmentationSettings
from UDFASegmentationLib.CorrectionSection import CorrectionSection
from UDFASegmentationLib.DeviceSelector import DeviceSelector, findDevices, torchIsThere
from UDFASegmentationLib.EnvironmentSection import EnvironmentSection
from UDFASegmentationLib.ExportSection import ExportSection
from UDFASegmentationLib.InspectionSection import InspectionSection
from UDFASegmentationLib.ModelSelector import ModelSelector
from UDFASegmentationLib.ParameterBinding import ParameterBinding
from UDFASegmentationLib.ResultSection import ResultSection
from UDFASegmentationLib.RunSection import Installer, ModelSource, RunOutcome, RunRequest, RunSection
from UDFASegmentationLib.SegmentationRun import SegmentationRun
from UDFASegmentationLib.SequenceFrames import frameCount
from UDFASegmentationLib.Settings import Settings
from UDFASegmentationLib.Shortcuts import Shortcuts

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PanelServices:
    """What the panel works with; tests give fakes.

    Attributes:
        settings: The user's settings.
        models: Loads checkpoints.
        installer: Installs what is missing; None when nothing has to be installed.
        warmUp: Imports what is slow to import, on the executor thread.
        torchIsThere: Whether torch can be imported, without importing it.
        findDevices: Lists the devices, on the executor thread.
    """

    settings: Settings
    models: ModelSource
    installer: Optional[Installer]
    warmUp: Callable[[], Any]
    torchIsThere: Callable[[], bool] = torchIsThere
    findDevices: Callable[[], Any] = findDevices


class SegmentationWidget(VTKObservationMixin):
    """The panel.

    Args:
        ui: Widgets of UDFASegmentation.ui by name.
        getParameterNode: Returns the module's parameter node, made when there is none.
        services: What the panel works with.
    """

    def __init__(self, ui: Any, getParameterNode: Callable[[], Any], services: PanelServices) -> None:
        super().__init__()
        self.ui = ui
        self._services = services
        self._entered = False
        self._closing = False
        self.parameters = ParameterBinding(ui, getParameterNode, self._onParametersModified)
        self._run = SegmentationRun()
        self.chores = Chores(self._run)
        self.models = ModelSelector(ui, services.settings, self._onModelChosen, self._storeLabels)
        self.devices = DeviceSelector(ui, self._storeDevice)
        self.runs = RunSection(
            ui, self._run, services.models, services.warmUp, services.installer, self._onRunState, self._onFinished
        )
        self.inspection = InspectionSection(ui, self.chores, services.settings, self._updateButtons)
        self.correction = CorrectionSection(ui, lambda: services.settings.read().undoDepth)
        self.result = ResultSection(ui, self.chores, self.runs.showStatus, self.correction.limitUndo)
        self.export = ExportSection(
            ui, lambda: self.result.segmentationNode, lambda: self.result.runSettings, self.runs.showStatus
        )
        self.environment = EnvironmentSection(ui, self.chores)
        self.shortcuts = Shortcuts(
            {
                keys.RUN_KEY: self.segment,
                keys.NEXT_DOUBTFUL_KEY: self.result.showNextDoubtful,
                keys.OVERLAY_KEY: self.result.toggleOverlay,
            }
        )
        ui.segmentButton.connect("clicked()", self.segment)
        ui.advancedCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self._detectDevices())
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneEndImport)
        # Selectors hear of it after everybody else, with priority -10.
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved)
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
        self.addObserver(scene, scene.NodeAddedEvent, self._onVolumeMayBeShown)
        # DICOM series are shown long after they were added: Slicer makes them the active volume then.
        selection = slicer.app.applicationLogic().GetSelectionNode()
        if selection is not None:
            self.addObserver(selection, vtk.vtkCommand.ModifiedEvent, self._onVolumeMayBeShown)
        self.parameters.use()

    @property
    def parameterNode(self) -> Optional[Any]:
        """The parameter node in use; None after cleanup."""
        return self.parameters.node

    def enter(self) -> None:
        """The module is shown."""
        self._entered = True
        self.parameters.use()
        self.shortcuts.install()
        self.correction.enter()
        # Not at once: installing shows windows, and Slicer is still busy with switching modules.
        qt.QTimer.singleShot(0, self._resumeInstallation)

    def exit(self) -> None:
        """Another module is shown; a run goes on."""
        self._entered = False
        self.shortcuts.remove()
        self.correction.exit()

    def cleanup(self) -> None:
        """The module is unloaded, or Slicer quits: stop the run, let go of everything."""
        # Before the widgets, which Slicer may have destroyed already when it quits.
        self._run.shutdown()
        self.removeObservers()
        for section in (self.inspection, self.result, self.parameters):
            section.removeObservers()
        steps = (
            self.exit,
            lambda: self.runs.drop(""),
            self.chores.clear,
            self.environment.close,
            self.inspection.cleanup,
            self.result.cleanup,
            self.parameters.release,
        )
        for step in steps:
            try:
                step()
            except ValueError as error:
                # So PythonQt says that a widget is gone.
                _logger.info("Left as it is, because Slicer quits: %s", error)

    def segment(self) -> None:
        """Start a run with what is chosen; does nothing when something is missing."""
        if self.runs.running or self.notReadyReason():
            return
        self.chores.pause()
        self.runs.start(self._request())

    def notReadyReason(self) -> str:
        """Return what is missing for a run, in a sentence; empty when the button may be pressed."""
        node, model = self.parameterNode, self.models.current
        if node is None or node.inputVolume is None:
            return _("Choose a volume.")
        if node.inputVolume.GetImageData() is None:
            return _("The chosen volume has no voxels.")
        if model is None:
            return _("There is no model. Add a checkpoint file.")
        if model.info is None:
            return _("The chosen model cannot be used.")
        if not self.models.keptLabels():
            return _("Tick at least one structure.")
        return self.inspection.blockingReason

    def _resumeInstallation(self) -> None:
        if self._entered:
            self.runs.resumeInstallation()

    def _request(self) -> RunRequest:
        node, model = self.parameterNode, self.models.current
        kept = self.models.keptLabels()
        settings = SegmentationSettings(
            labels=tuple(kept) if self.models.omittedLabels() else None,
            removeIslands=node.removeIslands,
            device=self.devices.current,
            segmentationNode=node.outputSegmentation,
            replaceExisting=node.replaceSegments,
            allFrames=self._frameCount() > 1,
            uncertainty=node.uncertainty,
        )
        return RunRequest(node.inputVolume, model.info, settings, self._services.settings.read().precision)

    def _onFinished(self, outcome: RunOutcome) -> None:
        self.inspection.remember(outcome.result.seconds, {self.devices.current, outcome.result.plan.device})
        self.result.take(outcome, self.parameterNode)
        self._updateButtons()

    def _onRunState(self) -> None:
        self._updateButtons()
        if not self.runs.running and not self._closing:
            self.chores.resume()
            self._detectDevices()

    def _onParametersModified(self) -> None:
        node = self.parameterNode
        if node is None or self._closing:
            return
        self.models.choose(node.modelName, list(node.omittedLabels))
        self.devices.choose(node.device or self._services.settings.read().device)
        self.result.follow(node)
        self.correction.edit(node.resultSegmentation, node.resultVolume)
        self._updateButtons()

    def _inspect(self) -> None:
        node, model = self.parameterNode, self.models.current
        if node is not None and not self._closing:
            info = model.info if model is not None else None
            self.inspection.inspect(node.inputVolume, info, self.devices.current, self._frameCount())

    def _frameCount(self) -> int:
        """How many frames are segmented: 1, or all where the volume shows a sequence and all are wanted."""
        node = self.parameterNode
        return max(1, frameCount(node.inputVolume)) if node is not None and node.allFrames else 1

    def _onModelChosen(self) -> None:
        node = self.parameterNode
        if node is not None:
            with slicer.util.NodeModify(node):
                node.modelName = self.models.currentKey
                node.omittedLabels = self.models.omittedLabels()
        self._updateButtons()

    def _storeLabels(self) -> None:
        if self.parameterNode is not None:
            self.parameterNode.omittedLabels = self.models.omittedLabels()
        self._updateButtons()

    def _storeDevice(self) -> None:
        if self.parameterNode is not None:
            self.parameterNode.device = self.devices.current
        self._updateButtons()

    def _updateButtons(self) -> None:
        self._inspect()
        ui, running, reason = self.ui, self.runs.running, self.notReadyReason()
        for section in (ui.inputsCollapsibleButton, ui.outputCollapsibleButton, ui.advancedCollapsibleButton):
            section.enabled = not running
        ui.segmentButton.enabled = not running and not reason
        ui.segmentButton.toolTip = reason or _("Segment the volume. Key: {key}.").format(key=keys.RUN_KEY)
        node = self.parameterNode
        ui.replaceCheckBox.enabled = node is not None and node.outputSegmentation is not None
        ui.allFramesCheckBox.setVisible(node is not None and frameCount(node.inputVolume) > 1)
        # The result of a whole sequence is always a new one, and has no uncertainty map.
        single = self._frameCount() == 1
        ui.outputSelector.enabled = ui.uncertaintyCheckBox.enabled = single
        ui.replaceCheckBox.enabled = ui.replaceCheckBox.enabled and single

    def _detectDevices(self) -> None:
        """List the devices, once torch can be imported and someone looks or has it in use already."""
        if self.devices.detected or self.ui.advancedCollapsibleButton.collapsed or not self._services.torchIsThere():
            return
        self.chores.request("devices", self._services.findDevices, self.devices.showDetected)

    def _onSceneStartClose(self, caller: Any = None, event: Any = None) -> None:
        self._closing = True
        self.runs.drop("")
        self.chores.clear()
        self.inspection.forget()
        self.result.forget()
        # The parameter node stays: Slicer empties it and keeps it for the next scene.
        self.correction.closeScene()

    def _onSceneEndClose(self, caller: Any = None, event: Any = None) -> None:
        self._closing = False
        self.parameters.refresh()
        self.correction.reopenScene()
        self.parameters.use()
        self.chores.resume()

    def _onSceneEndImport(self, caller: Any = None, event: Any = None) -> None:
        self.parameters.refresh()
        self.correction.reopenScene()
        self.parameters.use()
        # The selectors do not list the new nodes before the import has ended for them too.
        qt.QTimer.singleShot(0, self.parameters.refresh)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        if not self._closing and node is not None:
            self.parameters.letGoOf(node)

    def _onNodeRemoved(self, caller: Any = None, event: Any = None) -> None:
        volume = self.runs.volumeNode
        if volume is not None and volume.GetScene() is None:
            self.runs.drop(_("The volume was deleted; the run was stopped."))
        if not self._closing:
            self.parameters.dropRemovedNodes()
            # Without its browser a volume shows no sequence any more.
            self._updateButtons()

    def _onVolumeMayBeShown(self, caller: Any = None, event: Any = None) -> None:
        # Whoever loads a volume shows it right after adding it.
        if self._entered and self.parameterNode is not None and self.parameterNode.inputVolume is None:
            qt.QTimer.singleShot(0, self.parameters.preselectVolume)
