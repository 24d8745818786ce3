"""The text behind "Check environment": the doctor's report with what only Slicer knows on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from UDFASegmentationLib.EnvironmentCheck import Problem, bundledCore, installationProblems
from UDFASegmentationLib.InstallationServices import TorchInstaller
from UDFASegmentationLib.TritonGuard import tritonKeptOut


def environmentReport(facts: Sequence[str], doctor: Callable[[], str] | None = None) -> str:
    """Return the report, ready to be shown and copied. Imports torch; may be called on any thread.

    Args:
        facts: Lines about Slicer, from `slicerFacts`.
        doctor: Gives the core's report; None for `udfa doctor`.
    """
    return "\n".join([*facts, "", (doctor or doctorReport)()])


def doctorReport() -> str:
    """Return the report of `udfa doctor`."""
    from udfa.doctor import examine, format_report
    from udfa.environment import real_environment

    with tritonKeptOut():
        return format_report(examine(real_environment(expected_package=bundledCore())))


def slicerFacts(
    application: Any, torch: TorchInstaller, problems: Callable[[], list[Problem]] = installationProblems
) -> list[str]:
    """Return lines about Slicer, its PyTorch extension, and what would hinder an installation. Main thread only.

    Args:
        application: `slicer.app`.
        torch: The extension.
        problems: What would hinder an installation.
    """
    extension = "loaded" if torch.isAvailable() else "not installed"
    if extension != "loaded" and torch.isInstalled():
        extension = "installed, loaded after a restart"
    lines = [
        f"3D Slicer {application.applicationVersion}, revision {application.revision}, {application.platform}",
        f"PyTorch extension: {extension}",
    ]
    return lines + [f"Installing: {problem.text} {problem.advice}" for problem in problems()]
