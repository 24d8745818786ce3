"""The record of which model made a segmentation.

Node attributes describe the latest run and are kept in scenes; segment tags are kept in .seg.nrrd files too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import udfa

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


def describeSegment(segment: Any, model: LoadedModel) -> None:
    """Record on a segment which model made it."""
    for name, value in ((MODEL, model.name), (MODEL_SHA256, model.contentSha256), (VERSION, udfa.__version__)):
        segment.SetTag(name, value.translate(_TAG_SEPARATORS))
