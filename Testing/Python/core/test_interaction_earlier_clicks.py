"""What earlier clicks have said and done on a slice holds against later ones, until somebody clicks on it."""

from __future__ import annotations

import numpy as np
import pytest

from fakes.clicks import LIVER, SPLEEN, Opinion, always, by_intensity, change_opinion, session_of, with_carry
from udfa.edit_rules import Aim
from udfa.interaction import CorrectionSession
from udfa.standing import PlaneMask, SliceClick, Standing

MIDDLE = (24, 24)


def blob(depth: int = 8, first: int = 2, last: int = 5) -> np.ndarray:
    """A column of tissue, 20 x 20 pixels, on some slices."""
    truth = np.zeros((depth, 48, 48), np.uint8)
    truth[first : last + 1, 14:34, 14:34] = LIVER
    return truth


def session(labels: np.ndarray, opinion: Opinion, carry: int = 0) -> CorrectionSession:
    return session_of(blob() * 100, labels, opinion, with_carry(carry))


def test_what_a_click_took_away_does_not_come_back_with_a_correction_of_the_next_slice() -> None:
    labels = blob()
    labels[5] = 0
    sees_all = by_intensity((50, 150, LIVER))
    click_by_click = session(labels, sees_all)
    click_by_click.click((4, *MIDDLE), LIVER, positive=False)
    taken = click_by_click.labelmap[4] != labels[4]
    assert 50 < taken.sum() < 150
    click_by_click.options = with_carry(4)
    click_by_click.click((5, *MIDDLE), LIVER)
    assert (click_by_click.labelmap[5] == blob()[5]).all()
    assert (click_by_click.labelmap[4] == np.where(taken, 0, LIVER) * (blob()[4] > 0)).all()


