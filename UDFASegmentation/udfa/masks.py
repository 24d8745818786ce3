"""Operations on 2D masks in millimetres: connected parts, discs, openings, deepest points. numpy and SimpleITK only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Point = tuple[int, int]
"""Row and column."""

SpacingMm = tuple[float, float]
"""Pixel size (rows, columns)."""

FEW_SHIFTS = 150
"""So many copies of a small mask are laid over each other sooner than a distance map is computed."""

FEW_POINTS = 8
"""So many distances are quicker computed one by one."""


def distance_mm(shape: tuple[int, ...], points: Sequence[Point], spacing_mm: SpacingMm) -> NDArray[np.float64]:
    """Distance of each pixel from the nearest point. -> (H, W); infinite without points."""
    if len(points) > FEW_POINTS:
        return distance_to_mm(seeds_at(shape, points), spacing_mm)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    squared = np.full(shape, np.inf)
    for row, column in points:
        candidate = ((rows - row) * spacing_mm[0]) ** 2 + ((columns - column) * spacing_mm[1]) ** 2
        np.minimum(squared, candidate, out=squared)
    return np.sqrt(squared)


def distance_to_mm(mask: Mask, spacing_mm: SpacingMm) -> NDArray[np.float64]:
    """Distance of each pixel from the nearest pixel of a mask, 0 inside. (H, W) -> (H, W); infinite if it is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return _distance_outside(mask, spacing_mm)


def _distance_outside(mask: Mask, spacing_mm: SpacingMm) -> NDArray[np.float64]:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((spacing_mm[1], spacing_mm[0]))
    # The filter counts from the mask's border pixels, which lie inside it: outside pixels get centre distances.
    distance = sitk.SignedMaurerDistanceMapImageFilter()
    distance.SetUseImageSpacing(True)
    distance.SetSquaredDistance(False)
    return np.maximum(_run(distance, image).astype(np.float64), 0.0)


def dilated(mask: Mask, margin_mm: float, spacing_mm: SpacingMm) -> Mask:
    """Grow a mask by a margin."""
    grown = np.zeros_like(mask)
    box = bounding_box(mask, (pixels(margin_mm, spacing_mm[0]), pixels(margin_mm, spacing_mm[1])))
    if box is not None:
        shifts = _shifts_within(margin_mm, spacing_mm)
        inner = mask[box]
        grown[box] = (
            _union_of_shifts(inner, shifts)
            if len(shifts) <= FEW_SHIFTS
            else distance_to_mm(inner, spacing_mm) <= margin_mm
        )
    return grown


def _shifts_within(margin_mm: float, spacing_mm: SpacingMm) -> list[tuple[int, int]]:
    """Rows and columns by which a pixel can be moved without going farther than a margin."""
    rows, columns = (pixels(margin_mm, spacing) for spacing in spacing_mm)
    limit = (margin_mm * (1 + 1e-6)) ** 2
    return [
        (row, column)
        for row in range(-rows, rows + 1)
        for column in range(-columns, columns + 1)
        if (row * spacing_mm[0]) ** 2 + (column * spacing_mm[1]) ** 2 <= limit
    ]


def _union_of_shifts(mask: Mask, shifts: Sequence[tuple[int, int]]) -> Mask:
    """Union of a mask moved by each of the shifts; what leaves the array is lost."""
    height, width = mask.shape
    rows, columns = (max(abs(shift[axis]) for shift in shifts) for axis in (0, 1))
    padded = np.pad(mask, ((rows, rows), (columns, columns)))
    union = np.zeros_like(mask)
    for row, column in shifts:
        union |= padded[rows + row : rows + row + height, columns + column : columns + column + width]
    return union


def bounding_box(mask: Mask, margin: tuple[int, int] = (0, 0)) -> Optional[tuple[slice, slice]]:
    """Return the rows and columns of a mask with a margin in pixels, within the array; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    box = [
        slice(max(0, int(along[0]) - m), min(length, int(along[-1]) + 1 + m))
        for along, m, length in zip((rows, columns), margin, mask.shape)
    ]
    return box[0], box[1]


def opened(mask: Mask, radius: tuple[int, int]) -> Mask:
    """Remove the parts of a mask in which an ellipse of the given radius in pixels does not fit.

    The edge of the array does not count as the mask's edge: what runs out of view is not thinned.
    """
    if not mask.any() or max(radius) == 0:
        return mask
    padded = np.pad(mask, [(r, r) for r in radius], mode="edge")
    image = sitk.GetImageFromArray(padded.astype(np.uint8))
    opening = sitk.BinaryMorphologicalOpeningImageFilter()
    opening.SetKernelRadius([radius[1], radius[0]])
    result = _run(opening, image)
    height, width = mask.shape
    return np.asarray(result[radius[0] : radius[0] + height, radius[1] : radius[1] + width] > 0)


def parts(mask: Mask, diagonal: bool = True) -> NDArray[np.integer]:
    """Number the connected parts of a mask from 1, 8-connected or 4-connected; 0 outside."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    components = sitk.ConnectedComponentImageFilter()
    components.SetFullyConnected(diagonal)
    return _run(components, image)


def touching(mask: Mask, seeds: Mask) -> Mask:
    """Return the 8-connected parts of a mask that contain a seed pixel."""
    if not (mask & seeds).any():
        return np.zeros_like(mask)
    numbered = parts(mask)
    wanted = np.unique(numbered[seeds & mask])
    return np.isin(numbered, wanted)


def part_with(mask: Mask, point: Point) -> Mask:
    """Return the 4-connected part of a mask that contains a point; empty when the point is outside the mask."""
    if not mask[point]:
        return np.zeros_like(mask)
    numbered = parts(mask, diagonal=False)
    return np.asarray(numbered == numbered[point])


def seeds_at(shape: tuple[int, ...], points: Sequence[Point], ring: bool = False) -> Mask:
    """Return a mask of points, with `ring` of their eight neighbours, too."""
    seeds = np.zeros(shape, dtype=bool)
    for row, column in points:
        if ring:
            seeds[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
        else:
            seeds[row, column] = True
    return seeds


def depth_mm(mask: Mask, spacing_mm: SpacingMm) -> NDArray[np.float64]:
    """Distance of each pixel of a mask from the nearest pixel outside, 0 outside; the array's edge is outside."""
    depth = np.zeros(mask.shape)
    box = bounding_box(mask)
    if box is not None:
        outside = np.pad(~mask[box], 1, constant_values=True)
        depth[box] = _distance_outside(outside, spacing_mm)[1:-1, 1:-1]
    return depth


def _run(process: Any, image: sitk.Image) -> NDArray[Any]:
    """Run a filter of SimpleITK in this thread: for images this small, others would only be waited for."""
    process.SetNumberOfThreads(1)
    return np.asarray(sitk.GetArrayFromImage(process.Execute(image)))


def pixels(length_mm: float, spacing_mm: float) -> int:
    """Number of pixels that cover a length."""
    return math.ceil(length_mm / spacing_mm - 1e-6)
