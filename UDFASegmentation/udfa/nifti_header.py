"""Checks of a NIfTI file that its reader leaves out: truncated or damaged data would be read as zeros, silently."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Union

from udfa.errors import InvalidInputError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Layout:
    """Where the fields used here lie in a header: offset in bytes and struct code."""

    header_bytes: int
    dim: tuple[int, str]
    bits: tuple[int, str]
    pixdim: tuple[int, str]
    offset: tuple[int, str]


_LAYOUTS = (
    _Layout(348, (40, "8h"), (72, "h"), (76, "8f"), (108, "f")),
    _Layout(540, (16, "8q"), (14, "h"), (104, "8d"), (168, "q")),
)
"""NIfTI-1 and NIfTI-2."""


def check_nifti(path: Path) -> None:
    """Check that a `.nii` or `.nii.gz` file is whole and has a usable voxel spacing.

    A compressed file is decompressed once, block by block, which also checks its checksum.

    Raises:
        InvalidInputError: No NIfTI header, truncated, damaged, or spacing that is zero, negative or not finite.
    """
    compressed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            head = file.read(_LAYOUTS[-1].header_bytes)
            expected = _expected_bytes(head, path)
            found = _count_bytes(file, len(head)) if compressed else path.stat().st_size
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInputError(f"{path} is truncated or damaged ({error}). Copy or export it again.") from error
    if found < expected:
        raise InvalidInputError(f"{path} is truncated: {found} bytes of {expected} are there. Copy or export it again.")


def _expected_bytes(head: bytes, path: Path) -> int:
    """Bytes up to the last voxel, from the header; InvalidInputError if there is none or its spacing is unusable."""
    for layout in _LAYOUTS:
        for order in "<>":
            if len(head) >= layout.header_bytes and struct.unpack_from(order + "i", head)[0] == layout.header_bytes:
                return _data_end(head, layout, order, path)
    raise InvalidInputError(f"{path} is no NIfTI file: it has no such header. Export it again, or correct its name.")


def _data_end(head: bytes, layout: _Layout, order: str, path: Path) -> int:
    count, *sizes = (int(n) for n in _field(head, order, layout.dim))
    spacing = _field(head, order, layout.pixdim)[1:4][: max(0, count)]
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InvalidInputError(
            f"{path}: the voxel spacing in its header is {tuple(spacing)} mm, but must be positive. Correct the header."
        )
    offset = _field(head, order, layout.offset)[0]
    voxels = math.prod(max(1, n) for n in sizes[: max(0, count)])
    start = int(offset) if math.isfinite(offset) else 0
    return start + voxels * int(_field(head, order, layout.bits)[0]) // 8


def _field(head: bytes, order: str, place: tuple[int, str]) -> tuple[float, ...]:
    return struct.unpack_from(order + place[1], head, place[0])


def _count_bytes(file: Union[IO[bytes], gzip.GzipFile], count: int) -> int:
    """Read to the end; returns `count` plus the bytes read."""
    while block := file.read(_BLOCK_BYTES):
        count += len(block)
    return count
