"""Checks of the voxels before a run: errors for what cannot be segmented, warnings for what looks wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfa.config import PreprocessingConfig
from udfa.errors import InvalidInputError
from udfa.geometry import Volume, check_geometry

AIR_HU = -500.0
"""CT values below this are air or lung."""


def check_volume(volume: Volume, config: PreprocessingConfig) -> list[str]:
    """Check a volume against what a checkpoint expects.

    Args:
        volume: (D, H, W) scalar volume.
        config: The checkpoint's preprocessing.

    Returns:
        Warnings in plain words; empty when all looks right.

    Raises:
        InvalidInputError: Not a 3D scalar volume, empty, constant, with NaN or infinite voxels, or with an unusable
            geometry.
    """
    array = volume.array
    if array.ndim == 4:
        raise InvalidInputError(
            f"The volume has shape {array.shape}: it is 4D, or a colour or vector image. Give one scalar 3D volume."
        )
    if array.ndim != 3:
        raise InvalidInputError(f"The volume has shape {array.shape}, but a 3D volume (D, H, W) is needed.")
    if array.size == 0:
        raise InvalidInputError(f"The volume is empty (shape {array.shape}). Load it again.")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise InvalidInputError(f"Voxels are of type {array.dtype}, but integers or floats are needed.")
    check_geometry(volume)
    low, high = _finite_range(array)
    if low == high:
        raise InvalidInputError(f"All voxels of the volume are {low:g}. There is nothing to segment; check the import.")
    return _modality_warnings(array, low, high, config)


def _finite_range(array: NDArray[np.generic]) -> tuple[float, float]:
    """Minimum and maximum, slice by slice; InvalidInputError if a voxel is NaN or infinite."""
    low, high, broken = np.inf, -np.inf, 0
    for plane in array:
        plane_low, plane_high = float(plane.min()), float(plane.max())
        if not (np.isfinite(plane_low) and np.isfinite(plane_high)):
            broken += int(np.count_nonzero(~np.isfinite(plane)))
            continue
        low, high = min(low, plane_low), max(high, plane_high)
    if broken:
        raise InvalidInputError(
            f"{broken} voxels are NaN or infinite. Replace them (Slicer: Simple Filters, or re-export the image)."
        )
    return low, high


def _modality_warnings(array: NDArray[np.generic], low: float, high: float, config: PreprocessingConfig) -> list[str]:
    if config.modality == "CT":
        if low > -50:
            return [
                f"This model expects CT in Hounsfield units, but the lowest value is {low:g} (air should be near "
                f"-1000). If this is MR, or CT without rescaling, the result will be wrong."
            ]
        if high < 50:
            return [f"This model expects CT, but the highest value is {high:g} HU: there is no soft tissue or bone."]
        return []
    step = max(1, array.shape[0] // 32)
    air = float(np.mean([np.mean(plane < AIR_HU) for plane in array[::step]]))
    if low < AIR_HU and air > 0.02:
        return [
            f"This model expects MR, but {air:.0%} of the voxels lie below {AIR_HU:g}, as air does in CT. If this is "
            f"CT, the result will be wrong."
        ]
    return []
