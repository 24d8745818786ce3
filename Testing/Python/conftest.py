"""Applies to all tests: one thread, because the images are so small that more threads only wait for each other.

Also makes the package `doubles` importable.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

# Read when torch and numpy are first imported; test processes that tests start inherit it.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# This folder itself cannot be on the path: slicer-core would take the folder `slicer` in it for a part of its package
# `slicer`, and import every test file there.
_doubles = Path(__file__).parent / "doubles"
_spec = importlib.util.spec_from_file_location("doubles", _doubles / "__init__.py")
if _spec is not None and _spec.loader is not None and "doubles" not in sys.modules:
    sys.modules["doubles"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["doubles"])
