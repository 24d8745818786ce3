"""Clean-up of labelmaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray


def keep_largest_component(labelmap: NDArray[np.uint8], value: int) -> int:
    """Remove all but the largest connected component (26-neighbourhood) of one label, in place.

    Args:
        labelmap: (D, H, W).
        value: Label to clean.

    Returns:
        Number of voxels set to background.
    """
    return _keep_parts(labelmap, value, lambda sizes: 1)


def remove_small_parts(labelmap: NDArray[np.uint8], value: int, share: float) -> int:
    """Remove the connected parts (26-neighbourhood) of one label that are small beside its largest one, in place.

    Args:
        labelmap: (D, H, W).
        value: Label to clean.
        share: Parts with fewer voxels than this share of the largest part are removed.

    Returns:
        Number of voxels set to background.
    """
    return _keep_parts(labelmap, value, lambda sizes: int(np.count_nonzero(sizes >= share * sizes[0])))


def _keep_parts(labelmap: NDArray[np.uint8], value: int, count: Callable[[NDArray[np.int64]], int]) -> int:
    """Keep the first `count(sizes)` parts of a label; sizes are in voxels, the largest first. -> voxels removed"""
    box = label_box(labelmap, value)
    if box is None:
        return 0
    region = labelmap[box]
    mask = region == value
    parts = sitk.GetArrayFromImage(
        sitk.RelabelComponent(
            sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True), sortByObjectSize=True
        )
    )
    small = parts > count(np.bincount(parts.ravel())[1:])
    region[small] = 0
    return int(np.count_nonzero(small))


def label_box(labelmap: NDArray[np.uint8], value: int) -> tuple[slice, slice, slice] | None:
    """Return the smallest box (D, H, W slices) that holds a label, or None if the label is absent."""
    planes = np.flatnonzero([bool((plane == value).any()) for plane in labelmap])
    if len(planes) == 0:
        return None
    footprint = np.zeros(labelmap.shape[1:], dtype=bool)
    for plane in labelmap[planes[0] : planes[-1] + 1]:
        footprint |= plane == value
    rows, columns = np.flatnonzero(footprint.any(axis=1)), np.flatnonzero(footprint.any(axis=0))
    return (
        slice(int(planes[0]), int(planes[-1]) + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
