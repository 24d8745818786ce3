"""The rules by which an answer of the network may change a slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from udfa.edit_rules import (
    Aim,
    Piece,
    agreed_change,
    apply_change,
    change_for_clicks,
    changeable,
    like_tissue,
    whole_part,
)

ADD = Aim(value=1, positive=True, reach_mm=60.0)
REMOVE = Aim(value=1, positive=False, reach_mm=60.0)
NOTHING_SAID = np.zeros((40, 40), bool)


def piece_of(
    labels: np.ndarray, intensity: np.ndarray | float = 0.0, fixed: np.ndarray | None = None, **changes: object
) -> Piece:
    """A piece with 1 mm pixels, classes 0..3, nothing locked."""
    labels = np.asarray(labels, dtype=np.uint8)
    piece = Piece(
        labels=labels,
        intensity=np.broadcast_to(np.asarray(intensity, dtype=np.float32), labels.shape),
        fixed=np.zeros(labels.shape, bool) if fixed is None else fixed,
        givable=np.ones(4, bool),
        spacing_mm=(1.0, 1.0),
        detail_mm=1.0,
    )
    return replace(piece, **changes)  # type: ignore[arg-type]


def answer_of(classes: np.ndarray) -> np.ndarray:
    """Probabilities (4, H, W) that are sure of the given classes."""
    return (np.arange(4)[:, None, None] == classes).astype(np.float32)


def blank(height: int = 40, width: int = 40) -> np.ndarray:
    return np.zeros((height, width), np.uint8)


def test_a_click_may_change_only_what_is_not_yet_as_wanted() -> None:
    labels = np.array([[0, 1, 2]], np.uint8)
    assert changeable(piece_of(labels), ADD).tolist() == [[True, False, True]]
    assert changeable(piece_of(labels), REMOVE).tolist() == [[False, True, False]]


def test_fixed_pixels_may_not_change() -> None:
    labels = np.array([[0, 1, 2]], np.uint8)
    fixed = np.array([[True, True, False]])
    assert changeable(piece_of(labels, fixed=fixed), ADD).tolist() == [[False, False, True]]
    assert not changeable(piece_of(labels, fixed=fixed), REMOVE).any()


def test_the_network_agrees_where_the_label_wins_or_loses() -> None:
    labels = np.array([[0, 0, 1, 1]], np.uint8)
    answer = answer_of(np.array([[1, 2, 1, 0]]))
    assert agreed_change(piece_of(labels), answer, ADD).tolist() == [[True, False, False, False]]
    assert agreed_change(piece_of(labels), answer, REMOVE).tolist() == [[False, False, False, True]]


def test_only_the_part_connected_with_the_click_changes() -> None:
    wanted = blank()
    wanted[5:12, 5:12] = 1
    wanted[25:32, 25:32] = 1
    change, followed = change_for_clicks(piece_of(blank()), answer_of(wanted), [(8, 8)], ADD)
    assert followed
    assert change.sum() == 49
    assert change[5:12, 5:12].all()


def test_a_change_ends_at_the_reach() -> None:
    change, _ = change_for_clicks(
        piece_of(blank(41, 41)), answer_of(np.ones((41, 41))), [(20, 20)], replace(ADD, reach_mm=8.0)
    )
    rows, columns = np.nonzero(change)
    assert np.hypot(rows - 20, columns - 20).max() <= 8.0
    assert change[12, 20]
    assert change[20, 28]


def test_two_outlines_that_disagree_are_left_alone_far_from_the_click() -> None:
    """The network wants the whole organ one pixel larger; the reader clicks on a part that is missing."""
    labels, wanted = blank(80, 80), blank(80, 80)
    wanted[10:71, 10:71] = 1
    labels[11:70, 11:70] = 1
    labels[30:50, 55:70] = 0
    change, _ = change_for_clicks(piece_of(labels, detail_mm=2.0), answer_of(wanted), [(40, 62)], ADD)
    assert change[30:50, 55:70].all()
    assert not change[:, 10].any()
    assert not change[70, :].any()


def test_thin_parts_near_the_click_are_corrected() -> None:
    wanted = blank()
    wanted[20, 15:26] = 1
    change, followed = change_for_clicks(piece_of(blank(), detail_mm=2.0), answer_of(wanted), [(20, 20)], ADD)
    assert followed
    assert change[20, 15:26].all()


def test_a_click_that_the_network_does_not_follow_takes_the_tissue_around_it() -> None:
    hu = np.zeros((40, 40), np.float32)
    hu[:, 22:] = 2.0
    change, followed = change_for_clicks(piece_of(blank(), hu), answer_of(blank()), [(20, 20)], ADD)
    assert not followed
    assert change[20, 20]
    assert change[20, 14]
    assert not change[20, 13]
    assert not change[:, 22:].any()


def test_the_fallback_stays_within_the_label_that_was_clicked() -> None:
    labels = blank()
    labels[:, 22:] = 2
    change, _ = change_for_clicks(piece_of(labels), answer_of(labels), [(20, 20)], ADD)
    assert change[20, 21]
    assert not change[:, 22:].any()


def test_the_fallback_is_connected_with_the_click() -> None:
    hu = np.zeros((40, 40), np.float32)
    hu[:, 18] = 2.0
    region = like_tissue(piece_of(blank(), hu), (20, 20), np.ones((40, 40), bool))
    assert region[20, 19]
    assert not region[:, :19].any()


def test_an_isolated_pixel_is_a_region_of_its_own() -> None:
    hu = np.indices((9, 9)).sum(axis=0) % 2 * 5.0
    region = like_tissue(piece_of(blank(9, 9), hu.astype(np.float32)), (4, 4), np.ones((9, 9), bool))
    assert region.sum() == 1
    assert region[4, 4]


def test_every_click_of_a_stroke_is_honoured() -> None:
    wanted = blank()
    wanted[10:20, 10:20] = 1
    points = [(15, 12), (15, 30), (35, 35)]
    change, followed = change_for_clicks(piece_of(blank()), answer_of(wanted), points, ADD)
    assert followed
    assert all(change[point] for point in points)


def test_a_click_on_a_fixed_pixel_changes_nothing() -> None:
    fixed = np.zeros((40, 40), bool)
    fixed[20, 20] = True
    change, followed = change_for_clicks(piece_of(blank(), fixed=fixed), answer_of(np.ones((40, 40))), [(20, 20)], ADD)
    assert not change.any()
    assert not followed


def test_removed_pixels_go_to_the_likeliest_class_that_may_receive() -> None:
    labels = np.ones((4, 4), np.uint8)
    answer = np.zeros((4, 4, 4), np.float32)
    answer[:, ...] = np.array([0.1, 0.4, 0.3, 0.2])[:, None, None]
    change = np.ones((4, 4), bool)
    piece = piece_of(labels, spacing_mm=(5.0, 5.0))
    assert (apply_change(piece, answer, change, REMOVE) == 2).all()
    locked = replace(piece, givable=np.array([True, True, False, True]))
    assert (apply_change(locked, answer, change, REMOVE) == 3).all()
    only_background = replace(piece, givable=np.array([True, False, False, False]))
    assert (apply_change(only_background, answer, change, REMOVE) == 0).all()


def test_removing_leaves_no_specks_of_a_distant_organ() -> None:
    labels = np.ones((20, 20), np.uint8)
    labels[:, :3] = 2
    wanted = np.zeros((20, 20))
    wanted[:, 3:6] = 2
    wanted[10:12, 10:12] = 3
    change = labels == 1
    after = apply_change(piece_of(labels), answer_of(wanted), change, REMOVE)
    assert (after[:, :6] == 2).all()
    assert (after[:, 6:] == 0).all()


def test_a_large_part_may_go_to_an_organ_that_was_swallowed_whole() -> None:
    labels = np.ones((20, 20), np.uint8)
    wanted = np.zeros((20, 20))
    wanted[5:15, 5:15] = 3
    after = apply_change(piece_of(labels), answer_of(wanted), labels == 1, REMOVE)
    assert (after == wanted).all()


def test_the_piece_itself_stays_as_it_is() -> None:
    piece = piece_of(blank())
    change_for_clicks(piece, answer_of(np.ones((40, 40))), [(3, 3)], ADD)
    apply_change(piece, answer_of(np.ones((40, 40))), np.ones((40, 40), bool), ADD)
    assert not piece.labels.any()


def disc(radius: float = 10.0) -> np.ndarray:
    """A disc of label 1 in the middle of 40 x 40 pixels."""
    rows, columns = np.ogrid[:40, :40]
    return ((rows - 20) ** 2 + (columns - 20) ** 2 <= radius**2).astype(np.uint8)


def given_up(labels: np.ndarray, share: float) -> np.ndarray:
    """The first pixels of label 1, row by row, so many that they are a share of it."""
    mine = np.flatnonzero(labels == 1)
    change = np.zeros(labels.size, bool)
    change[mine[: round(share * len(mine))]] = True
    return change.reshape(labels.shape)


def test_a_click_in_the_middle_of_a_part_means_all_of_it() -> None:
    labels = disc()
    labels[2:5, 2:5] = 1
    whole = whole_part(piece_of(labels), given_up(disc(), 0.25), (20, 22), NOTHING_SAID, REMOVE)
    assert (whole == (disc() == 1)).all()


def test_a_click_off_the_middle_means_less_than_all() -> None:
    assert not whole_part(piece_of(disc()), given_up(disc(), 0.25), (20, 24), NOTHING_SAID, REMOVE).any()


def test_a_click_in_the_middle_of_which_little_is_given_up_means_a_hole() -> None:
    assert not whole_part(piece_of(disc()), given_up(disc(), 0.15), (20, 20), NOTHING_SAID, REMOVE).any()


def test_of_a_part_of_which_something_was_said_to_belong_not_all_is_meant() -> None:
    inside, outside = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    inside[20, 27] = outside[2, 2] = True
    change = given_up(disc(), 0.25)
    assert not whole_part(piece_of(disc()), change, (20, 20), inside, REMOVE).any()
    assert whole_part(piece_of(disc()), change, (20, 20), outside, REMOVE).any()


def test_a_click_in_a_wall_means_a_piece_of_it() -> None:
    ring = disc(16) - disc(10)
    assert not whole_part(piece_of(ring), given_up(ring, 0.5), (20, 33), NOTHING_SAID, REMOVE).any()


def test_of_a_whole_part_what_is_fixed_and_what_is_out_of_reach_stays() -> None:
    fixed = np.zeros((40, 40), bool)
    fixed[:, 26:] = True
    near = replace(REMOVE, reach_mm=8.0)
    whole = whole_part(piece_of(disc(), fixed=fixed), given_up(disc(), 0.25), (20, 20), NOTHING_SAID, near)
    rows, columns = np.ogrid[:40, :40]
    assert (whole == (((rows - 20) ** 2 + (columns - 20) ** 2 <= 64) & (columns < 26))).all()


@pytest.mark.parametrize("pixel_mm", [0.5, 1.0, 2.0])
def test_a_part_of_which_a_disc_fills_less_than_three_tenths_is_not_one_blob(pixel_mm: float) -> None:
    """The disc has a radius of 10 pixels, 314 of them: more than 30 % of 20 x 50 pixels, less than that of 20 x 55."""
    for length, blob in ((50, True), (55, False)):
        labels = blank(60, 40)
        labels[:length, 10:30] = 1
        piece = piece_of(labels, spacing_mm=(pixel_mm, pixel_mm))
        nothing_said = np.zeros_like(labels, dtype=bool)
        assert whole_part(piece, given_up(labels, 0.25), (25, 20), nothing_said, REMOVE).any() == blob


def test_of_a_whole_part_what_lies_beyond_something_fixed_stays() -> None:
    fixed = np.zeros((40, 40), bool)
    fixed[:, 24:26] = True
    whole = whole_part(piece_of(disc(), fixed=fixed), given_up(disc(), 0.25), (20, 20), NOTHING_SAID, REMOVE)
    assert (whole == ((disc() == 1) & (np.arange(40) < 24))).all()


def test_a_change_right_beside_a_click_that_the_network_does_not_follow_is_meant_too() -> None:
    wanted = blank()
    wanted[5:35, 21:30] = 1
    change, followed = change_for_clicks(piece_of(blank(), detail_mm=2.0), answer_of(wanted), [(20, 20)], ADD)
    assert not followed
    assert change[5:35, 21:30].all()
    far, _ = change_for_clicks(piece_of(blank(), detail_mm=2.0), answer_of(wanted), [(20, 12)], ADD)
    assert not far[5:35, 21:30].any()


def test_tissue_is_alike_up_to_a_difference_of_27_hounsfield_units() -> None:
    hu = np.zeros((40, 40), np.float32)
    hu[:, 22:24], hu[:, 24:] = 0.29, 0.31
    region = like_tissue(piece_of(blank(), hu), (20, 20), np.ones((40, 40), bool))
    assert region[20, 23]
    assert not region[:, 24:].any()


def test_the_fallback_takes_only_what_may_change_and_does_not_reach_across_the_rest() -> None:
    allowed = np.ones((40, 40), bool)
    allowed[:, 22] = False
    region = like_tissue(piece_of(blank()), (20, 20), allowed)
    assert region[20, 21]
    assert not region[:, 22:].any()


def test_a_speck_is_smaller_than_thirty_square_millimetres() -> None:
    wanted = np.zeros((20, 20))
    wanted[2:7, 2:7] = 3
    wanted[10:15, 2:8] = 3
    after = apply_change(piece_of(np.ones((20, 20))), answer_of(wanted), wanted == 3, REMOVE)
    assert not (after[:9] == 3).any()
    assert (after[10:15, 2:8] == 3).all()


@pytest.mark.parametrize(("height", "stays"), [(7, False), (8, True)])
def test_a_part_below_a_fifth_of_what_is_removed_is_a_speck(height: int, stays: bool) -> None:
    """70 and 80 of 400 pixels."""
    wanted = np.zeros((20, 20))
    wanted[:height, 5:15] = 3
    after = apply_change(piece_of(np.ones((20, 20))), answer_of(wanted), np.ones((20, 20), bool), REMOVE)
    assert (after == 3).any() == stays


def test_a_speck_goes_to_the_neighbour_that_it_touches() -> None:
    labels = np.ones((20, 20), np.uint8)
    labels[:, :3] = 2
    wanted = np.ones((20, 20))
    wanted[10:12, 3:6] = 2
    after = apply_change(piece_of(labels), answer_of(wanted), wanted == 2, REMOVE)
    assert (after[10:12, :6] == 2).all()
