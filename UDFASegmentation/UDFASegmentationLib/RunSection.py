"""Segment and Cancel: one run from the button to the finished segmentation, with its progress."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol

import slicer
import slicer.util
from slicer.i18n import tr as _

from udfa.checkpoint import CheckpointInfo
from udfa.errors import UDFAError
from UDFASegmentationLib.Contracts import LoadedModel, SegmentationSettings
from UDFASegmentationLib.Installation import Result as InstallationResult
from UDFASegmentationLib.RunEstimate import durationText
from UDFASegmentationLib.RunSource import RunSource, readSource
from UDFASegmentationLib.SegmentationRun import Failure, RunHandle, RunListener, SegmentationRun
from UDFASegmentationLib.SequenceFrames import Frame

if TYPE_CHECKING:
    from udfa.inference import SegmentationResult

_logger = logging.getLogger(__name__)


class Installer(Protocol):
    """Makes sure that the network can run; `Installation.Installation`, or a fake in tests."""

    def ensureReady(self) -> InstallationResult:
        """Install what is missing, after asking. Main thread."""

    def resumePending(self) -> Optional[InstallationResult]:
        """Go on with an installation that waited for a restart; None if none does. Main thread."""


class ModelSource(Protocol):
    """Loads checkpoints; `SegmentationLogic.SegmentationLogic`, or a fake in tests."""

    def model(self, nameOrPath: Path, device: str, precision: str) -> LoadedModel:
        """Return a loaded checkpoint. Executor thread."""


@dataclass(frozen=True)
class RunRequest:
    """What a run needs.

    Attributes:
        volumeNode: Volume to segment.
        info: The checkpoint.
        settings: The user's choices.
        precision: auto, float32, float16 or bfloat16.
    """

    volumeNode: Any
    info: CheckpointInfo
    settings: SegmentationSettings
    precision: str = "auto"


@dataclass(frozen=True)
class RunOutcome:
    """What a run left in the scene.

    Attributes:
        request: What was asked for.
        result: Arrays, plan and seconds; of several frames those of the first.
        segmentationNode: Node with the new segments.
        frame: The frame that was segmented; None outside of sequences, and when all frames were.
    """

    request: RunRequest
    result: SegmentationResult
    segmentationNode: Any
    frame: Optional[Frame] = None


class RunSection:
    """Drives runs and shows how they go.

    Args:
        ui: The panel's widgets.
        run: The executor.
        models: Loads checkpoints.
        warmUp: Imports what is slow to import; called on the executor thread before the first run.
        installer: Installs what is missing; None when nothing has to be installed.
        onStateChanged: Called when a run begins or ends.
        onFinished: Called with what a successful run left in the scene.
    """

    def __init__(
        self,
        ui: Any,
        run: SegmentationRun,
        models: ModelSource,
        warmUp: Callable[[], Any],
        installer: Optional[Installer],
        onStateChanged: Callable[[], None],
        onFinished: Callable[[RunOutcome], None],
    ) -> None:
        self._ui = ui
        self._run = run
        self._models = models
        self._warmUp = warmUp
        self._installer = installer
        self._onStateChanged = onStateChanged
        self._onFinished = onFinished
        self._request: Optional[RunRequest] = None
        ui.cancelButton.connect("clicked()", self.cancel)
        self._showRunning(False)

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._request is not None

    @property
    def volumeNode(self) -> Optional[Any]:
        """The volume that is being segmented."""
        return self._request.volumeNode if self._request is not None else None

    def resumeInstallation(self) -> None:
        """Go on with an installation that waited for Slicer's restart, and say how it went."""
        if self._installer is None or self.running:
            return
        result = self._installer.resumePending()
        if result is not None:
            self.showStatus(_("Everything is installed.") if result.ready else result.message)

    def start(self, request: RunRequest) -> None:
        """Begin a run; does nothing while one is under way. Errors are shown in the panel."""
        if self.running:
            return
        try:
            # Read at once: a sequence may move on while torch is imported or installed.
            source = readSource(request.volumeNode, request.settings.allFrames)
        except UDFAError as error:
            self._end(str(error))
            return
        self._request = request
        self._showRunning(True)
        self.showStatus(_("Preparing..."))
        self._onStateChanged()
        warmUp = self._warmUp
        self._run.start(lambda handle: warmUp(), self._listener(lambda value: self._segment(request, source)))

    def cancel(self) -> None:
        """Ask the run to stop; it does so after the present batch."""
        if self.running:
            self._ui.cancelButton.enabled = False
            self.showStatus(_("Cancelling..."))
            self._run.cancel()

    def drop(self, reason: str) -> None:
        """Stop the run and forget its result: its volume or its scene is gone."""
        if self.running:
            self._run.drop()
            self._end(reason)

    def showStatus(self, text: str) -> None:
        """Show one line (or some) below the progress bar."""
        self._ui.statusLabel.text = text
        self._ui.statusLabel.setVisible(bool(text))

    def _segment(self, request: RunRequest, source: RunSource) -> None:
        """Second half of a run, after torch was imported: installation if needed, then inference."""
        if self._installer is not None:
            installed = self._installer.ensureReady()
            if self._request is not request:
                # The scene was closed while a question was open.
                return
            if not installed.ready:
                self._end(installed.message)
                return
        # The thread must hold no node: the last one to let go of a deleted node destroys it.
        models, info, precision = self._models, request.info, request.precision
        settings = replace(request.settings, segmentationNode=None)

        def work(handle: RunHandle) -> tuple[LoadedModel, list[SegmentationResult]]:
            handle.progress(_("Loading the model..."))
            model = models.model(info.path, settings.device, precision)
            handle.progress(_("Segmenting..."))
            return model, source.run(model, settings, handle.progress, handle.cancelled)

        self._run.start(work, self._listener(lambda value: self._write(request, source, *value)))

    def _write(
        self, request: RunRequest, source: RunSource, model: LoadedModel, results: Sequence[SegmentationResult]
    ) -> None:
        """Last step, on the main thread: the only one that changes the scene."""
        target = request.settings.segmentationNode
        settings = request.settings
        if target is not None and (target.GetScene() is None or source.isPassedBy(target)):
            # The chosen segmentation was deleted meanwhile, or shows another frame; the result is worth keeping.
            settings = replace(settings, segmentationNode=None)
        try:
            with slicer.util.RenderBlocker():
                node = source.write(request.volumeNode, results, model, settings)
        except UDFAError as error:
            self._end(str(error))
            return
        self._end(_summary(results, source.frame))
        self._onFinished(RunOutcome(request, results[0], node, source.frame))

    def _listener(self, onDone: Callable[[Any], None]) -> RunListener:
        def goOn(value: Any) -> None:
            try:
                onDone(value)
            except Exception as error:
                if not self.running:
                    raise
                # Otherwise the panel would wait for ever for a run that is over.
                self._fail(Failure(error, traceback.format_exc()))

        return RunListener(self._showProgress, goOn, self._fail, lambda: self._end(_("Cancelled; nothing changed.")))

    def _showProgress(self, value: Any) -> None:
        """Show a sentence, or a `udfa.inference.Progress`."""
        if self._ui.cancelButton.enabled is False:
            return
        if isinstance(value, str):
            self.showStatus(value)
            return
        self._ui.progressBar.maximum = max(1, value.total)
        self._ui.progressBar.value = value.done
        self.showStatus(value.message or progressText(value.done, value.total, value.seconds_left))

    def _fail(self, failure: Failure) -> None:
        """Expected errors go into the panel; unexpected ones also open a box with the details to copy."""
        self._end(str(failure.error) or type(failure.error).__name__)
        if not isinstance(failure.error, UDFAError):
            _logger.error("Segmentation failed.\n%s", failure.details)
            slicer.util.errorDisplay(
                _("The segmentation failed: {error}").format(error=failure.error), detailedText=failure.details
            )

    def _end(self, text: str) -> None:
        self._request = None
        self._showRunning(False)
        self.showStatus(text)
        self._onStateChanged()

    def _showRunning(self, running: bool) -> None:
        ui = self._ui
        ui.segmentButton.setVisible(not running)
        ui.cancelButton.setVisible(running)
        ui.cancelButton.enabled = True
        ui.progressBar.setVisible(running)
        # Without a maximum the bar shows that something goes on.
        ui.progressBar.maximum = 0 if running else 1
        ui.progressBar.value = 0


def _summary(results: Sequence[SegmentationResult], frame: Optional[Frame]) -> str:
    """What a run did, in lines: how long it took, what was segmented, and each warning once."""
    seconds = sum(result.seconds for result in results)
    lines = [_("Done in {seconds:.0f} s ({plan}).").format(seconds=seconds, plan=results[-1].plan.describe())]
    if frame is not None:
        lines.append(_("Segmented: {frame}.").format(frame=frame.title))
    elif len(results) > 1:
        lines.append(_("Segmented: all {count} frames.").format(count=len(results)))
    return "\n".join([*lines, *dict.fromkeys(warning for result in results for warning in result.warnings)])


def progressText(done: int, total: int, secondsLeft: Optional[float]) -> str:
    """Return a line such as "Slice 37/112, 12 s left"."""
    text = _("Slice {done}/{total}").format(done=done, total=total)
    return text if secondsLeft is None else _("{text}, {time} left").format(text=text, time=durationText(secondsLeft))
