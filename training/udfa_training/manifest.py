"""The file in which a prepared data set records its cases, and in which a source names its labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from udfa.errors import InvalidInputError

MANIFEST = "manifest.json"
"""In the folder of the data set. This module does not import torch, so that preparing data does not load it."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        InvalidInputError: The file is no JSON, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path} must hold a JSON object, but holds a {type(content).__name__}.")
    return content
