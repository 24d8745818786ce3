"""Checks of a NIfTI file that its reader leaves out: it reads missing or damaged voxels, and NaN, as 0, silently."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional, Union

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Layout:
    """Where the fields used here lie in a header: offset in bytes and struct code."""

    header_bytes: int
    dim: tuple[int, str]
    datatype: tuple[int, str]
    bits: tuple[int, str]
    pixdim: tuple[int, str]
    offset: tuple[int, str]


_LAYOUTS = (
    _Layout(348, (40, "8h"), (70, "h"), (72, "h"), (76, "8f"), (108, "f")),
    _Layout(540, (16, "8q"), (12, "h"), (14, "h"), (104, "8d"), (168, "q")),
)
"""NIfTI-1 and NIfTI-2."""

_FLOATS = {16: "f4", 64: "f8"}
"""Codes of the data types that can hold NaN, and what numpy calls them."""


@dataclass(frozen=True)
class _Voxels:
    """Where the voxels lie in the file, in bytes, and their type; None for integers."""

    start: int
    end: int
    floats: Optional[np.dtype[np.floating]]


def check_nifti(path: Path) -> None:
    """Check that a `.nii` or `.nii.gz` file is whole, has a usable voxel spacing and no NaN.

    The file is read once, block by block, which also checks the checksum of a compressed one.

    Raises:
        InvalidInputError: No NIfTI header, truncated, damaged, spacing that is zero, negative or not finite, or voxels
            that are NaN or infinite.
    """
    compressed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            voxels = _voxels(file.read(_LAYOUTS[-1].header_bytes), path)
            file.seek(voxels.start)
            found, broken = _read_through(file, voxels)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInputError(f"{path} is truncated or damaged ({error}). Copy or export it again.") from error
    if found < voxels.end:
        raise InvalidInputError(
            f"{path} is truncated: {found} bytes of {voxels.end} are there. Copy or export it again."
        )
    if broken:
        raise InvalidInputError(
            f"{path}: {broken} voxels are NaN or infinite. Replace them (Slicer: Simple Filters), or export it again."
        )


def _voxels(head: bytes, path: Path) -> _Voxels:
    """Where the voxels are, from the header; InvalidInputError if there is none or its spacing is unusable."""
    for layout in _LAYOUTS:
        for order in "<>":
            if len(head) >= layout.header_bytes and struct.unpack_from(order + "i", head)[0] == layout.header_bytes:
                return _from_header(head, layout, order, path)
    raise InvalidInputError(f"{path} is no NIfTI file: it has no such header. Export it again, or correct its name.")


def _from_header(head: bytes, layout: _Layout, order: str, path: Path) -> _Voxels:
    count, *sizes = (int(n) for n in _field(head, order, layout.dim))
    spacing = _field(head, order, layout.pixdim)[1:4][: max(0, count)]
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InvalidInputError(
            f"{path}: the voxel spacing in its header is {tuple(spacing)} mm, but must be positive. Correct the header."
        )
    offset = _field(head, order, layout.offset)[0]
    number = math.prod(max(1, n) for n in sizes[: max(0, count)])
    start = int(offset) if math.isfinite(offset) and offset > 0 else 0
    floats = _FLOATS.get(int(_field(head, order, layout.datatype)[0]))
    end = start + number * int(_field(head, order, layout.bits)[0]) // 8
    return _Voxels(start, end, None if floats is None else np.dtype(order + floats))


def _field(head: bytes, order: str, place: tuple[int, str]) -> tuple[float, ...]:
    return struct.unpack_from(order + place[1], head, place[0])


def _read_through(file: Union[IO[bytes], gzip.GzipFile], voxels: _Voxels) -> tuple[int, int]:
    """Read from the first voxel to the end. Returns the bytes of the file, and the voxels that are NaN or infinite."""
    count, broken, rest = file.tell(), 0, b""
    while block := file.read(_BLOCK_BYTES):
        if voxels.floats is not None:
            data = rest + block[: max(0, voxels.end - count)]
            whole = len(data) // voxels.floats.itemsize * voxels.floats.itemsize
            values: NDArray[np.floating] = np.frombuffer(data[:whole], voxels.floats)
            broken += int(np.count_nonzero(~np.isfinite(values)))
            rest = data[whole:]
        count += len(block)
    return count, broken
