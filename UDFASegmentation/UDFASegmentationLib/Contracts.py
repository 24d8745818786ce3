"""What the parts of the Slicer layer hand to each other. Nothing here imports torch or touches the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Protocol

from udfa.labels import Label

if TYPE_CHECKING:
    from udfa.geometry import Volume
    from udfa.inference import CancelCheck, ProgressCallback, SegmentationResult, SegmentOptions


class Engine(Protocol):
    """Segments arrays, knowing nothing of MRML: `udfa.inference.Segmenter`, or a fake in tests."""

    def segment(
        self,
        volume: Volume,
        options: Optional[SegmentOptions] = None,
        progress: Optional[ProgressCallback] = None,
        cancelled: Optional[CancelCheck] = None,
    ) -> SegmentationResult:
        """Segment a volume; may be called on any thread. See `udfa.inference.Segmenter.segment`."""
        ...


@dataclass(frozen=True)
class LoadedModel:
    """An engine, and what its results must be called.

    Attributes:
        engine: Segments volumes.
        labels: Labels 1..K in order.
        name: Name of the checkpoint, for the record.
        contentSha256: SHA-256 of the checkpoint's content, for the record.
    """

    engine: Engine
    labels: tuple[Label, ...]
    name: str
    contentSha256: str = ""


@dataclass(frozen=True)
class SegmentationSettings:
    """What the user can choose for a run in Slicer."""

    labels: Optional[tuple[str, ...]] = None
    """Names of the labels to segment; None segments all that the model has."""
    removeIslands: bool = True
    """Remove the small connected parts of the labels for which the checkpoint says that it helps."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps; used when the model is loaded."""
    segmentationNode: Optional[Any] = None
    """Segmentation node to add the segments to; None creates one."""
    replaceExisting: bool = False
    """Replace segments of the same name or ID in the given segmentation; otherwise they are kept beside the new."""
    closedSurface: bool = False
    """Also create the closed surfaces for 3D views."""
    allFrames: bool = False
    """Segment all frames of the sequence that the volume shows, instead of the frame that is shown."""
    uncertainty: bool = False
    """Also compute the per-voxel uncertainty; it is returned by the engine, not written by `writeResult`."""


def wantedLabels(model: LoadedModel, settings: SegmentationSettings) -> dict[int, Label]:
    """Return the labels that the user wants by their value in the labelmap, in the model's order."""
    names = settings.labels
    return {value: label for value, label in enumerate(model.labels, start=1) if names is None or label.name in names}
