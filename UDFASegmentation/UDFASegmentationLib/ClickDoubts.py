"""Goes from one doubtful slice to the next, for the effect; computes the uncertainty map where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import slicer
from slicer.i18n import tr as _

from udfa.errors import UDFAError
from UDFASegmentationLib.ClickModels import ClickServices
from UDFASegmentationLib.ClickTarget import ClickTarget
from UDFASegmentationLib.Contracts import SegmentationSettings
from UDFASegmentationLib.Provenance import recordedFrame
from UDFASegmentationLib.SegmentationRun import Failure, RunHandle, RunListener, SegmentationRun
from UDFASegmentationLib.SequenceFrames import Frame, currentFrame
from UDFASegmentationLib.UncertaintyReview import IMAGE_ROLE, SLICE_AXIS, UncertaintyReview, writeUncertainty
from UDFASegmentationLib.VolumeConversion import imageToNodeMatrix, readVolume

_logger = logging.getLogger(__name__)


class ClickDoubts:
    """Shows the slices on which the network was least sure, one after the other.

    Args:
        services: Models and settings.
        target: Returns what clicks would work on, or raises InvalidInputError.
        onChanged: Called after the status changed.
    """

    def __init__(
        self, services: ClickServices, target: Callable[[], ClickTarget], onChanged: Callable[[], None]
    ) -> None:
        self.status = ""
        self._services = services
        self._target = target
        self._onChanged = onChanged
        self._review = UncertaintyReview()
        self._run: Optional[SegmentationRun] = None

    @property
    def busy(self) -> bool:
        """Whether a map is being computed."""
        return self._run is not None and self._run.busy

    def next(self, volumeNode: Optional[Any]) -> None:
        """Move the slice views to the next doubtful slice of a volume."""
        if volumeNode is None:
            self._say(_("Choose the source volume of the segmentation."))
            return
        found = uncertaintyOf(volumeNode)
        if found is not None:
            self._say(self._review.next(found))
        elif not self.busy:
            try:
                self._compute(self._target())
            except UDFAError as error:
                self._say(str(error))

    def stop(self) -> None:
        """Stop computing: the tool is put away, or the scene closes."""
        if self.busy and self._run is not None:
            self._run.drop()
            self.status = ""

    def forget(self) -> None:
        """Let go of the nodes, too."""
        self.stop()
        self.status = ""
        self._review.forget()

    def shutdown(self) -> None:
        """End the thread; the object cannot be used any more."""
        self.forget()
        if self._run is not None:
            self._run.shutdown()

    def _compute(self, target: ClickTarget) -> None:
        """Segment the volume once more, for the sake of the uncertainty; no segment changes."""
        from UDFASegmentationLib.SegmentationLogic import runEngine

        preferences, services = self._services.preferences(), self._services
        volumeNode, entry = target.grid.volumeNode, target.entry
        volume, frame = readVolume(volumeNode, copy=True), currentFrame(volumeNode)
        settings = SegmentationSettings(uncertainty=True, removeIslands=False)

        def work(handle: RunHandle) -> Any:
            model = services.load(entry.path, preferences)
            return runEngine(model, volume, settings, handle.progress, handle.cancelled).uncertainty

        axis = "axial" if entry.info is None else entry.info.config.preprocessing.slice_axis
        listener = RunListener(
            onProgress=lambda p: self._say(_("Looking for doubt: slice {a}/{b}").format(a=p.done, b=p.total)),
            onDone=lambda uncertainty: self._show(volumeNode, uncertainty, axis, frame),
            onFailed=self._fail,
            onCancelled=lambda: self._say(""),
        )
        if self._run is None:
            self._run = SegmentationRun()
        self._run.start(work, listener)
        self._say(_("Looking for doubt ..."))

    def _show(self, volumeNode: Any, uncertainty: Any, axis: str, frame: Optional[Frame]) -> None:
        if volumeNode.GetScene() is None:
            self._say(_("The volume was deleted meanwhile."))
            return
        try:
            found = writeUncertainty(volumeNode, uncertainty, axis, frame=frame)
            moved = currentFrame(volumeNode) != frame
            self._say(_("Another frame is shown meanwhile.") if moved else self._review.next(found))
        except Exception as error:
            _logger.exception("The uncertainty could not be shown.")
            self._say(str(error))

    def _fail(self, failure: Failure) -> None:
        if not isinstance(failure.error, UDFAError):
            _logger.error("The uncertainty could not be computed:\n%s", failure.details)
        self._say(str(failure.error))

    def _say(self, text: str) -> None:
        self.status = text
        self._onChanged()


def uncertaintyOf(volumeNode: Any) -> Optional[Any]:
    """Return the newest uncertainty map in the scene of what a volume shows, on its grid; None if there is none."""
    className = "vtkMRMLScalarVolumeNode"
    scene = volumeNode.GetScene() or slicer.mrmlScene
    nodes = [scene.GetNthNodeByClass(n, className) for n in range(scene.GetNumberOfNodesByClass(className))]
    maps = [node for node in nodes if node.GetAttribute(SLICE_AXIS) and _sameGrid(node, volumeNode)]
    maps = [node for node in maps if _isAbout(node, volumeNode)]
    return maps[-1] if maps else None


def _isAbout(mapNode: Any, volumeNode: Any) -> bool:
    """Whether a map was computed for what a volume shows now."""
    frame = recordedFrame(mapNode)
    return mapNode.GetNodeReference(IMAGE_ROLE) is volumeNode and frame in (None, currentFrame(volumeNode))


def _sameGrid(mapNode: Any, volumeNode: Any) -> bool:
    """Whether two volumes have their voxels in the same places; the map's extent starts at 0."""
    image, source = mapNode.GetImageData(), volumeNode.GetImageData()
    if image is None or source is None or image.GetDimensions() != source.GetDimensions():
        return False
    if mapNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        return False
    expected = imageToNodeMatrix(volumeNode)
    expected[:3, 3] = (expected @ [*source.GetExtent()[::2], 1.0])[:3]
    return bool(np.allclose(imageToNodeMatrix(mapNode), expected, atol=1e-3))
