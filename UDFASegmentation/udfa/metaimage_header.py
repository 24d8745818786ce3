"""Check of a MetaImage file that its reader leaves out: what is damaged or missing would be read as zeros, silently."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import IO

from udfa.errors import InvalidInputError

_BLOCK_BYTES = 1 << 16
"""Small: compressed zeros grow a thousandfold."""
_HEADER_LINES = 1000
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_VOXEL_BYTES = {"char": 1, "short": 2, "int": 4, "long": 4, "long_long": 8, "float": 4, "double": 8}
"""By the type's name without met_ and u; long has 4 bytes at least."""


def check_metaimage(path: Path) -> None:
    """Check that the voxels of a `.mha` or `.mhd` file are whole.

    Compressed ones are decompressed once, block by block, which also checks their checksum. Of others the bytes are
    counted: SimpleITK before 2.4 does not. What lies in several files is left to the reader.

    Raises:
        InvalidInputError: Truncated or damaged.
    """
    with path.open("rb") as file:
        header = _read_header(file)
        place = header.get("elementdatafile", "")
        if place.upper() == "LOCAL":
            _check_voxels(file, path, header)
        elif (path.parent / place).is_file():
            with (path.parent / place).open("rb") as data:
                _check_voxels(data, path.parent / place, header)


def _check_voxels(file: IO[bytes], path: Path, header: dict[str, str]) -> None:
    """Check voxels that begin where the file stands."""
    if header.get("compresseddata", "").lower() == "true":
        _decompress(file, path)
        return
    expected, found = _expected_bytes(header), path.stat().st_size - file.tell()
    if found < expected:
        raise InvalidInputError(
            f"{path} is truncated: {expected} bytes of voxels expected, {found} found. Copy or export it again."
        )


def _expected_bytes(header: dict[str, str]) -> int:
    """Bytes of uncompressed voxels; 0 when the header does not tell, which is left to the reader."""
    kind = header.get("elementtype", "").lower().replace("met_", "").removeprefix("u")
    lengths = [*header.get("dimsize", "").split(), header.get("elementnumberofchannels", "1")]
    if header.get("binarydata", "true").lower() != "true" or not all(length.isdecimal() for length in lengths):
        return 0
    return math.prod(map(int, lengths)) * _VOXEL_BYTES.get(kind, 0)


def _read_header(file: IO[bytes]) -> dict[str, str]:
    """Entries by name in lower case; the file stands behind the last one, ElementDataFile. Empty if there is none."""
    header: dict[str, str] = {}
    for _ in range(_HEADER_LINES):
        name, equals, value = file.readline(_BLOCK_BYTES).decode("utf-8", errors="replace").partition("=")
        if not equals:
            return {}
        header[name.strip().lower()] = value.strip()
        if "elementdatafile" in header:
            return header
    return {}


def _decompress(file: IO[bytes], path: Path) -> None:
    stream = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        while not stream.eof and (block := file.read(_BLOCK_BYTES)):
            stream.decompress(block)
    except zlib.error as error:
        raise InvalidInputError(f"{path} is truncated or damaged ({error}). Copy or export it again.") from error
    if not stream.eof:
        raise InvalidInputError(f"{path} is truncated: its compressed data has no end. Copy or export it again.")