def gives_up_when_asked(hu: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A network that sees the tissue, but nothing where it is shown clicks or labels."""
    return np.zeros(hu.shape, np.int64) if maps.any() or labels.any() else (hu > 50).astype(np.int64)


def wider_than_its_label() -> CorrectionSession:
    """Tissue of 30 columns, of which the label has the first 20, has lost them on slices 2 to 5 by one click on 4."""
    hu = np.zeros((8, 48, 48))
    hu[2:6, 14:34, 14:44] = 100
    corrected = session_of(hu, blob(), gives_up_when_asked, with_carry(2))
    corrected.click((4, *MIDDLE), LIVER, positive=False)
    assert not corrected.labelmap.any()
    change_opinion(corrected, by_intensity((50, 150, LIVER)))
    return corrected


def test_what_a_click_took_from_other_slices_does_not_come_back_with_what_is_clicked_beside_it() -> None:
    corrected = wider_than_its_label()
    corrected.click((3, 24, 40), LIVER)
    assert (corrected.labelmap[3, 15:33, 36:43] == LIVER).all()
    assert not corrected.labelmap[:, :, 14:34].any()


def test_a_click_on_what_was_taken_from_another_slice_brings_it_back_on_all_but_the_first_clicks_own() -> None:
    corrected = wider_than_its_label()
    corrected.click((3, 24, 20), LIVER)
    assert (corrected.labelmap[2:4, 15:33, 15:33] == LIVER).all()
    assert not corrected.labelmap[4, :, 14:34].any()
    corrected.click((5, 24, 20), LIVER)
    assert (corrected.labelmap[5, 15:33, 15:33] == LIVER).all()


def test_it_comes_back_when_the_first_click_is_undone() -> None:
    labels = blob()
    labels[5] = 0
    labels[4, 20:28, 20:28] = 0
    corrected = session(labels, by_intensity((50, 150, LIVER)), carry=4)
    corrected.click((4, 16, 16), LIVER, positive=False)
    corrected.undo()
    corrected.click((5, *MIDDLE), LIVER)
    assert (corrected.labelmap == blob()).all()


def test_a_click_on_what_an_earlier_one_made_turns_it_back_as_far_as_the_network_says() -> None:
    corrected = session(blob(), by_intensity((50, 150, LIVER)))
    corrected.click((4, *MIDDLE), LIVER, positive=False)
    corrected.click((4, 24, 28), LIVER)
    assert (corrected.labelmap[4] == blob()[4]).sum() >= 48 * 48 - 1


def test_what_was_turned_there_and_back_is_shared_out_between_the_clicks() -> None:
    """Columns 14 to 33 go, come back, and go again: the third click, on column 32, gets those nearer to it than 16."""
    empty = always(0)
    corrected = session(blob(), empty)
    corrected.click((4, 24, 32), LIVER, positive=False)
    assert not corrected.labelmap[4].any()
    change_opinion(corrected, by_intensity((50, 150, LIVER)))
    corrected.click((4, 24, 16), LIVER)
    assert (corrected.labelmap[4, 24, 14:24] == LIVER).all()
    change_opinion(corrected, empty)
    corrected.click((4, 24, 31), LIVER, positive=False)
    assert (corrected.labelmap[4, 24, 14:24] == LIVER).all()
    assert not corrected.labelmap[4, 24, 24:].any()


def gives_up_half(hu: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A network that sees the tissue, and after any click only what of it lies left of column 24."""
    seen = (hu > 50).astype(np.int64)
    if maps.any():
        seen[:, 24:] = 0
    return seen


def test_a_click_in_the_middle_of_a_false_part_takes_all_of_it() -> None:
    corrected = session(blob(), gives_up_half)
    corrected.click((4, *MIDDLE), LIVER, positive=False)
    assert not corrected.labelmap[4].any()
    corrected.undo()
    corrected.click((4, 24, 31), LIVER, positive=False)
    assert (corrected.labelmap[4, 14:34, 14:20] == LIVER).mean() > 0.75
    corrected.undo()
    corrected.scribble([(4, 24, 24), (4, 24, 30)], LIVER, positive=False)
    assert (corrected.labelmap[4, 14:34, 14:20] == LIVER).mean() > 0.75


def test_a_click_off_the_middle_of_a_part_larger_than_its_reach_takes_no_more_than_the_network_gives_up() -> None:
    """It is 200 pixels wide, the click 50 from two of its edges: in the middle only of what it reaches, 60 pixels."""
    hu = np.zeros((1, 256, 256))
    hu[0, 20:220, 20:220] = 100
    labels = (hu > 0).astype(np.uint8)
    hu[0, 20:220, 20:90] = 0
    corrected = session_of(hu, labels, by_intensity((50, 150, LIVER)), with_carry(0), tile_size=256)
    corrected.click((0, 70, 70), LIVER, positive=False)
    assert not corrected.labelmap[0, 30:110, 30:89].any()
    assert (corrected.labelmap[0, 20:220, 90:220] == LIVER).all()


def test_other_slices_lose_only_what_the_network_gave_up() -> None:
    corrected = session(blob(), gives_up_half, carry=4)
    corrected.click((4, *MIDDLE), LIVER, positive=False)
    assert not corrected.labelmap[4].any()
    assert (corrected.labelmap[[2, 3, 5], 14:34, 14:22] == LIVER).all()


def shown_labels_gives_up_all(hu: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A network that after a click gives up what lies right of column 24, but all of it where it is shown labels."""
    return np.zeros(hu.shape, np.int64) if labels.any() and not maps.any() else gives_up_half(hu, maps, labels)


def test_the_rest_of_a_false_part_is_not_carried_even_if_the_network_would_give_it_up() -> None:
    """Carried is what lies right of column 24 or within 7 pixels of the click, and may grow by 10: not to a corner."""
    wide = np.zeros((8, 48, 48), np.uint8)
    wide[2:6, 4:44, 4:44] = LIVER
    corrected = session_of(wide * 100, wide, shown_labels_gives_up_all, with_carry(1))
    corrected.click((4, *MIDDLE), LIVER, positive=False)
    assert not corrected.labelmap[4].any()
    assert not corrected.labelmap[[3, 5], 5:43, 24:].any()
    assert (corrected.labelmap[[3, 5], 4:12, 4:12] == LIVER).all()


def standing(labels: np.ndarray, *clicks: SliceClick) -> Standing:
    return Standing(labels, frozenset(), None, None, clicks, (1.0, 1.0), 1.0)


@pytest.mark.parametrize(
    ("earlier", "aim", "contradicts"),
    [
        ((LIVER, True), (LIVER, False), True),
        ((LIVER, False), (LIVER, True), True),
        ((LIVER, True), (LIVER, True), False),
        ((LIVER, True), (SPLEEN, True), True),
        ((LIVER, True), (SPLEEN, False), False),
        ((LIVER, False), (SPLEEN, True), False),
    ],
)
def test_two_clicks_contradict_each_other_if_one_voxel_cannot_obey_both(earlier, aim, contradicts) -> None:
    assert SliceClick(0, 5, 5, *earlier).contradicts(Aim(*aim, 60.0)) == contradicts


def test_a_mask_is_cut_out_for_another_part_of_the_slice() -> None:
    mine = PlaneMask((slice(2, 4), slice(3, 6)), np.array([[1, 0, 1], [0, 1, 1]], bool))
    assert mine.within((slice(3, 6), slice(4, 7))).tolist() == [[True, True, False], [False] * 3, [False] * 3]
    assert not mine.within((slice(4, 9), slice(0, 9))).any()


def test_only_clicks_on_the_same_slice_hold_it() -> None:
    labels = np.zeros((2, 8, 8), np.uint8)
    region = (slice(0, 8), slice(0, 8))
    made = {1: PlaneMask(region, np.ones((8, 8), bool))}
    stands = standing(labels, SliceClick(1, 4, 4, LIVER, False, 1.0, made))
    add = Aim(LIVER, True, 60.0)
    assert not stands.may_not_change(0, region, add, ()).any()
    assert stands.may_not_change(1, region, add, ()).all()
    assert np.argwhere(stands.may_not_change(1, region, add, [(0, 0)])).tolist() == [[4, 4]]
    assert not stands.may_not_change(1, region, add, [(4, 1)]).any()
    assert not stands.may_not_change(1, region, Aim(LIVER, False, 60.0), ()).any()


def test_after_undo_of_the_same_click_made_twice_all_that_it_made_the_first_time_holds() -> None:
    """It takes all columns, a second click brings them back, and made again it takes the right ones only."""
    labels = blob()
    labels[5] = 0
    corrected = session(labels, always(0))
    corrected.click((4, 24, 32), LIVER, positive=False)
    assert not corrected.labelmap[4].any()
    change_opinion(corrected, by_intensity((50, 150, LIVER)))
    corrected.click((4, 24, 31), LIVER)
    change_opinion(corrected, gives_up_half)
    corrected.click((4, 24, 32), LIVER, positive=False)
    assert (corrected.labelmap[4, 14:34, 14:20] == LIVER).mean() > 0.75
    corrected.undo()
    corrected.undo()
    change_opinion(corrected, by_intensity((50, 150, LIVER)))
    corrected.options = with_carry(4)
    corrected.click((5, *MIDDLE), LIVER)
    assert (corrected.labelmap[5] == blob()[5]).all()
    assert not corrected.labelmap[4].any()


def test_what_a_stroke_across_slices_took_from_a_slice_between_its_ends_holds_too() -> None:
    corrected = session(blob(), always(0))
    corrected.scribble([(2, *MIDDLE), (4, *MIDDLE)], LIVER, positive=False)
    assert not corrected.labelmap[2:5].any()
    change_opinion(corrected, by_intensity((50, 150, LIVER)))
    corrected.options = with_carry(1)
    corrected.click((4, *MIDDLE), LIVER)
    assert (corrected.labelmap[4] == blob()[4]).all()
    assert not corrected.labelmap[3].any()


def test_a_voxel_that_was_said_not_to_belong_stays_out_even_if_it_did_not_then() -> None:
    corrected = session_of(np.zeros((1, 48, 48)), np.zeros((1, 48, 48)), always(LIVER), with_carry(0))
    assert corrected.click((0, 24, 30), LIVER, positive=False).changed_voxels == 0
    corrected.click((0, 24, 10), LIVER)
    assert np.argwhere(corrected.labelmap != LIVER).tolist() == [[0, 24, 30]]


def test_the_tissue_around_a_click_that_the_network_does_not_follow_leaves_out_what_was_said_not_to_belong() -> None:
    corrected = session_of(np.zeros((1, 48, 48)), np.zeros((1, 48, 48)), always(0), with_carry(0))
    assert corrected.click((0, 24, 28), LIVER, positive=False).changed_voxels == 0
    corrected.click((0, 24, 24), LIVER)
    assert (corrected.labelmap[0, 24, [18, 24, 27, 29, 30]] == LIVER).all()
    assert corrected.labelmap[0, 24, 28] == 0


def test_a_voxel_that_was_said_to_belong_stays_even_if_it_did_already() -> None:
    corrected = session_of(np.zeros((1, 48, 48)), np.full((1, 48, 48), LIVER), always(0), with_carry(0))
    assert corrected.click((0, 24, 30), LIVER).changed_voxels == 0
    corrected.click((0, 24, 20), LIVER, positive=False)
    assert np.argwhere(corrected.labelmap).tolist() == [[0, 24, 30]]


def test_a_part_of_which_something_was_said_to_belong_is_not_taken_as_a_whole() -> None:
    corrected = session(blob(), gives_up_half)
    corrected.click((4, 24, 16), LIVER)
    corrected.click((4, *MIDDLE), LIVER, positive=False)
    assert corrected.labelmap[4, 24, 16] == LIVER
    assert (corrected.labelmap[4, 14:34, 14:16] == LIVER).all()
    assert not corrected.labelmap[4, :, 24:].any()


def test_how_near_a_click_replaces_another_is_counted_in_the_networks_pixels() -> None:
    """5 mm are less than three of its pixels of 2 mm, and more than three of 1 mm."""
    for pixel_mm, left in ((2.0, 0), (1.0, 1)):
        empty = np.zeros((1, 48, 48))
        corrected = session_of(empty, empty, always(0), with_carry(0), in_plane_spacing_mm=pixel_mm)
        corrected.click((0, 24, 20), LIVER)
        corrected.click((0, 24, 25), LIVER, positive=False)
        assert corrected.labelmap.sum() == left
