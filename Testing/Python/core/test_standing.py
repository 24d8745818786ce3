"""What a click finds: which earlier clicks it replaces, and what stays whatever the network says."""

from __future__ import annotations

import numpy as np
import pytest

from udfa.edit_rules import Aim
from udfa.masks import distance_mm
from udfa.standing import PlaneMask, SliceClick, Standing

LIVER, SPLEEN, STOMACH = 1, 2, 3
ADD = Aim(LIVER, True, 60.0)
ALL = (slice(0, 8), slice(0, 8))


def columns(first: int, last: int) -> np.ndarray:
    """Columns first..last - 1 of 8 x 8 pixels."""
    mask = np.zeros((8, 8), bool)
    mask[:, first:last] = True
    return mask


def made(mask: np.ndarray, *slices: int) -> dict[int, PlaneMask]:
    """The same effect on some slices, on slice 0 if none is named."""
    return {z: PlaneMask(ALL, mask) for z in slices or (0,)}


def standing(labels: np.ndarray, *clicks: SliceClick) -> Standing:
    return Standing(labels.astype(np.uint8), frozenset(), None, None, clicks, (1.0, 1.0), 1.0)


@pytest.mark.parametrize(
    ("row", "column", "replaced"), [(13, 10, True), (14, 10, False), (10, 16, True), (10, 17, False)]
)
def test_a_click_replaces_one_against_it_within_three_of_the_networks_pixels(
    row: int, column: int, replaced: bool
) -> None:
    """The network's pixel is 2 mm, hence 6 mm: 3 rows of 2 mm or 6 columns of 1 mm."""
    earlier = SliceClick(0, 10, 10, LIVER, False)
    stands = Standing(np.zeros((1, 30, 30), np.uint8), frozenset(), None, None, (earlier,), (2.0, 1.0), 2.0)
    assert stands.still_said(0, ADD, [(row, column)]) == ([] if replaced else [earlier])


def test_of_what_a_click_made_only_what_still_is_as_it_wanted_holds() -> None:
    """A click made all of it liver; columns 4 to 7 have been taken away again, and may become stomach."""
    stands = standing(columns(0, 4)[None] * LIVER, SliceClick(0, 4, 1, LIVER, True, 1.0, made(columns(0, 8))))
    fixed = stands.may_not_change(0, ALL, Aim(STOMACH, True, 60.0), ())
    assert (fixed == columns(0, 4)).all()


def test_a_click_right_beside_what_an_earlier_one_made_takes_it_back_and_one_farther_off_does_not() -> None:
    earlier = SliceClick(0, 4, 3, LIVER, False, 1.0, made(columns(0, 4)))
    stands = standing(np.zeros((1, 8, 8)), earlier)
    assert not stands.may_not_change(0, ALL, ADD, [(4, 6)]).any()
    assert (stands.may_not_change(0, ALL, ADD, [(4, 7)]) == columns(0, 4)).all()


def test_only_what_was_turned_there_and_back_on_the_same_slice_is_shared_out() -> None:
    taken = SliceClick(0, 4, 6, LIVER, False, 1.0, made(columns(0, 8)))
    elsewhere = SliceClick(1, 4, 1, LIVER, True, 1.0, made(columns(0, 8), 1))
    labels = np.stack([np.zeros((8, 8)), np.full((8, 8), LIVER)])
    held = standing(labels, taken, elsewhere).may_not_change(0, ALL, ADD, [(4, 1)])
    assert np.argwhere(held).tolist() == [[4, 6]]
    here = SliceClick(0, 4, 1, LIVER, True, 1.0, made(columns(0, 8)))
    fixed = standing(labels, here, taken).may_not_change(0, ALL, ADD, [(4, 1)])
    assert (fixed == columns(4, 8)).all()


