"""The file in which a prepared data set records its cases, and in which a source names its labels."""

from __future__ import annotations

MANIFEST = "manifest.json"
"""In the folder of the data set. This module imports nothing, so that preparing data does not load torch."""
