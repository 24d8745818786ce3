"""Ranking of slices by doubt, on hand-made maps."""

from __future__ import annotations

import numpy as np
import pytest

from udfa.geometry import Volume
from UDFASegmentationLib.DoubtfulSlices import DOUBT_THRESHOLD, LONGEST_LIST, rankSlices

AXIAL = np.eye(3)[:, ::-1].copy()


def volume(array, spacing_mm=(5.0, 1.0, 1.0), direction=AXIAL):
    return Volume(np.asarray(array, dtype=np.uint8), spacing_mm, direction)


def test_the_slice_with_the_most_doubt_comes_first():
    array = np.zeros((4, 6, 6))
    array[1, 2, 3], array[3, 4, 1] = 100, 200
    assert [slice_.index for slice_ in rankSlices(volume(array))] == [(3, 4, 1), (1, 2, 3)]


def test_doubt_below_the_threshold_does_not_count():
    array = np.full((4, 6, 6), DOUBT_THRESHOLD - 1)
    assert rankSlices(volume(array)) == []


def test_much_doubt_counts_more_than_strong_doubt_in_one_voxel():
    array = np.zeros((4, 6, 6))
    array[0, 0, 0] = 255
    array[2, :3, :3] = 100
    assert rankSlices(volume(array))[0].index == (2, 1, 1)


def test_neighbours_within_5_mm_are_one_place():
    array = np.zeros((9, 4, 4))
    array[:, 1, 1] = [0, 0, 100, 200, 100, 0, 0, 0, 90]
    found = rankSlices(volume(array, spacing_mm=(2.0, 1.0, 1.0)))
    assert [slice_.index[0] for slice_ in found] == [3, 8]


def test_a_flipped_and_turned_map_gives_the_same_place():
    array = np.zeros((4, 6, 7))
    array[3, 4, 1], array[1, 2, 5] = 200, 100
    turned = np.ascontiguousarray(array[::-1].transpose(2, 0, 1))
    direction = AXIAL.copy()
    direction[:, 0] *= -1
    found = rankSlices(volume(turned, (1.0, 5.0, 1.0), direction[:, [2, 0, 1]]))
    # Source index (d, h, w) of the turned array = (w, 3 - d, h) of the first one.
    assert [slice_.index for slice_ in found] == [(1, 0, 4), (5, 2, 2)]


def test_thick_cine_slices_are_ranked_along_their_own_axis():
    array = np.zeros((6, 6, 4))
    array[2, 3, 1] = 200
    # Axis 2 is the thick one and points anterior: the short-axis stack of a heart.
    direction = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])
    (found,) = rankSlices(volume(array, (1.5, 1.5, 8.0), direction), "acquisition")
    assert found.index == (2, 3, 1)


def test_the_list_is_short():
    array = np.zeros((100, 3, 3))
    array[:, 1, 1] = 100
    assert len(rankSlices(volume(array))) == LONGEST_LIST


@pytest.mark.parametrize("value", [0, 255])
def test_extreme_maps_do_not_fail(value):
    found = rankSlices(volume(np.full((3, 4, 4), value)))
    assert len(found) == (3 if value else 0)
