"""Finds the checkpoint that can correct a segmentation by clicks. Reads metadata only: no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from udfa.errors import InvalidInputError
from udfa.models import ModelEntry
from UDFASegmentationLib import Provenance
from UDFASegmentationLib.ClickLabels import LabelMatch, matchSegments
from UDFASegmentationLib.Contracts import LoadedModel
from UDFASegmentationLib.Settings import Preferences

if TYPE_CHECKING:
    from udfa.checkpoint import CheckpointInfo


@dataclass(frozen=True)
class ClickServices:
    """What the effect gets from outside.

    Attributes:
        models: Lists the checkpoints there are.
        load: Loads one; called on the executor thread.
        preferences: Reads the user's settings.
    """

    models: Callable[[], list[ModelEntry]]
    load: Callable[[Path, Preferences], LoadedModel]
    preferences: Callable[[], Preferences]


def slicerServices() -> ClickServices:
    """Return the services of a running Slicer. Who uses a network keeps it loaded; panel and effect share it."""
    from UDFASegmentationLib.ModelPool import sharedModel
    from UDFASegmentationLib.SegmentationLogic import loadModel
    from UDFASegmentationLib.Settings import applicationSettings

    settings = applicationSettings()

    def load(path: Path, preferences: Preferences) -> LoadedModel:
        return sharedModel(path, preferences.device, preferences.precision, loadModel)

    return ClickServices(lambda: installedModels(settings.read().extraCheckpoints), load, settings.read)


def installedModels(extraFiles: Sequence[str]) -> list[ModelEntry]:
    """Return the bundled checkpoints and those that the user added; files that cannot be read are left out."""
    from udfa.checkpoint import read_info
    from udfa.errors import UDFAError
    from udfa.models import list_models

    entries = list_models()
    for name in extraFiles:
        path = Path(name)
        try:
            entries.append(ModelEntry(path.stem, path, False, read_info(path)))
        except (UDFAError, OSError):
            continue
    return entries


def chooseModel(entries: Sequence[ModelEntry], segmentationNode: Any, selectedID: str) -> tuple[ModelEntry, LabelMatch]:
    """Return the checkpoint for clicks on a segment: the one that made it if possible, else the one that fits most.

    Raises:
        InvalidInputError: There is none; the message says why.
    """
    segmentation = segmentationNode.GetSegmentation()
    able = [(entry, entry.info) for entry in entries if entry.info is not None and takesClicks(entry.info)]
    if not able:
        raise InvalidInputError(_("No installed model takes clicks. Add one in the module UDFA Segmentation."))
    matches = [(entry, matchSegments(segmentation, info.labels)) for entry, info in able]
    fitting = [(entry, match) for entry, match in matches if selectedID in match.values]
    if not fitting:
        known = sorted({label.title for _entry, info in able for label in info.labels})
        text = _(
            "The segment '{name}' is not one of the structures that the installed models know: {known}. Choose another "
            "segment, or give it the name or terminology of one of these. (Two segments cannot be the same structure.)"
        )
        name = segmentation.GetSegment(selectedID).GetName()
        raise InvalidInputError(text.format(name=name, known=", ".join(known)))
    maker = segmentationNode.GetAttribute(Provenance.MODEL_SHA256) or "none"
    return max(fitting, key=lambda pair: (_hash(pair[0]) == maker, len(pair[1].values)))


def takesClicks(info: CheckpointInfo) -> bool:
    """Whether a checkpoint has a prompt encoder."""
    return info.config.network.prompt_channels is not None


def _hash(entry: ModelEntry) -> str:
    return "" if entry.info is None else entry.info.content_sha256
