"""Where the probe finds OpenGL: views can be drawn without a display, and torch's companions can be imported after."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headless.requirements import rendering_environment

pytestmark = pytest.mark.rendering

ROOT = Path(__file__).parents[3]
DRAW = """
import vtk
renderer, window, grab = vtk.vtkRenderer(), vtk.vtkRenderWindow(), vtk.vtkWindowToImageFilter()
renderer.SetBackground(0.0, 1.0, 0.0)
window.SetOffScreenRendering(1)
window.SetSize(32, 32)
window.AddRenderer(renderer)
window.Render()
grab.SetInput(window)
grab.Update()
print([grab.GetOutput().GetScalarComponentAsDouble(16, 16, 0, channel) for channel in range(3)])
"""
LOAD_MODEL = """
from pathlib import Path
from udfa.errors import CheckpointError
from UDFASegmentationLib.SegmentationLogic import loadModel
try:
    loadModel(Path("missing.safetensors"))
except CheckpointError:
    import sys
    print("timm" in sys.modules)
"""
SELF_TEST = """
from UDFASegmentationLib.SelfTest import selfTest
print(selfTest() == [])
"""


def run(code: str) -> str:
    """Run code in a process of its own, in which nothing was drawn or imported before."""
    environment = {**rendering_environment(), "PYTHONPATH": str(ROOT / "UDFASegmentation")}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_a_window_without_a_display_shows_its_background():
    assert run(DRAW).strip() == "[0.0, 255.0, 0.0]"


@pytest.mark.parametrize("code", [LOAD_MODEL, SELF_TEST], ids=["model", "self-test"])
def test_torch_and_its_companions_can_be_imported_after_something_was_drawn(code: str):
    assert run(DRAW + code).split()[-1] == "True"
