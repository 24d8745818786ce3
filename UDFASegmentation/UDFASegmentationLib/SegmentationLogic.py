"""Segments volume nodes: read on the main thread, run on any thread, write on the main thread.

A script calls `SegmentationLogic().segmentVolume(...)`. A widget runs the three parts itself, the middle one on a
worker thread: `readVolume`, `runEngine`, `writeResult`; for all frames of a sequence `readFrames`, `runFrames`,
`writeSequence`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from udfa.errors import CancelledError, InvalidInputError
from UDFASegmentationLib.Contracts import LoadedModel, SegmentationSettings
from UDFASegmentationLib.ModelPool import sharedModel
from UDFASegmentationLib.SegmentationWriter import checkTarget, writeResult
from UDFASegmentationLib.SequenceFrames import Frame, allFrames, currentFrame, frameVolume
from UDFASegmentationLib.SequenceWriter import writeSequence
from UDFASegmentationLib.TritonGuard import tritonKeptOut
from UDFASegmentationLib.VolumeConversion import readVolume

if TYPE_CHECKING:
    from udfa.geometry import Volume
    from udfa.inference import CancelCheck, Progress, ProgressCallback, SegmentationResult


def resolveModel(nameOrPath: Union[str, Path, None] = None) -> Path:
    """Return the file of a checkpoint given by name or path, or of the default checkpoint; does not import torch.

    Raises:
        CheckpointError: There is no such checkpoint.
    """
    from udfa.models import resolve_model

    return nameOrPath if isinstance(nameOrPath, Path) else resolve_model(nameOrPath)


def loadModel(path: Path, device: str = "auto", precision: str = "auto") -> LoadedModel:
    """Load a checkpoint. Imports torch; may be called on any thread.

    Args:
        path: The file, see `resolveModel`.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, float32, float16 or bfloat16.

    Raises:
        CheckpointError: The checkpoint is missing or cannot be used.
        InvalidInputError: The device is not available.
    """
    with tritonKeptOut():
        from udfa.checkpoint import load_checkpoint
        from udfa.devices import make_plan
        from udfa.inference import Segmenter

    plan = make_plan(device, precision=precision)
    checkpoint = load_checkpoint(path)
    info = checkpoint.info
    return LoadedModel(Segmenter.from_checkpoint(checkpoint, plan), info.labels, info.name, info.content_sha256)


def runEngine(
    model: LoadedModel,
    volume: Volume,
    settings: SegmentationSettings,
    progress: Optional[ProgressCallback] = None,
    cancelled: Optional[CancelCheck] = None,
) -> SegmentationResult:
    """Segment a volume that `readVolume` returned. Touches no MRML; may be called on any thread.

    Raises:
        InvalidInputError: The volume or a label name cannot be used.
        CancelledError: `cancelled` returned True.
    """
    with tritonKeptOut():
        from udfa.inference import SegmentOptions

    options = SegmentOptions(
        labels=settings.labels, uncertainty=settings.uncertainty, remove_islands=settings.removeIslands
    )
    result = model.engine.segment(volume, options, progress, cancelled)
    if cancelled is not None and cancelled():
        raise CancelledError("Segmentation was cancelled; nothing was changed.")
    return result


def readFrames(volumeNode: Any) -> tuple[list[Frame], list[Volume]]:
    """Copy the voxels of all frames of the sequence that a volume shows. Call it on the main thread.

    Returns:
        The frames and their volumes, in the order of the sequence.

    Raises:
        InvalidInputError: The volume shows no sequence, or a frame cannot be used.
    """
    frames = allFrames(volumeNode)
    if len(frames) < 2:
        raise InvalidInputError(
            f"The volume '{volumeNode.GetName()}' does not show a sequence of several frames. Load the images as a "
            f"volume sequence, or segment the volume alone."
        )
    return frames, [readVolume(frameVolume(volumeNode, frame), copy=True) for frame in frames]


def runFrames(
    model: LoadedModel,
    volumes: Sequence[Volume],
    settings: SegmentationSettings,
    progress: Optional[ProgressCallback] = None,
    cancelled: Optional[CancelCheck] = None,
) -> list[SegmentationResult]:
    """Segment the frames that `readFrames` returned, without uncertainty. Touches no MRML; may be called on any thread.

    Progress is that of all frames together.

    Raises:
        InvalidInputError: A frame or a label name cannot be used.
        CancelledError: `cancelled` returned True.
    """
    settings, results = replace(settings, uncertainty=False), []
    began = time.monotonic()
    for index, volume in enumerate(volumes):

        def report(value: Progress, before: int = index) -> None:
            if progress is not None:
                progress(value.of_series(before, len(volumes), time.monotonic() - began))

        results.append(runEngine(model, volume, settings, report, cancelled))
    return results


class SegmentationLogic:
    """Segments volume nodes. Keeps the model that was used last, so that the next run starts at once."""

    def __init__(self) -> None:
        self._loaded: Optional[LoadedModel] = None
        self._loadedAs: Optional[tuple[Any, ...]] = None

    def segmentVolume(
        self,
        volumeNode: Any,
        model: Union[LoadedModel, str, Path, None] = None,
        settings: Optional[SegmentationSettings] = None,
        progress: Optional[ProgressCallback] = None,
        cancelled: Optional[CancelCheck] = None,
    ) -> Any:
        """Segment a volume node and wait for the result.

        Args:
            volumeNode: vtkMRMLScalarVolumeNode of any orientation, under any parent transform.
            model: Name or path of a checkpoint, a loaded model, or None for the default checkpoint.
            settings: The user's choices; None segments all labels into a new segmentation node.
            progress: Called after each batch.
            cancelled: Asked before each batch and before writing; True stops the run.

        Returns:
            vtkMRMLSegmentationNode with one segment per label that was found, in label order.

        Raises:
            UDFAError: The volume, the model or a setting cannot be used, or the run was cancelled. The scene is then
                as it was before.
        """
        settings = settings or SegmentationSettings()
        volume, frame = readVolume(volumeNode), currentFrame(volumeNode)
        checkTarget(settings.segmentationNode, volumeNode)
        loaded = model if isinstance(model, LoadedModel) else self.model(model, settings.device)
        result = runEngine(loaded, volume, settings, progress, cancelled)
        return writeResult(volumeNode, result, loaded, settings, frame)

    def segmentSequence(
        self,
        volumeNode: Any,
        model: Union[LoadedModel, str, Path, None] = None,
        settings: Optional[SegmentationSettings] = None,
        progress: Optional[ProgressCallback] = None,
        cancelled: Optional[CancelCheck] = None,
    ) -> Any:
        """Segment all frames of the sequence that a volume node shows, and wait for the result.

        Args:
            volumeNode: The sequence's proxy volume.
            model: Name or path of a checkpoint, a loaded model, or None for the default checkpoint.
            settings: The user's choices; those of where to write and of uncertainty are of no matter.
            progress: Called after each batch.
            cancelled: Asked before each batch and before writing; True stops the run.

        Returns:
            vtkMRMLSegmentationNode that shows the segmentation of the frame that the volume shows.

        Raises:
            UDFAError: The sequence, the model or a setting cannot be used, or the run was cancelled. The scene is then
                as it was before.
        """
        settings = settings or SegmentationSettings()
        frames, volumes = readFrames(volumeNode)
        loaded = model if isinstance(model, LoadedModel) else self.model(model, settings.device)
        results = runFrames(loaded, volumes, settings, progress, cancelled)
        return writeSequence(volumeNode, frames, results, loaded, settings)

    def model(
        self, nameOrPath: Union[str, Path, None] = None, device: str = "auto", precision: str = "auto"
    ) -> LoadedModel:
        """Return a loaded checkpoint, loading it only when nobody in this process has it loaded. Any thread."""
        path = resolveModel(nameOrPath)
        asked = (path, path.stat().st_mtime_ns if path.exists() else 0, device, precision)
        if self._loaded is None or self._loadedAs != asked:
            self._loaded = sharedModel(path, device, precision, loadModel)
            self._loadedAs = asked
        return self._loaded
