"""Keeps Slicer alive while torch's companions are imported on Linux.

Some of Mesa's OpenGL drivers (llvmpipe of remote desktops and virtual machines, and others) bring an LLVM library.
`triton`, which timm loads through torchvision where it is installed, brings another one, gets mixed up with the first,
and ends the process with a segmentation fault (see tensorflow/tensorflow#124205 for the same with another LLVM). Slicer
has always drawn something before torch is imported. Nothing here needs triton: it serves torch.compile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAPPED_FILES = Path("/proc/self/maps")
"""Lists the libraries of this process on Linux."""

LLVM_LIBRARIES = ("libLLVM", "libgallium")


@contextmanager
def tritonKeptOut() -> Iterator[None]:
    """Make `import triton` fail cleanly inside the block, where it would end the process; else do nothing."""
    if "triton" in sys.modules or not _openGLBroughtLLVM():
        yield
        return
    sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["triton"]


def _openGLBroughtLLVM() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mapped = MAPPED_FILES.read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return False
    return any(name in mapped for name in LLVM_LIBRARIES)
