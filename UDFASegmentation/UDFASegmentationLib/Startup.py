"""What the module tells the rest of Slicer once the application has started."""

from __future__ import annotations

import logging
from typing import Any

_logger = logging.getLogger(__name__)

_kept: list[Any] = []
"""Qt objects that have to live as long as Slicer runs."""

_told = False
"""Whether Slicer was told already. This file stays when the module is reloaded."""


def startUp() -> None:
    """Offer the effect UDFA Click, the sample data and the settings page, once.

    Each is independent of the others: what fails is written to the log, and the rest is still offered.
    """
    global _told
    if _told:
        return
    _told = True
    for offer in (_offerEffect, _offerSampleData, _offerSettings):
        try:
            offer()
        except Exception:
            _logger.exception("UDFA Segmentation: %s failed.", offer.__name__)


def _offerEffect() -> None:
    from UDFASegmentationLib.ClickRegistration import registerClickEffect

    registerClickEffect()


def _offerSampleData() -> None:
    from UDFASegmentationLib.SampleDataSources import registerSampleData

    registerSampleData()


def _offerSettings() -> None:
    from UDFASegmentationLib.SettingsPanel import addSettingsPanel

    _kept.append(addSettingsPanel())
