"""The pixel grid on which a volume's slices are segmented: crop, size and tiles. Free of torch.

The Slicer module estimates time and memory from it before anything is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfa.config import SIZE_MULTIPLE, PreprocessingConfig

BODY_HU = -100.0
"""Voxels above this are taken as body when the air around the patient is cropped; it lies above -125, where data sets
with a clipped window put the air."""

SMALLEST_TILE = 160
"""Smaller slices are padded to this side, in network pixels: the bundled networks have seen none in training. On a
heart cropped to 96 x 96 pixels, unpadded, hardly anything was found."""


@dataclass(frozen=True)
class PlaneGrid:
    """How the slices of a canonical volume relate to the network's pixel grid.

    Attributes:
        shape: (H, W) of a native slice.
        crop: Native rows and columns that are segmented: (row start, row stop, column start, column stop).
        network_shape: (H, W) of the cropped slice at the network's in-plane spacing.
    """

    shape: tuple[int, int]
    crop: tuple[int, int, int, int]
    network_shape: tuple[int, int]


def plane_grid(
    array: NDArray[np.generic], spacing_mm: tuple[float, float, float], config: PreprocessingConfig
) -> PlaneGrid:
    """Choose crop and network size for a canonical (D, H, W) volume with spacing (D, H, W) in mm."""
    height, width = int(array.shape[1]), int(array.shape[2])
    crop = (0, height, 0, width)
    if config.modality == "CT" and config.crop_to_body:
        crop = _body_box(array)
    size = (crop[1] - crop[0], crop[3] - crop[2])
    finest = config.finest_spacing_mm or 0.0
    # Pixels that are as fine as that but for rounding in the header stay as they are.
    wanted = [config.in_plane_spacing_mm or (s if s > 0.999 * finest else finest) for s in spacing_mm[1:]]
    scaled = [max(1, round(n * s / w)) for n, s, w in zip(size, spacing_mm[1:], wanted)]
    return PlaneGrid((height, width), crop, (scaled[0], scaled[1]))


def _body_box(array: NDArray[np.generic], margin: int = 4) -> tuple[int, int, int, int]:
    """In-plane bounding box of everything denser than air, with a margin; the whole slice if there is nothing."""
    step = max(1, array.shape[0] // 64)
    dense = np.zeros(array.shape[1:], dtype=np.intp)
    for plane in array[::step]:
        dense += plane > BODY_HU
    # A single bright pixel (noise, wire) must not widen the box: at least 1 % of a row or column has to be dense.
    rows = np.flatnonzero((dense > 0).mean(axis=1) > 0.01)
    columns = np.flatnonzero((dense > 0).mean(axis=0) > 0.01)
    height, width = int(array.shape[1]), int(array.shape[2])
    if len(rows) == 0 or len(columns) == 0:
        return (0, height, 0, width)
    return (
        max(0, int(rows[0]) - margin),
        min(height, int(rows[-1]) + 1 + margin),
        max(0, int(columns[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
    )


def tile_side(network_shape: tuple[int, int], tile_size: int) -> int:
    """Side of the square tile for slices of (h, w).

    Just large enough, a multiple of 32, at least SMALLEST_TILE, at most tile_size.
    """
    needed = -(-max(network_shape) // SIZE_MULTIPLE) * SIZE_MULTIPLE
    return min(max(needed, SMALLEST_TILE), tile_size)


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First pixels of tiles that cover `length` pixels with at least the given overlap; [0] if one tile is enough."""
    if length <= tile:
        return [0]
    stride = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // stride) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]
