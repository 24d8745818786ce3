"""Check of a MetaImage file that its reader leaves out: damaged compressed data would be read as zeros, silently."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import IO

from udfa.errors import InvalidInputError

_BLOCK_BYTES = 1 << 16
"""Small: compressed zeros grow a thousandfold."""
_HEADER_LINES = 1000
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


def check_metaimage(path: Path) -> None:
    """Check that the compressed voxels of a `.mha` or `.mhd` file are whole.

    They are decompressed once, block by block, which also checks their checksum. What is not compressed or lies in
    several files is left to the reader.

    Raises:
        InvalidInputError: Truncated or damaged.
    """
    with path.open("rb") as file:
        header = _read_header(file)
        place = header.get("elementdatafile", "")
        if header.get("compresseddata", "").lower() != "true":
            return
        if place.upper() == "LOCAL":
            _decompress(file, path)
        elif (path.parent / place).is_file():
            with (path.parent / place).open("rb") as data:
                _decompress(data, path.parent / place)


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
