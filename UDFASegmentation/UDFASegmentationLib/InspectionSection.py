"""What is known before a run: remarks on the chosen volume, and the expected time and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from udfa.checkpoint import CheckpointInfo
from udfa.errors import UDFAError
from UDFASegmentationLib.Chores import Chores
from UDFASegmentationLib.InputChecks import ERROR, INFO, Finding, checkFrame, checkInput, checkNode, visibleFindings
from UDFASegmentationLib.InputFacts import dicomFacts
from UDFASegmentationLib.RunEstimate import RunEstimate, estimateRun, measuredSecondsPerSlice
from UDFASegmentationLib.SequenceFrames import currentFrame
from UDFASegmentationLib.Settings import Settings
from UDFASegmentationLib.VolumeConversion import readVolume

INSPECT_DELAY_MS = 400
"""After the last change of the voxels, as when a sequence is played."""

CHORE = "inspect"
FRAME_STYLE = "QFrame#checkFrame {{ border: 1px solid {color}; border-radius: 3px; }}"
COLORS = {"error": "#c62828", "warning": "#e0a000", "info": "#7a9cc6"}


class InspectionSection(VTKObservationMixin):
    """Inspects the chosen volume for the chosen model in the background.

    Args:
        ui: The panel's widgets.
        chores: Does the inspection.
        settings: Knows the speed of earlier runs.
        onInspected: Called when the remarks or the estimate have changed.
    """

    def __init__(self, ui: Any, chores: Chores, settings: Settings, onInspected: Callable[[], None]) -> None:
        super().__init__()
        import qt

        self._ui = ui
        self._chores = chores
        self._settings = settings
        self._onInspected = onInspected
        self._volumeNode: Optional[Any] = None
        self._info: Optional[CheckpointInfo] = None
        self._device = ""
        self._frameCount = 1
        self._findings: list[Finding] = []
        self._dismissed: set[str] = set()
        self.estimate: Optional[RunEstimate] = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(INSPECT_DELAY_MS)
        self._timer.connect("timeout()", self._inspectNow)
        ui.dismissCheckButton.connect("clicked()", self.dismiss)
        self._show()

    @property
    def blockingReason(self) -> str:
        """Why the volume cannot be segmented at all; empty when it can, as far as is known yet."""
        return next((finding.sentence() for finding in self._findings if finding.severity == ERROR), "")

    def inspect(
        self, volumeNode: Optional[Any], info: Optional[CheckpointInfo], device: str, frameCount: int = 1
    ) -> None:
        """Inspect a volume for a model, a device and a number of frames, unless that is what was inspected last."""
        sameVolume, sameModel = volumeNode is self._volumeNode, info == self._info
        if sameVolume and sameModel and (device, frameCount) == (self._device, self._frameCount):
            return
        if not (sameVolume and sameModel):
            self._dismissed.clear()
        self._volumeNode, self._info, self._device, self._frameCount = volumeNode, info, device, frameCount
        if not sameVolume:
            self.removeObservers()
            if volumeNode is not None:
                self.addObserver(volumeNode, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._onVoxelsChanged)
        self._inspectNow()

    def forget(self) -> None:
        """Let go of the volume."""
        self.inspect(None, None, "")
        self._timer.stop()

    def cleanup(self) -> None:
        """Let go of everything; the object cannot be used any more."""
        self.forget()
        self._timer.disconnect("timeout()", self._inspectNow)

    def dismiss(self) -> None:
        """Hide the present remarks until another volume or model is chosen; errors stay."""
        self._dismissed.update(finding.key for finding in self._findings)
        self._show()

    def remember(self, seconds: float, devices: set[str]) -> None:
        """Remember how long a run of the inspected volume took."""
        if self.estimate is None or self._info is None:
            return
        speed = measuredSecondsPerSlice(self.estimate, seconds)
        for device in devices:
            self._settings.rememberSecondsPerSlice(self._info.content_sha256, self._speedName(device), speed)
        self._inspectNow()

    def _speedName(self, device: str) -> str:
        return f"{device}, {self._settings.read().precision}"

    def _onVoxelsChanged(self, caller: Any = None, event: Any = None) -> None:
        self._timer.start()

    def _inspectNow(self) -> None:
        self._timer.stop()
        node, info, device = self._volumeNode, self._info, self._device
        self._findings, self.estimate = [], None
        if node is not None and info is not None:
            self._findings = checkNode(node) + checkFrame(currentFrame(node), self._frameCount)
            if not self.blockingReason:
                self._request(node, info, device)
        self._show()

    def _request(self, node: Any, info: CheckpointInfo, device: str) -> None:
        """Have the voxels looked at in the background."""
        try:
            volume = readVolume(node, copy=True)
        except UDFAError as error:
            self._findings.append(Finding(ERROR, "unreadable", str(error)))
            return
        known, frameCount = list(self._findings), self._frameCount
        dicom = dicomFacts(node)
        speed = self._settings.secondsPerSlice(info.content_sha256, self._speedName(device))

        def work() -> tuple[list[Finding], Optional[RunEstimate]]:
            found = known + checkInput(volume, info.config, dicom)
            broken = any(finding.severity == ERROR for finding in found)
            return found, None if broken else estimateRun(volume, info.config, speed, device, frames=frameCount)

        self._chores.request(CHORE, work, self._take)

    def _take(self, inspected: tuple[list[Finding], Optional[RunEstimate]]) -> None:
        self._findings, self.estimate = inspected
        self._show()
        self._onInspected()

    def _show(self) -> None:
        shown = visibleFindings(self._findings, self._dismissed)
        ui = self._ui
        ui.checkFrame.setVisible(bool(shown))
        bullet = "\u2022 " if len(shown) > 1 else ""
        ui.checkLabel.text = "\n".join(f"{bullet}{finding.sentence()}" for finding in shown)
        ui.dismissCheckButton.setVisible(any(finding.severity != ERROR for finding in shown))
        worst = shown[0].severity if shown else INFO
        ui.checkFrame.setStyleSheet(FRAME_STYLE.format(color=COLORS[worst]))
        ui.estimateLabel.text = self.estimate.text() if self.estimate is not None else ""
        ui.estimateLabel.setVisible(self.estimate is not None)
        ui.segmentButton.setAccessibleDescription(ui.checkLabel.text or _("No remarks on the volume."))
