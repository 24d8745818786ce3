"""What is recorded with every result of the command line: software, time, image, checkpoint."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import udfa

if TYPE_CHECKING:
    from udfa.checkpoint import CheckpointInfo


def origin(image: Path, info: CheckpointInfo) -> dict[str, Any]:
    """Return where a result comes from, in JSON types. Folders are left out."""
    return {
        "software": f"udfa {udfa.__version__}",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "input": image.name,
        "checkpoint": {
            "name": info.name,
            "task": info.config.task,
            "content_sha256": info.content_sha256,
            "licence": info.licence,
            "intended_use": info.intended_use,
        },
    }
