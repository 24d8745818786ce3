"""Clean-up of labelmaps: 3D literals that can be checked by eye."""

from __future__ import annotations

import numpy as np

from udfa.postprocessing import keep_largest_component, label_box, remove_small_parts

TWO_ISLANDS = np.array(
    [
        [[1, 1, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 2, 0, 0]],
        [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 2, 0, 0]],
        [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 2]],
    ],
    dtype=np.uint8,
)
"""Label 1: four voxels at the corner, two at the right edge. Label 2: two voxels, and one away from them."""


def test_only_the_largest_island_of_a_label_stays() -> None:
    labelmap = TWO_ISLANDS.copy()
    removed = keep_largest_component(labelmap, 1)
    expected = TWO_ISLANDS.copy()
    expected[0, 1, 4] = expected[1, 1, 4] = 0
    assert removed == 2
    np.testing.assert_array_equal(labelmap, expected)


def test_other_labels_are_left_alone() -> None:
    labelmap = TWO_ISLANDS.copy()
    keep_largest_component(labelmap, 1)
    np.testing.assert_array_equal(labelmap == 2, TWO_ISLANDS == 2)
    assert keep_largest_component(labelmap, 2) == 1
    assert labelmap[2, 2, 4] == 0
    assert labelmap[0, 2, 2] == labelmap[1, 2, 2] == 2


def test_voxels_that_touch_at_a_corner_are_connected() -> None:
    labelmap = np.zeros((3, 3, 3), dtype=np.uint8)
    labelmap[0, 0, 0] = labelmap[1, 1, 1] = labelmap[2, 2, 2] = 1
    assert keep_largest_component(labelmap, 1) == 0
    assert np.count_nonzero(labelmap) == 3


def test_islands_that_another_label_bridges_stay_apart() -> None:
    labelmap = np.array([[[1, 1, 2, 1]]], dtype=np.uint8)
    assert keep_largest_component(labelmap, 1) == 1
    np.testing.assert_array_equal(labelmap, [[[1, 1, 2, 0]]])


def test_a_label_that_is_absent_changes_nothing() -> None:
    labelmap = TWO_ISLANDS.copy()
    assert keep_largest_component(labelmap, 7) == 0
    np.testing.assert_array_equal(labelmap, TWO_ISLANDS)


def test_a_view_with_negative_strides_is_cleaned_in_place() -> None:
    labelmap = TWO_ISLANDS.copy()
    keep_largest_component(labelmap[::-1, :, ::-1].transpose(1, 2, 0), 1)
    assert labelmap[0, 1, 4] == 0
    assert np.count_nonzero(labelmap == 1) == 4


def test_parts_smaller_than_a_share_of_the_largest_go() -> None:
    row = np.array([[[1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 2]]], dtype=np.uint8)
    labelmap = row.copy()
    assert remove_small_parts(labelmap, 1, 0.5) == 1
    np.testing.assert_array_equal(labelmap, [[[1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 2]]])
    assert remove_small_parts(labelmap, 1, 0.51) == 2
    np.testing.assert_array_equal(labelmap, [[[1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 2]]])


def test_parts_of_equal_size_all_stay() -> None:
    labelmap = np.array([[[1, 0, 1, 0, 1]]], dtype=np.uint8)
    assert remove_small_parts(labelmap, 1, 1.0) == 0
    assert keep_largest_component(labelmap, 1) == 2


def test_no_part_of_an_absent_label_is_small() -> None:
    labelmap = TWO_ISLANDS.copy()
    assert remove_small_parts(labelmap, 7, 0.5) == 0
    np.testing.assert_array_equal(labelmap, TWO_ISLANDS)


def test_the_bounding_box_is_tight() -> None:
    assert label_box(TWO_ISLANDS, 2) == (slice(0, 3), slice(2, 3), slice(2, 5))
    assert label_box(TWO_ISLANDS, 9) is None
