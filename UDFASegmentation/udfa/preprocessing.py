"""From a volume to network input, and from tiles back to slices. Shared by inference, training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from udfa.config import SIZE_MULTIPLE, PreprocessingConfig

BODY_HU = -100.0
"""Voxels above this are taken as body when the air around the patient is cropped; it lies above -125, where data sets
with a clipped window put the air."""

STATISTICS_SAMPLE = 2_000_000
"""At most about this many voxels enter the MR intensity statistics."""


@dataclass(frozen=True)
class IntensityRule:
    """Linear intensity mapping with clipping: clip to [lower, upper], subtract shift, divide by scale."""

    lower: float
    upper: float
    shift: float
    scale: float

    def apply(self, array: NDArray[np.generic] | Tensor) -> Tensor:
        """Map intensities. Any shape -> float32 tensor of the same shape."""
        tensor = array if isinstance(array, Tensor) else torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        return (tensor.to(torch.float32).clamp(self.lower, self.upper) - self.shift) / self.scale


def intensity_rule(array: NDArray[np.generic], config: PreprocessingConfig) -> IntensityRule:
    """Return the intensity mapping of a (D, H, W) volume under a checkpoint's preprocessing.

    CT: the HU window is mapped to [0, 1], then mean and std are applied. MR: percentile clip, then z-score; both
    from the whole volume (from a regular subset of it when it is very large).
    """
    if config.modality == "CT":
        lower, upper = config.window_hu
        width = upper - lower
        return IntensityRule(lower, upper, lower + config.mean * width, config.std * width)
    step = max(1, round((array.size / STATISTICS_SAMPLE) ** (1 / 3)))
    sample = np.asarray(array[::step, ::step, ::step] if min(array.shape) >= step else array, dtype=np.float32)
    lower, upper = (float(p) for p in np.percentile(sample, config.percentiles))
    clipped = np.clip(sample, lower, upper)
    return IntensityRule(lower, upper, float(clipped.mean()), max(float(clipped.std()), 1e-6))


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
    if config.in_plane_spacing_mm is None:
        return PlaneGrid((height, width), crop, size)
    scaled = [max(1, round(n * s / config.in_plane_spacing_mm)) for n, s in zip(size, spacing_mm[1:])]
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


def network_slices(
    array: NDArray[np.generic], start: int, stop: int, grid: PlaneGrid, rule: IntensityRule, in_slices: int
) -> Tensor:
    """Return slices start..stop of a canonical volume as network input.

    Args:
        array: (D, H, W) canonical volume.
        start: First slice.
        stop: Slice after the last one.
        grid: Crop and network size.
        rule: Intensity mapping.
        in_slices: 3 for neighbours z-1, z, z+1 as channels (the edge slice repeats), 1 for z three times.

    Returns:
        (stop - start, 3, h, w) float32, with (h, w) = grid.network_shape.
    """
    depth = array.shape[0]
    first, last = (max(0, start - 1), min(depth, stop + 1)) if in_slices == 3 else (start, stop)
    row, row_end, column, column_end = grid.crop
    planes = resize_planes(rule.apply(array[first:last, row:row_end, column:column_end]), grid.network_shape)
    index = torch.arange(start, stop)
    if in_slices == 3:
        neighbours = torch.stack([(index - 1).clamp(min=0), index, (index + 1).clamp(max=depth - 1)], dim=1)
    else:
        neighbours = index[:, None].expand(-1, 3)
    return planes[neighbours - first]


def resize_planes(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resample planes bilinearly, with antialiasing when they shrink. (N, H, W) -> (N, h, w)."""
    if tuple(planes.shape[1:]) == shape:
        return planes
    return F.interpolate(planes[:, None], size=shape, mode="bilinear", antialias=True)[:, 0]


def tile_side(network_shape: tuple[int, int], tile_size: int) -> int:
    """Side of the square tile for slices of (h, w): just large enough, a multiple of 32, at most tile_size."""
    needed = -(-max(network_shape) // SIZE_MULTIPLE) * SIZE_MULTIPLE
    return min(needed, tile_size)


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First pixels of tiles that cover `length` pixels with at least the given overlap; [0] if one tile is enough."""
    if length <= tile:
        return [0]
    stride = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // stride) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def gaussian_window(tile: int) -> Tensor:
    """(tile, tile) blending weights: a Gaussian of sigma tile/8, the centre 1, at least 1e-3 everywhere."""
    x = torch.arange(tile, dtype=torch.float32) - (tile - 1) / 2
    profile = torch.exp(-0.5 * (x / (tile / 8)) ** 2)
    window = torch.outer(profile, profile)
    return (window / window.max()).clamp(min=1e-3)
