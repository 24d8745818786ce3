"""The report behind "Check environment"."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from UDFASegmentationLib.EnvironmentCheck import Problem
from UDFASegmentationLib.EnvironmentReport import environmentReport, slicerFacts

APPLICATION = SimpleNamespace(applicationVersion="5.12.3", revision="34567", platform="linux-amd64")


def extension(available, installed):
    return SimpleNamespace(isAvailable=lambda: available, isInstalled=lambda: installed)


@pytest.mark.parametrize(
    ("available", "installed", "told"),
    [(True, True, "loaded"), (False, True, "installed, loaded after a restart"), (False, False, "not installed")],
)
def test_the_state_of_the_pytorch_extension_is_told(available, installed, told):
    lines = slicerFacts(APPLICATION, extension(available, installed), list)
    assert lines == ["3D Slicer 5.12.3, revision 34567, linux-amd64", f"PyTorch extension: {told}"]


def test_what_would_hinder_an_installation_is_told():
    problem = Problem("disk", "1.0 GB are free.", "Free some.")
    assert slicerFacts(APPLICATION, extension(True, True), lambda: [problem])[-1] == (
        "Installing: 1.0 GB are free. Free some."
    )


def test_the_report_is_the_facts_and_then_the_doctor():
    assert environmentReport(["3D Slicer 5.12.3"], lambda: "all well") == "3D Slicer 5.12.3\n\nall well"


def test_the_doctor_of_this_python_finds_torch_and_the_bundled_package():
    report = environmentReport([])
    assert "udfa doctor" in report.lower()
    lines = [line for line in report.splitlines() if line.startswith("[")]
    assert any("torch:" in line for line in lines)
    assert not any(line.startswith("[fail] udfa") for line in lines)
