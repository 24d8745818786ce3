"""The module's own tests, run inside Slicer by 'Reload and Test' and by ctest: the panel with Slicer's real widgets.

What a run needs (torch and timm) may be missing there; then the checks of runs are left out, with a message. The same
checks pass outside Slicer on the doubles of Testing/Python.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qt
import slicer
import slicer.util

from UDFASegmentationLib import Provenance
from UDFASegmentationLib.EnvironmentCheck import missingRequirements, readRequirements
from UDFASegmentationLib.PanelFactory import panelServices
from UDFASegmentationLib.SampleDataSources import ABDOMEN_CT, CARDIAC_CINE, sampleFolder
from UDFASegmentationLib.SegmentationWidget import SegmentationWidget

RUN_SECONDS = 900.0
"""A run on the bundled CT takes less than this, even on a slow processor."""

CANCEL_SECONDS = 30.0
"""A cancelled run ends within this, even on a slow processor; one batch of slices is finished first."""

LIVER_ML = 500.0
"""The liver of the bundled CT is larger than this."""

_logger = logging.getLogger(__name__)
_resources = Path(__file__).resolve().parent.parent / "Resources"


@contextmanager
def openPanel(logic: Any) -> Iterator[SegmentationWidget]:
    """Open a panel of its own beside the module's, and close it again."""
    parent = slicer.qMRMLWidget()
    layout = qt.QVBoxLayout(parent)
    uiWidget = slicer.util.loadUI(str(_resources / "UI" / "UDFASegmentation.ui"))
    layout.addWidget(uiWidget)
    ui = slicer.util.childWidgetVariables(uiWidget)
    parent.setMRMLScene(slicer.mrmlScene)
    uiWidget.setMRMLScene(slicer.mrmlScene)
    services = panelServices(logic, str(_resources / "requirements.txt"))
    panel = SegmentationWidget(ui, logic.getParameterNode, services)
    panel.enter()
    try:
        yield panel
    finally:
        panel.cleanup()
        parent.deleteLater()


def loadSample() -> Any:
    """Load the bundled CT and show it."""
    volume = slicer.util.loadVolume(str(sampleFolder() / ABDOMEN_CT.fileName))
    slicer.util.setSliceViewerLayers(background=volume)
    return volume


def loadCine() -> Any:
    """Load the bundled cine series and show it; returns its browser."""
    logic = slicer.modules.sequences.logic()
    sequence = logic.AddSequence(str(sampleFolder() / CARDIAC_CINE.fileName))
    sequence.SetName(CARDIAC_CINE.name)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    logic.UpdateProxyNodesFromSequences(browser)
    slicer.util.setSliceViewerLayers(background=browser.GetProxyNode(sequence))
    return browser


def waitUntil(condition: Callable[[], bool], seconds: float) -> None:
    """Let Slicer handle events until a condition holds.

    Raises:
        AssertionError: It did not within the given time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"Nothing happened within {seconds:.0f} s.")
        slicer.app.processEvents()


def canRun() -> bool:
    """Whether everything is installed that a run needs."""
    return not missingRequirements(readRequirements(_resources / "requirements.txt"))


def expect(condition: bool, message: str) -> None:
    """Raise AssertionError with a message unless a condition holds."""
    if not condition:
        raise AssertionError(message)


def checkOpening(logic: Any) -> None:
    """The panel opens, chooses the volume of the slice views and offers the bundled models."""
    volume = loadSample()
    with openPanel(logic) as panel:
        expect(panel.parameterNode.inputVolume is volume, "The volume in the slice views was not chosen.")
        expect(panel.models.current is not None, "No model is offered.")
        expect(panel.notReadyReason() == "", panel.notReadyReason())
        expect(panel.shortcuts.installed or slicer.util.mainWindow() is None, "The shortcuts are not installed.")


def checkMissingChoices(logic: Any) -> None:
    """Without a volume nothing can be segmented, and the button says why."""
    with openPanel(logic) as panel:
        expect(not panel.ui.segmentButton.enabled, "The button can be pressed without a volume.")
        expect(panel.ui.segmentButton.toolTip == panel.notReadyReason(), "The button does not say what is missing.")


def checkClosing(logic: Any) -> None:
    """Closing the scene empties the panel."""
    loadSample()
    with openPanel(logic) as panel:
        slicer.mrmlScene.Clear()
        expect(panel.parameterNode.inputVolume is None, "A volume of the closed scene is still chosen.")
        expect(not panel.ui.segmentButton.enabled, "The button can be pressed in an empty scene.")


def checkRun(logic: Any) -> None:
    """The bundled CT is segmented by the bundled model, and measured."""
    loadSample()
    with openPanel(logic) as panel:
        panel.segment()
        waitUntil(lambda: not panel.runs.running, RUN_SECONDS)
        node = panel.parameterNode.resultSegmentation
        expect(node is not None, panel.ui.statusLabel.text)
        waitUntil(lambda: bool(panel.result.table.rows), RUN_SECONDS)
        volumes = {row.title: row.volumeML for row in panel.result.table.rows}
        expect(volumes.get("Liver", 0.0) > LIVER_ML, f"The liver is missing or too small: {volumes}")


def checkSequence(logic: Any) -> None:
    """All frames of the bundled cine series are segmented, play with it, and tell the ventricular function."""
    browser = loadCine()
    with openPanel(logic) as panel:
        panel.parameterNode.modelName = "cardiac-mr-mini"
        panel.parameterNode.allFrames = True
        panel.segment()
        waitUntil(lambda: not panel.runs.running, RUN_SECONDS)
        node, function = panel.parameterNode.resultSegmentation, panel.result.function.function
        expect(node is not None, panel.ui.statusLabel.text)
        expect(function is not None, "The ventricular function is missing.")
        phases = (function.end_diastole, function.end_systole)
        expect(phases == (0, 1), f"End-diastole and end-systole are taken for frames {phases}.")
        expect(0.2 < function.left.ejection_fraction < 0.8, f"The ejection fraction is odd: {function.left}")
        for index in (1, 0):
            browser.SetSelectedItemNumber(index)
            slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
            shown = Provenance.recordedFrame(node)
            expect(shown is not None and shown.index == index, "The segmentation does not follow the browser.")


def checkCancel(logic: Any) -> None:
    """A cancelled run leaves the scene as it was."""
    loadSample()
    with openPanel(logic) as panel:
        before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
        panel.segment()
        waitUntil(lambda: panel.ui.progressBar.value > 0 or not panel.runs.running, RUN_SECONDS)
        expect(panel.runs.running, f"The run ended before it could be cancelled: {panel.ui.statusLabel.text}")
        panel.runs.cancel()
        waitUntil(lambda: not panel.runs.running, CANCEL_SECONDS)
        after = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
        expect(after == before, "A cancelled run has left a segmentation behind.")


CHECKS = (checkOpening, checkMissingChoices, checkClosing)
"""Checks that need nothing installed."""

RUN_CHECKS = (checkRun, checkSequence, checkCancel)
"""Checks that need torch and timm."""


def runChecks(logic: Any) -> list[str]:
    """Run the checks, each on an empty scene.

    Args:
        logic: UDFASegmentationLogic.

    Returns:
        What was checked, for a message.

    Raises:
        AssertionError: A check failed.
    """
    done = []
    checks = (*CHECKS, *RUN_CHECKS) if canRun() else CHECKS
    for check in checks:
        slicer.mrmlScene.Clear()
        check(logic)
        done.append(str(check.__doc__))
    if checks is CHECKS:
        _logger.warning("torch or timm is not installed: the checks of runs were left out.")
    return done
