"""What a run works on: a volume, or all frames of a sequence. Read and written on the main thread, run on any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from UDFASegmentationLib.Contracts import LoadedModel, SegmentationSettings
from UDFASegmentationLib.SegmentationLogic import readFrames, runEngine, runFrames
from UDFASegmentationLib.SegmentationWriter import writeResult
from UDFASegmentationLib.SequenceFrames import Frame, currentFrame
from UDFASegmentationLib.SequenceWriter import writeSequence
from UDFASegmentationLib.VolumeConversion import readVolume

if TYPE_CHECKING:
    from udfa.geometry import Volume
    from udfa.inference import CancelCheck, ProgressCallback, SegmentationResult


@dataclass(frozen=True)
class RunSource:
    """Voxels of a run's own, so that a sequence may move on and a volume may change meanwhile.

    Attributes:
        volumes: One volume, or all frames of a sequence.
        frames: The frames that they are; empty outside of sequences.
        allFrames: Whether all frames of the sequence were read.
    """

    volumes: Sequence[Volume]
    frames: Sequence[Frame]
    allFrames: bool = False

    @property
    def frame(self) -> Optional[Frame]:
        """The only frame; None outside of sequences, and when all frames were read."""
        return self.frames[0] if self.frames and not self.allFrames else None

    def isPassedBy(self, segmentationNode: Any) -> bool:
        """Whether a segmentation that goes through the frames of a sequence shows another one than this by now."""
        shown = currentFrame(segmentationNode)
        return self.frame is not None and shown is not None and shown.index != self.frame.index

    def run(
        self, model: LoadedModel, settings: SegmentationSettings, progress: ProgressCallback, cancelled: CancelCheck
    ) -> list[SegmentationResult]:
        """Segment. Touches no MRML."""
        if self.allFrames:
            return runFrames(model, self.volumes, settings, progress, cancelled)
        return [runEngine(model, self.volumes[0], settings, progress, cancelled)]

    def write(
        self, volumeNode: Any, results: Sequence[SegmentationResult], model: LoadedModel, settings: SegmentationSettings
    ) -> Any:
        """Write the results into the scene; returns the segmentation node."""
        if self.allFrames:
            return writeSequence(volumeNode, self.frames, results, model, settings)
        return writeResult(volumeNode, results[0], model, settings, self.frame)


def readSource(volumeNode: Any, allFrames: bool) -> RunSource:
    """Copy the voxels of a volume, or of all frames of the sequence that it shows.

    Raises:
        InvalidInputError: A volume cannot be used, or all frames are wanted of a volume that shows no sequence.
    """
    if allFrames:
        frames, volumes = readFrames(volumeNode)
        return RunSource(volumes, frames, allFrames=True)
    frame = currentFrame(volumeNode)
    return RunSource([readVolume(volumeNode, copy=True)], [] if frame is None else [frame])
