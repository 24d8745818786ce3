"""The record of which model made a segmentation.

Node attributes describe the latest run and are kept in scenes; segment tags are kept in .seg.nrrd files too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import udfa
from UDFASegmentationLib.SequenceFrames import Frame

if TYPE_CHECKING:
    from udfa.inference import SegmentationResult
    from UDFASegmentationLib.Contracts import LoadedModel

MODEL = "UDFA.Model"
MODEL_SHA256 = "UDFA.ModelSHA256"
VERSION = "UDFA.Version"
DEVICE = "UDFA.Device"
SECONDS = "UDFA.Seconds"
EMPTY_LABELS = "UDFA.EmptyLabels"
"""Names of the labels that the model did not find, separated by commas."""
NOTES = "UDFA.Notes"
"""Warnings about the input, and what happened during the run, one a line."""

FRAME = "UDFA.Frame"
"""Frame of a sequence that was segmented, counted from 1, such as "2/20 phase end-systole"."""

_TAG_SEPARATORS = str.maketrans({"|": "_", ":": "_"})
"""Characters that separate tags in .seg.nrrd files."""


def describeRun(
    node: Any, model: LoadedModel, result: SegmentationResult, emptyLabels: list[str], notes: list[str]
) -> None:
    """Record on a segmentation node how its latest segments came about."""
    values = {
        MODEL: model.name,
        MODEL_SHA256: model.contentSha256,
        VERSION: udfa.__version__,
        DEVICE: result.plan.describe(),
        SECONDS: f"{result.seconds:.1f}",
        EMPTY_LABELS: ", ".join(emptyLabels),
        NOTES: "\n".join([*result.warnings, *notes]),
    }
    for name, value in values.items():
        node.SetAttribute(name, value)


def describeFrame(node: Any, frame: Optional[Frame]) -> None:
    """Record on a segmentation node which frame of a sequence was segmented; None for other volumes."""
    if frame is None:
        node.RemoveAttribute(FRAME)
    else:
        node.SetAttribute(FRAME, f"{frame.index + 1}/{frame.count} {frame.value}".rstrip())


def recordedFrame(node: Any) -> Optional[Frame]:
    """Return the frame that `describeFrame` recorded; None if there is none, or an unreadable one."""
    position, _separator, value = (node.GetAttribute(FRAME) or "").partition(" ")
    number, _slash, count = position.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        return None
    return Frame(int(number) - 1, int(count), value)


def describeSegment(segment: Any, model: LoadedModel) -> None:
    """Record on a segment which model made it."""
    for name, value in ((MODEL, model.name), (MODEL_SHA256, model.contentSha256), (VERSION, udfa.__version__)):
        segment.SetTag(name, value.translate(_TAG_SEPARATORS))
