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

Numbers = NDArray[np.intp]

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
    box = bounding_box(mask, (2 * radius[0], 2 * radius[1]))
    if box is None or max(radius) == 0:
        return mask
    padding = [(r, r) for r in radius]
    continued = np.pad(mask[box], padding, mode="edge")
    shifts = _shifts_of_ellipse(radius)
    # Where nothing is known, the ellipse may lie; hence the complement, and nothing outside it.
    eroded = ~_union_of_shifts(~continued, shifts)
    height, width = mask[box].shape
    kept = _union_of_shifts(eroded, shifts)[radius[0] : radius[0] + height, radius[1] : radius[1] + width]
    result = np.zeros_like(mask)
    result[box] = kept
    return result


def _shifts_of_ellipse(radius: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns from the middle of an ellipse, half a pixel larger than its radius, to each of its pixels."""
    rows, columns = radius
    return [
        (row, column)
        for row in range(-rows, rows + 1)
        for column in range(-columns, columns + 1)
        if (row / (rows + 0.5)) ** 2 + (column / (columns + 0.5)) ** 2 <= 1
    ]


def parts(mask: Mask, diagonal: bool = True) -> NDArray[np.integer]:
    """Number the connected parts of a mask from 1, 8-connected or 4-connected; 0 outside."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).view(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    roots = _joined(len(rows), *_touching_runs(rows, starts, ends, mask.shape[1], int(diagonal)))
    numbers = np.cumsum(roots == np.arange(len(rows)))[roots]
    result = np.zeros(mask.shape, dtype=np.intp)
    result[mask] = np.repeat(numbers, ends - starts)
    return result


def _touching_runs(rows: Numbers, starts: Numbers, ends: Numbers, width: int, reach: int) -> tuple[Numbers, Numbers]:
    """Pairs of runs of pixels, in scanning order, that touch: one each in a row and in the next."""
    stride = width + 3
    below = (rows + 1) * stride
    first = np.searchsorted(rows * stride + ends, below + starts - reach, side="right")
    last = np.searchsorted(rows * stride + starts, below + ends + reach, side="left")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(rows)), counts)
    lower = np.arange(len(upper)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    return upper, lower


def _joined(count: int, one: Numbers, other: Numbers) -> Numbers:
    """For each of `count` things, the first one with which it is connected by the pairs (one, other)."""
    roots = np.arange(count)
    while True:
        smaller = np.minimum(roots[one], roots[other])
        joined = roots.copy()
        for side in (one, other):
            np.minimum.at(joined, roots[side], smaller)
        joined = joined[joined]
        if np.array_equal(joined, roots):
            return roots
        roots = joined


def touching(mask: Mask, seeds: Mask) -> Mask:
    """Return the 8-connected parts of a mask that contain a seed pixel."""
    if not (mask & seeds).any():
        return np.zeros_like(mask)
    numbered = parts(mask)
    wanted = np.zeros(int(numbered.max()) + 1, dtype=bool)
    wanted[numbered[seeds & mask]] = True
    return np.asarray(wanted[numbered])


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
