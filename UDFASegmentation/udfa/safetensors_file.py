"""Safetensors files, trusting nothing in them. The header is read without safetensors and without torch.

Layout of the file: 8 bytes with the length of the header (little endian), the header as JSON, the tensors' bytes.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udfa.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

HEADER_LIMIT = 100_000_000
"""Longest plausible header in bytes (the format's own limit)."""

METADATA = "__metadata__"
"""Header entry with free text by name; all other entries are tensors."""

_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of torch.save's zip archives and of bare pickles."""


def read_header(path: Path) -> dict[str, Any]:
    """Return the JSON header after checking that the file is whole. Nothing in the file is executed.

    Raises:
        CheckpointError: Missing, unreadable, pickled, truncated, or no safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is no file. Check the path, or list the bundled models with 'udfa models'.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
            length = _header_length(start, path)
            if 8 + length > size:
                raise CheckpointError(f"{path} is truncated ({size} bytes). Copy or download it again.")
            raw = start[8:] + file.read(length - 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error
    header = _parse(raw, path)
    end = max((entry["data_offsets"][1] for key, entry in header.items() if key != METADATA), default=0)
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path} is truncated or has been appended to: {8 + length + end} bytes expected, {size} found. "
            f"Copy or download it again."
        )
    return header


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file; CheckpointError if it is not one, or is not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Copy or download it again.") from error


def _header_length(start: bytes, path: Path) -> int:
    """Length of the JSON header from the file's first 9 bytes."""
    if not start:
        raise CheckpointError(f"{path} is empty (0 bytes). Copy or download it again.")
    length = int(struct.unpack("<Q", start[:8])[0]) if len(start) == 9 else 0
    # A length may begin like a pickle by chance (640 is b"\x80\x02"); only the JSON's brace tells them apart.
    if 2 <= length <= HEADER_LIMIT and start[8:] == b"{":
        return length
    if start.startswith(_PICKLE_STARTS):
        raise CheckpointError(
            f"{path} is a pickle-based PyTorch file. It could run code when opened and is refused; "
            f"choose a .safetensors checkpoint of UDFA."
        )
    raise CheckpointError(f"{path} is not a safetensors file. Choose a .safetensors checkpoint of UDFA.")


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse the JSON and check what this package relies on: tensor offsets are a pair of integers, metadata is text."""
    try:
        header = json.loads(raw.decode("utf-8"))
        whole = isinstance(header, dict) and all(
            _is_text_table(entry) if key == METADATA else _has_offsets(entry) for key, entry in header.items()
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or damaged: its header is no JSON.") from error
    if not whole:
        raise CheckpointError(f"{path} is not a safetensors file, or damaged: its header has unexpected entries.")
    return dict(header)


def _is_text_table(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(value, str) for value in entry.values())


def _has_offsets(entry: Any) -> bool:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        return False
    return bool(0 <= offsets[0] <= offsets[1])