def test_what_a_click_made_on_other_slices_holds_there_as_long_as_the_click_itself_does() -> None:
    taken = SliceClick(0, 4, 2, LIVER, False, 1.0, made(columns(0, 4), 0, 1))
    stands = standing(np.zeros((3, 8, 8)), taken)
    assert (stands.may_not_change(1, ALL, ADD, ()) == columns(0, 4)).all()
    assert (stands.may_not_change(1, ALL, ADD, [(4, 6)]) == columns(0, 4)).all()
    assert (stands.may_not_change(1, ALL, ADD, [(4, 5)]) == columns(0, 4)).all()
    assert not stands.may_not_change(1, ALL, ADD, [(4, 3)]).any()
    assert not stands.may_not_change(2, ALL, ADD, ()).any()
    given_back = np.zeros((3, 8, 8))
    given_back[0, 4, 2] = LIVER
    assert not standing(given_back, taken).may_not_change(1, ALL, ADD, ()).any()


@pytest.mark.parametrize(
    ("points", "holds"),
    [
        ({0: [(4, 7)]}, True),
        ({0: [(4, 6)]}, True),
        ({0: [(4, 5)]}, False),
        ({0: [(7, 0)]}, False),
        ({1: [(4, 3)]}, False),
        ({1: [(4, 4)]}, True),
        ({2: [(4, 2)]}, True),
    ],
)
def test_who_clicks_on_what_a_click_made_or_beside_it_takes_it_back_on_all_slices_but_its_own(
    points: dict[int, list[tuple[int, int]]], holds: bool
) -> None:
    """The click is at (4, 2) of slice 0, took columns 0 to 3 of slices 0 and 1, and 3 pixels off is beside it."""
    taken = SliceClick(0, 4, 2, LIVER, False, 1.0, made(columns(0, 4), 0, 1))
    found = standing(np.zeros((3, 8, 8)), taken).taken_back(ADD, points)
    assert found.may_not_change(1, ALL, ADD, ()).any() == holds
    assert (found.may_not_change(0, ALL, ADD, ()) == columns(0, 4)).all()
    same_aim = standing(np.zeros((3, 8, 8)), taken).taken_back(Aim(LIVER, False, 60.0), points)
    assert same_aim.may_not_change(1, ALL, ADD, ()).any()


def test_a_click_without_any_effect_holds_its_pixel() -> None:
    held = standing(np.zeros((1, 8, 8)), SliceClick(0, 4, 6, LIVER, False)).may_not_change(0, ALL, ADD, [(4, 1)])
    assert np.argwhere(held).tolist() == [[4, 6]]


def test_pixels_of_a_part_of_a_slice_are_found_by_their_place_on_the_slice() -> None:
    part = PlaneMask((slice(2, 4), slice(3, 6)), np.array([[1, 0, 1], [0, 1, 1]], bool))
    found = [(row, column) for row in range(8) for column in range(8) if part.contains((row, column))]
    assert found == [(2, 3), (2, 5), (3, 4), (3, 5)]


def test_the_distance_from_a_new_stroke_is_worked_out_once_for_all_clicks_of_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points_of_calls: list[int] = []

    def counting(shape: tuple[int, ...], points: list[tuple[int, int]], spacing_mm: tuple[float, float]) -> np.ndarray:
        points_of_calls.append(len(points))
        return distance_mm(shape, points, spacing_mm)

    monkeypatch.setattr("udfa.standing.distance_mm", counting)
    taken = [SliceClick(0, row, 6, LIVER, False, 1.0, made(columns(0, 8))) for row in range(8)]
    turned = SliceClick(0, 4, 1, LIVER, True, 1.0, made(columns(0, 8)))
    stands = standing(np.zeros((1, 8, 8)), *taken, turned)
    fixed = stands.may_not_change(0, ALL, ADD, [(row, 0) for row in range(8)])
    # Column 3 is as near to the new stroke in column 0 as to the old one in column 6.
    assert (fixed == columns(4, 8)).all()
    assert sorted(points_of_calls) == [1] * 8 + [8]
