"""Whether slicer-core and offscreen OpenGL are here; tests that need them are skipped with a reason, or fail in CI."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from importlib.machinery import PathFinder

SLICER_VARIABLE = "UDFA_REQUIRE_SLICER"
RENDERING_VARIABLE = "UDFA_REQUIRE_RENDERING"
PROBE_SECONDS = 120

_PROBE = """
import vtk
window = vtk.vtkRenderWindow()
window.SetOffScreenRendering(1)
window.SetSize(32, 32)
window.AddRenderer(vtk.vtkRenderer())
window.Render()
print("renders with", window.GetClassName())
"""


@functools.cache
def missing_slicer() -> str:
    """Return why slicer-core cannot be used, or an empty string."""
    missing = [name for name in ("vtk", "slicer") if not _is_installed(name)]
    if not missing:
        return ""
    return (
        f"{' and '.join(missing)} not installed; 'pip install slicer-core' brings the real MRML (Python 3.10 to 3.13)."
    )


def _is_installed(name: str) -> bool:
    """Whether a package is there; a mere folder of that name, such as that of these tests, is none."""
    spec = PathFinder.find_spec(name)
    return spec is not None and spec.origin is not None


@functools.cache
def missing_rendering() -> str:
    """Return why nothing can be rendered, or an empty string.

    Without a usable OpenGL, VTK ends the process with a segmentation fault, so it is tried in another process.
    """
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], env=rendering_environment(), capture_output=True, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"A first offscreen render took more than {PROBE_SECONDS} s."
    if probe.returncode == 0 and b"renders with" in probe.stdout:
        return ""
    return f"No offscreen OpenGL (exit code {probe.returncode}); on Debian: apt-get install libegl1 libgl1-mesa-dri."


def rendering_environment() -> dict[str, str]:
    """Return the environment in which VTK renders without a display."""
    return (
        {"VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow", **os.environ} if sys.platform == "linux" else {**os.environ}
    )


def is_required(variable: str) -> bool:
    """Whether an environment variable demands that nothing is skipped."""
    return os.environ.get(variable, "") not in ("", "0")
