"""Masks in millimetres: distances, openings, connected parts."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from udfa.masks import (
    bounding_box,
    depth_mm,
    dilated,
    distance_mm,
    distance_to_mm,
    opened,
    part_with,
    parts,
    pixels,
    seeds_at,
    touching,
)


def picture(*rows: str) -> np.ndarray:
    """A mask drawn with # and dots."""
    return np.array([[c == "#" for c in row] for row in rows])


def test_distances_are_between_pixel_centres_in_mm() -> None:
    distance = distance_mm((3, 5), [(1, 1)], (3.0, 0.5))
    assert distance[1, 1] == 0
    assert distance[1, 4] == pytest.approx(1.5)
    assert distance[0, 1] == pytest.approx(3.0)
    assert distance[2, 3] == pytest.approx(np.hypot(3.0, 1.0))


def test_the_nearest_of_several_points_counts() -> None:
    distance = distance_mm((1, 10), [(0, 0), (0, 9)], (1.0, 1.0))
    assert distance[0].tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]


def test_everything_is_infinitely_far_from_nothing() -> None:
    assert np.isinf(distance_mm((2, 2), [], (1.0, 1.0))).all()
    assert np.isinf(distance_to_mm(np.zeros((2, 2), bool), (1.0, 1.0))).all()


def test_a_mask_that_fills_the_view_has_no_distance_anywhere() -> None:
    assert (distance_to_mm(np.ones((4, 5), bool), (1.0, 1.0)) == 0).all()


def test_growing_by_two_millimetres_depends_on_the_pixel_size() -> None:
    mask = np.zeros((7, 9), bool)
    mask[3, 4] = True
    grown = dilated(mask, 2.0, (2.0, 1.0))
    assert grown[3].tolist() == [False, False, True, True, True, True, True, False, False]
    assert grown[:, 4].tolist() == [False, False, True, True, True, False, False]


def test_an_opening_removes_a_line_and_keeps_a_block() -> None:
    mask = picture(
        "..........",
        ".####.....",
        ".####.....",
        ".#########",
        ".####.....",
        "..........",
    )
    result = opened(mask, (1, 1))
    assert not result[3, 6:9].any()
    assert result[2:4, 2:4].all()
    assert not (result & ~mask).any()


def test_an_opening_does_not_thin_what_runs_out_of_view() -> None:
    mask = np.zeros((6, 6), bool)
    mask[:, :2] = True
    assert (opened(mask, (1, 1)) == mask).all()


def test_an_opening_by_nothing_changes_nothing() -> None:
    mask = np.eye(4, dtype=bool)
    assert (opened(mask, (0, 0)) == mask).all()


def test_touching_parts_are_found_across_corners() -> None:
    mask = picture(
        "##...",
        "..#..",
        "....#",
    )
    found = touching(mask, seeds_at(mask.shape, [(0, 0)]))
    assert found.tolist() == picture("##...", "..#..", ".....").tolist()


def test_a_ring_reaches_a_part_beside_the_point() -> None:
    mask = picture("...", "..#", "...")
    assert not touching(mask, seeds_at(mask.shape, [(1, 1)])).any()
    assert touching(mask, seeds_at(mask.shape, [(1, 1)], ring=True))[1, 2]
    assert seeds_at((3, 3), [(0, 0)], ring=True).sum() == 4


def test_the_part_with_a_point_is_connected_by_edges_only() -> None:
    mask = picture("#.", ".#")
    assert part_with(mask, (0, 0)).tolist() == [[True, False], [False, False]]
    assert not part_with(mask, (0, 1)).any()


