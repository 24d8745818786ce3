"""What a click finds: which earlier clicks it replaces, and what stays whatever the network says."""

from __future__ import annotations

import numpy as np
import pytest

from udfa.edit_rules import Aim
from udfa.standing import PlaneMask, SliceClick, Standing

LIVER, SPLEEN, STOMACH = 1, 2, 3
ADD = Aim(LIVER, True, 60.0)
ALL = (slice(0, 8), slice(0, 8))


def columns(first: int, last: int) -> np.ndarray:
    """Columns first..last - 1 of 8 x 8 pixels."""
    mask = np.zeros((8, 8), bool)
    mask[:, first:last] = True
    return mask


def made(mask: np.ndarray) -> PlaneMask:
    return PlaneMask(ALL, mask)


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
    elsewhere = SliceClick(1, 4, 1, LIVER, True, 1.0, made(columns(0, 8)))
    labels = np.stack([np.zeros((8, 8)), np.full((8, 8), LIVER)])
    held = standing(labels, taken, elsewhere).may_not_change(0, ALL, ADD, [(4, 1)])
    assert np.argwhere(held).tolist() == [[4, 6]]
    here = SliceClick(0, 4, 1, LIVER, True, 1.0, made(columns(0, 8)))
    fixed = standing(labels, here, taken).may_not_change(0, ALL, ADD, [(4, 1)])
    assert (fixed == columns(4, 8)).all()
