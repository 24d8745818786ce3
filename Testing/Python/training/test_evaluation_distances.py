"""Surface distances by hand, and against a computation over all pairs of boundary points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from udfa_training.evaluation.distances import Mask, hd95, pooled_hd95, surface_dice

SPACING_MM = (5.0, 2.0, 0.5)
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First and last voxel along (D, H, W)."""


def box_mask(box: Box, shape: Sequence[int] = (14, 16, 18)) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(first, last + 1) for first, last in box)] = True
    return mask


def shifted(box: Box, by: Sequence[int]) -> Box:
    moved = [(first + step, last + step) for (first, last), step in zip(box, by)]
    return (moved[0], moved[1], moved[2])


CUBE: Box = ((4, 8), (4, 8), (4, 8))


def boundary(mask: Mask) -> NDArray[np.float64]:
    """Indices of the voxels with a face neighbour outside the mask; outside the volume counts as outside."""
    padded = np.pad(mask, 1)
    points = []
    for index in np.argwhere(mask):
        steps = [step for axis in range(3) for step in (np.eye(3, dtype=int)[axis], -np.eye(3, dtype=int)[axis])]
        if not all(padded[tuple(index + 1 + step)] for step in steps):
            points.append(index)
    return np.array(points, dtype=np.float64)


def directed(points: NDArray[np.float64], others: NDArray[np.float64], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance of each point to the nearest of the others, by comparing all pairs."""
    gaps = (points[:, None] - others[None]) * np.array(spacing)
    return np.sqrt((gaps**2).sum(axis=2)).min(axis=1)


def both_ways(a: Mask, b: Mask, spacing: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return directed(boundary(a), boundary(b), spacing), directed(boundary(b), boundary(a), spacing)


@pytest.mark.parametrize(("axis", "distance_mm"), [(0, 5.0), (1, 2.0), (2, 0.5)])
def test_hd95_of_two_cubes_shifted_by_one_voxel_is_the_spacing_along_the_shift(axis: int, distance_mm: float) -> None:
    """A face of 25 of the 98 boundary voxels is off by one voxel, more than 5 %."""
    step = [0, 0, 0]
    step[axis] = 1
    a, b = box_mask(CUBE), box_mask(shifted(CUBE, step))
    assert hd95(a, b, SPACING_MM) == pytest.approx(distance_mm)
    assert pooled_hd95(a, b, SPACING_MM) == pytest.approx(distance_mm)


def test_hd95_of_equal_masks_is_zero() -> None:
    assert hd95(box_mask(CUBE), box_mask(CUBE), SPACING_MM) == 0.0


def test_hd95_of_two_single_voxels_is_their_distance() -> None:
    a, b = box_mask(((2, 2), (3, 3), (4, 4))), box_mask(((3, 3), (5, 5), (8, 8)))
    assert hd95(a, b, SPACING_MM) == pytest.approx(math.sqrt(5.0**2 + 4.0**2 + 2.0**2))


def test_the_two_definitions_differ_when_one_mask_has_a_small_outlier() -> None:
    """1 of 9 voxels of the prediction lies 10 voxels away: 5 % of its 9, but not of all 17 boundary distances.

    Directed: the 95th percentile of eight zeros and one 10 is at rank 0.95 * 8 = 7.6, so 6.0.
    Pooled: of 16 zeros and one 10 it is at rank 0.95 * 16 = 15.2, so 2.0.
    """
    reference = np.zeros((1, 1, 30), dtype=bool)
    reference[0, 0, :8] = True
    prediction = reference.copy()
    prediction[0, 0, 17] = True
    assert hd95(prediction, reference, (1, 1, 1)) == pytest.approx(6.0)
    assert pooled_hd95(prediction, reference, (1, 1, 1)) == pytest.approx(2.0)


@pytest.mark.parametrize("seed", range(6))
def test_hd95_equals_the_percentiles_over_all_pairs_of_boundary_voxels(seed: int) -> None:
    """Random blobs that reach the border of the volume."""
    random = np.random.default_rng(seed)
    a, b = (random.random((6, 7, 8)) < share for share in (0.25, 0.15))
    forth, back = both_ways(a, b, SPACING_MM)
    expected = max(np.percentile(forth, 95), np.percentile(back, 95))
    assert hd95(a, b, SPACING_MM) == pytest.approx(expected, rel=1e-5)
    assert pooled_hd95(a, b, SPACING_MM) == pytest.approx(np.percentile([*forth, *back], 95), rel=1e-5)


def test_both_distances_are_the_same_either_way_round() -> None:
    random = np.random.default_rng(9)
    a, b = random.random((6, 7, 8)) < 0.3, random.random((6, 7, 8)) < 0.1
    assert hd95(a, b, SPACING_MM) == hd95(b, a, SPACING_MM)
    assert pooled_hd95(a, b, SPACING_MM) == pooled_hd95(b, a, SPACING_MM)
    assert surface_dice(a, b, SPACING_MM, 2.0) == pytest.approx(surface_dice(b, a, SPACING_MM, 2.0))


def surface_of_box(box: Box, spacing: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Surface points of a box in mm, between the voxels, and the area that each stands for.

    A face point stands for a rectangle of two spacings; on an edge the surface cuts the corner at half a voxel, and at
    a vertex it is the triangle between the middles of three voxel edges.
    """
    ranges = [range(first, last + 2) for first, last in box]
    points, areas = [], []
    for point in itertools.product(*ranges):
        extreme = [axis for axis in range(3) if point[axis] in (box[axis][0], box[axis][1] + 1)]
        rest = [spacing[axis] for axis in range(3) if axis not in extreme]
        half = [spacing[axis] / 2 for axis in extreme]
        if len(extreme) == 1:
            area = rest[0] * rest[1]
        elif len(extreme) == 2:
            area = rest[0] * math.hypot(*half)
        elif len(extreme) == 3:
            a, b, c = half
            area = math.sqrt((a * b) ** 2 + (a * c) ** 2 + (b * c) ** 2) / 2
        else:
            continue
        points.append(point)
        areas.append(area)
    return np.array(points, dtype=np.float64), np.array(areas)


def surface_dice_of_boxes(first: Box, second: Box, spacing: Sequence[float], tolerance: float) -> float:
    (a, area_a), (b, area_b) = surface_of_box(first, spacing), surface_of_box(second, spacing)
    near = area_a[directed(a, b, spacing) <= tolerance].sum() + area_b[directed(b, a, spacing) <= tolerance].sum()
    return float(near / (area_a.sum() + area_b.sum()))


@pytest.mark.parametrize("tolerance", [0.0, 0.6, 2.0, 5.5])
@pytest.mark.parametrize(
    "other",
    [
        shifted(CUBE, (1, 0, 0)),
        shifted(CUBE, (0, 0, 3)),
        ((3, 9), (4, 6), (5, 12)),
        ((0, 13), (0, 4), (2, 8)),
        ((11, 12), (12, 14), (12, 17)),
    ],
)
def test_surface_dice_of_boxes_equals_the_share_of_area_within_the_tolerance(other: Box, tolerance: float) -> None:
    expected = surface_dice_of_boxes(CUBE, other, SPACING_MM, tolerance)
    assert surface_dice(box_mask(CUBE), box_mask(other), SPACING_MM, tolerance) == pytest.approx(expected, abs=1e-5)


def test_a_shift_within_the_tolerance_costs_nothing_and_a_greater_one_does() -> None:
    cube = box_mask(CUBE)
    within, beyond = box_mask(shifted(CUBE, (0, 1, 0))), box_mask(shifted(CUBE, (1, 0, 0)))
    assert surface_dice(cube, within, SPACING_MM, 2.0) == 1.0
    assert surface_dice(cube, beyond, SPACING_MM, 2.0) < 0.9


def test_a_mask_that_fills_the_volume_has_its_surface_at_the_border() -> None:
    full = np.ones((3, 4, 5), dtype=bool)
    assert hd95(full, full, SPACING_MM) == 0.0
    assert surface_dice(full, full, SPACING_MM, 0.0) == 1.0


@pytest.mark.parametrize("measure", [hd95, pooled_hd95])
def test_an_empty_mask_has_no_distance(measure) -> None:  # type: ignore[no-untyped-def]
    empty = np.zeros((3, 4, 5), dtype=bool)
    for pair in ((empty, ~empty), (~empty, empty), (empty, empty)):
        with pytest.raises(ValueError, match="not empty"):
            measure(*pair, SPACING_MM)