def test_parts_are_numbered_in_scanning_order_also_when_they_meet_late() -> None:
    """A spiral, whose arms meet in the middle only, and a dot that touches it by a corner."""
    spiral = picture(
        "#######.",
        ".......#",
        "######.#",
        "#....#.#",
        "#.##.#.#",
        "#.#..#.#",
        "#.####.#",
        "#......#",
        "########",
    )
    assert (parts(spiral) == spiral).all()
    edgewise = parts(spiral, diagonal=False)
    assert edgewise[0, 0] == 1
    assert edgewise[1, 7] == edgewise[4, 3] == 2
    assert edgewise.max() == 2
    assert (parts(np.zeros((3, 4), bool)) == 0).all()


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9])
def test_parts_and_openings_of_random_masks_are_those_of_simpleitk(share: float) -> None:
    random = np.random.default_rng(0)
    for shape in ((1, 9), (17, 1), (23, 31), (40, 37)):
        mask = random.random(shape) < share
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        for diagonal in (True, False):
            assert np.array_equal(
                parts(mask, diagonal), sitk.GetArrayFromImage(sitk.ConnectedComponent(image, diagonal))
            )
        for radius in ((1, 1), (2, 1), (0, 2), (3, 3)):
            padded = sitk.GetImageFromArray(np.pad(mask, [(r, r) for r in radius], mode="edge").astype(np.uint8))
            expected = sitk.GetArrayFromImage(sitk.BinaryMorphologicalOpening(padded, [radius[1], radius[0]]))
            height, width = shape
            inner = expected[radius[0] : radius[0] + height, radius[1] : radius[1] + width]
            assert np.array_equal(opened(mask, radius), inner > 0)


def deepest_point(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(depth_mm(mask, (1.0, 1.0)).argmax(), mask.shape)))


def test_the_deepest_point_is_in_the_middle_and_the_views_edge_is_an_edge() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:10, 3:16] = True
    assert deepest_point(mask)[0] == 7
    whole = np.ones((5, 5), bool)
    assert deepest_point(whole) == (2, 2)
    single = np.zeros((4, 4), bool)
    single[3, 0] = True
    assert deepest_point(single) == (3, 0)


@pytest.mark.parametrize(("length", "spacing", "count"), [(4.0, 2.0, 2), (4.0, 3.0, 2), (0.3, 0.1, 3), (0.0, 1.0, 0)])
def test_pixels_cover_a_length(length: float, spacing: float, count: int) -> None:
    assert pixels(length, spacing) == count


def test_the_depth_is_the_distance_from_outside_in_mm() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    assert depth_mm(mask, (1.0, 2.0))[4].tolist() == [0, 0, 2, 3, 3, 3, 2, 0, 0]
    assert depth_mm(np.ones((3, 3), bool), (1.0, 1.0))[1].tolist() == [1, 2, 1]


def test_the_bounding_box_has_a_margin_within_the_array() -> None:
    mask = np.zeros((8, 9), bool)
    mask[2:4, 5] = True
    assert bounding_box(mask) == (slice(2, 4), slice(5, 6))
    assert bounding_box(mask, (3, 2)) == (slice(0, 7), slice(3, 8))
    assert bounding_box(mask & False) is None


def test_growing_and_depth_do_not_depend_on_where_in_the_array_a_mask_lies() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        small = random.random((9, 11)) < 0.4
        wide = np.zeros((40, 50), bool)
        wide[12:21, 20:31] = small
        assert (dilated(wide, 3.0, (1.0, 0.7)) == (distance_to_mm(wide, (1.0, 0.7)) <= 3.0)).all()
        assert np.allclose(depth_mm(wide, (1.0, 0.7))[12:21, 20:31], depth_mm(small, (1.0, 0.7)))
    assert not dilated(np.zeros((4, 4), bool), 3.0, (1.0, 1.0)).any()


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.7, 1.3), (1.4, 1.4), (3.0, 0.9)])
@pytest.mark.parametrize("margin_mm", [0.5, 1.0, 4.0, 7.1, 12.0])
def test_growing_reaches_exactly_the_pixels_within_the_margin(
    spacing_mm: tuple[float, float], margin_mm: float
) -> None:
    mask = np.random.default_rng(0).random((40, 50)) < 0.004
    rows, columns = np.nonzero(mask)
    grid = np.mgrid[:40, :50].reshape(2, -1, 1)
    squared = ((grid[0] - rows) * spacing_mm[0]) ** 2 + ((grid[1] - columns) * spacing_mm[1]) ** 2
    near = (np.sqrt(squared.min(axis=1)) <= margin_mm + 1e-9).reshape(40, 50)
    assert np.array_equal(dilated(mask, margin_mm, spacing_mm), near)
