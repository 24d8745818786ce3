"""Builds the panel with Slicer's own services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from UDFASegmentationLib.EnvironmentCheck import torchState
from UDFASegmentationLib.SegmentationWidget import PanelServices, SegmentationWidget
from UDFASegmentationLib.Settings import applicationSettings
from UDFASegmentationLib.SlicerInstallers import slicerInstallation


def panelServices(logic: Any, requirementsFile: str) -> PanelServices:
    """Return what the panel works with in Slicer."""
    return PanelServices(
        settings=applicationSettings(),
        models=logic.segmentation,
        installer=slicerInstallation(Path(requirementsFile)),
        warmUp=torchState,
    )


def makePanel(ui: Any, logic: Any, requirementsFile: str) -> SegmentationWidget:
    """Return the panel for the widgets of the .ui file.

    Args:
        ui: Widgets by name.
        logic: UDFASegmentationLogic.
        requirementsFile: The module's Resources/requirements.txt.
    """
    return SegmentationWidget(ui, logic.getParameterNode, panelServices(logic, requirementsFile))
