"""From a volume to network input, and from tiles back to slices. Shared by inference, training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from udfa.config import PreprocessingConfig
from udfa.grid import BODY_HU, PlaneGrid, plane_grid, tile_side, tile_starts

__all__ = [
    "BODY_HU",
    "IntensityRule",
    "PlaneGrid",
    "gaussian_window",
    "intensity_rule",
    "network_slices",
    "plane_grid",
    "resize_planes",
    "tile_side",
    "tile_starts",
]

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
        # A copy in any case: a flipped view of one slice keeps its negative stride elsewhere, which torch refuses.
        tensor = array if isinstance(array, Tensor) else torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
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


def gaussian_window(tile: int) -> Tensor:
    """(tile, tile) blending weights: a Gaussian of sigma tile/8, the centre 1, at least 1e-6 everywhere.

    The floor is that of each axis (1e-3), not of the product: where the slice ends in one direction and all weights are
    small, tiles must still blend smoothly in the other.
    """
    x = torch.arange(tile, dtype=torch.float32) - (tile - 1) / 2
    profile = torch.exp(-0.5 * (x / (tile / 8)) ** 2)
    profile = (profile / profile.max()).clamp(min=1e-3)
    return torch.outer(profile, profile)
