"""Correction by clicks: honoured and local."""

from __future__ import annotations

import numpy as np
import pytest

from fakes.clicks import (
    LIVER,
    SPLEEN,
    STOMACH,
    FakeSegmenter,
    always,
    change_opinion,
    session_of,
    stubborn,
    with_carry,
)
from fakes.organs import BY_HU, everything_but, hu_of, organs
from udfa.interaction import SessionOptions, stroke

# Honoured ------------------------------------------------------------------------------------------------------------


def test_a_click_on_a_missing_part_adds_it() -> None:
    truth = organs()
    labels = truth.copy()
    labels[4, 8:30, 6:14] = 0
    session = session_of(hu_of(truth), labels, BY_HU)
    edit = session.click((4, 15, 9), LIVER)
    assert (session.labelmap == truth).all()
    assert edit.changed_voxels == 22 * 8
    assert edit.slices == (4,)
    assert edit.box == (slice(4, 5), slice(8, 30), slice(6, 14))
    assert edit.note == ""
    assert edit.seconds > 0


def test_a_click_on_a_leak_gives_it_back_to_the_neighbour() -> None:
    truth = organs()
    labels = truth.copy()
    labels[4, 10:20, 24:30] = LIVER
    session = session_of(hu_of(truth), labels, BY_HU)
    edit = session.click((4, 15, 27), LIVER, positive=False)
    assert (session.labelmap == truth).all()
    assert edit.changed_voxels == 60


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("opinion", [stubborn, always(SPLEEN), always(LIVER), always(0)])
def test_the_clicked_voxel_obeys_even_if_the_network_disagrees(opinion: object, positive: bool) -> None:
    truth = organs()
    for position in [(4, 15, 10), (4, 15, 30), (0, 0, 0), (8, 47, 47), (4, 8, 24)]:
        session = session_of(hu_of(truth), truth, opinion)  # type: ignore[arg-type]
        session.click(position, LIVER, positive)
        assert bool(session.labelmap[position] == LIVER) is positive


def test_against_the_network_the_smallest_region_that_follows_edges_changes() -> None:
    """6 mm around the click, but not across the border of the liver to the background."""
    truth = organs()
    session = session_of(hu_of(truth), np.zeros_like(truth), stubborn, with_carry(0))
    edit = session.click((4, 15, 8), LIVER)
    changed = session.labelmap[4] == LIVER
    rows, columns = np.nonzero(changed)
    assert np.hypot(rows - 15, columns - 8).max() <= 6.0
    # The 3x3 mean makes the border itself look like neither side.
    assert columns.min() in (6, 7)
    assert changed[15, 14]
    assert changed[9, 8]
    assert 40 < edit.changed_voxels < 113


def test_a_click_far_off_changes_no_more_than_a_brush_would() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, stubborn)
    edit = session.click((0, 2, 45), LIVER)
    assert session.labelmap[0, 2, 45] == LIVER
    assert edit.changed_voxels <= 4 / 3 * np.pi * 6.0**3 / 2.0


def test_the_network_is_shown_the_click_and_the_labels_as_they_stand() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, stubborn, with_carry(0))
    session.click((4, 15, 30), LIVER)
    segmenter = session.segmenter
    assert isinstance(segmenter, FakeSegmenter)
    (prompt,) = segmenter.prompts
    assert prompt[0, LIVER, 15, 30] == 1
    assert prompt[0, :4].abs().sum() == 21
    assert (prompt[0, 4:, :48, :48].argmax(dim=0).numpy() == truth[4]).all()


def test_earlier_clicks_on_the_slice_are_shown_too() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, stubborn, with_carry(0))
    session.click((4, 15, 30), LIVER)
    session.click((4, 40, 40), SPLEEN)
    session.click((5, 3, 3), SPLEEN)
    segmenter = session.segmenter
    assert isinstance(segmenter, FakeSegmenter)
    _, second, third = segmenter.prompts
    assert (second[0, LIVER, 15, 30], second[0, SPLEEN, 40, 40]) == (1, 1)
    assert third[0, :4].abs().sum() == 21


def test_a_click_that_the_labels_no_longer_honour_is_not_shown() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, stubborn, with_carry(0))
    session.click((4, 15, 30), LIVER)
    erased = session.labelmap.copy()
    erased[4, 5:25, 24:36] = SPLEEN
    session.take_up(erased)
    session.click((4, 40, 40), SPLEEN)
    segmenter = session.segmenter
    assert isinstance(segmenter, FakeSegmenter)
    assert not segmenter.prompts[-1][0, LIVER].any()


def test_an_earlier_click_keeps_what_it_made_when_a_later_one_elsewhere_would_take_it() -> None:
    session = session_of(np.zeros((1, 48, 48)), np.zeros((1, 48, 48)), stubborn, with_carry(0))
    session.click((0, 24, 10), LIVER)
    change_opinion(session, always(SPLEEN))
    session.click((0, 24, 38), SPLEEN)
    assert session.labelmap[0, 24].tolist() == [SPLEEN] * 4 + [LIVER] * 13 + [SPLEEN] * 31


def test_the_last_of_two_clicks_side_by_side_counts() -> None:
    session = session_of(np.zeros((1, 48, 48)), np.zeros((1, 48, 48)), always(0), with_carry(0))
    session.click((0, 24, 20), LIVER)
    session.click((0, 24, 23), LIVER, positive=False)
    assert not session.labelmap.any()


def test_a_stroke_is_one_edit_and_every_voxel_of_it_obeys() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, stubborn, with_carry(0))
    edit = session.scribble([(4, 40, 4), (4, 40, 24), (4, 46, 24)], LIVER)
    assert (session.labelmap[4, 40, 4:25] == LIVER).all()
    assert (session.labelmap[4, 40:47, 24] == LIVER).all()
    assert (edit.kind, len(edit.clicks), len(session.clicks)) == ("scribble", 3, 3)
    session.undo()
    assert (session.labelmap == truth).all()
    assert session.clicks == []


def test_a_stroke_through_many_slices_as_in_a_coronal_view_corrects_them_all() -> None:
    truth = organs()
    labels = truth.copy()
    labels[1:8, 8:30, 6:14] = 0
    session = session_of(hu_of(truth), labels, BY_HU, with_carry(0))
    edit = session.scribble([(1, 15, 8), (7, 15, 12)], LIVER)
    assert (session.labelmap == truth).all()
    assert edit.slices == (1, 2, 3, 4, 5, 6, 7)


def test_the_path_of_a_stroke_has_no_gaps() -> None:
    path = stroke([(0, 0, 0), (2, 5, 1), (2, 5, 1), (2, 5, 4)])
    assert (path[0], path[-1], len(path)) == ((0, 0, 0), (2, 5, 4), 9)
    for a, b in zip(path, path[1:]):
        assert max(abs(p - q) for p, q in zip(a, b)) == 1


# Local ---------------------------------------------------------------------------------------------------------------


def test_nothing_outside_the_box_changes() -> None:
    truth = organs()
    labels = truth.copy()
    labels[3:6, 8:30, 6:14] = 0
    labels[6, 36:44, 30:44] = LIVER
    session = session_of(hu_of(truth), labels, BY_HU)
    before = session.labelmap.copy()
    edit = session.click((4, 15, 9), LIVER)
    outside = everything_but(edit, before.shape)
    assert (session.labelmap[outside] == before[outside]).all()
    assert (edit.before == before[edit.box]).all()
    assert (edit.after == session.labelmap[edit.box]).all()


def test_errors_that_are_not_connected_with_the_click_stay() -> None:
    truth = organs()
    labels = truth.copy()
    labels[4, 8:12, 6:24] = 0
    labels[4, 26:30, 6:24] = 0
    session = session_of(hu_of(truth), labels, BY_HU)
    session.click((4, 10, 15), LIVER)
    assert (session.labelmap[4, 8:12, 6:24] == LIVER).all()
    assert (session.labelmap[4, 26:30, 6:24] == 0).all()


def test_a_network_that_sees_liver_everywhere_gets_the_reach_and_not_the_slice() -> None:
    labels = np.zeros((3, 200, 200))
    labels[:, 95:106, 95:106] = LIVER
    options = SessionOptions(carry_slices=0, reach_mm=30.0)
    session = session_of(np.zeros((3, 200, 200)), labels, always(LIVER), options, tile_size=256)
    edit = session.click((1, 100, 120), LIVER)
    rows, columns = np.nonzero(edit.before[0] != edit.after[0])
    distance = np.hypot(rows + edit.box[1].start - 100, columns + edit.box[2].start - 120)
    assert distance.max() <= 30.0
    assert edit.slices == (1,)


def test_where_the_label_is_new_a_click_reaches_twice_as_far() -> None:
    options = SessionOptions(carry_slices=0, reach_mm=20.0)
    session = session_of(np.zeros((1, 128, 128)), np.zeros((1, 128, 128)), always(LIVER), options, tile_size=128)
    session.click((0, 64, 64), LIVER)
    assert session.labelmap[0, 64, 26:103].all()
    assert not session.labelmap[0, 64, :24].any()
    assert session.labelmap.sum() == pytest.approx(np.pi * 40**2, rel=0.02)


def test_a_removal_touches_no_other_label() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, always(0), with_carry(0))
    session.click((4, 15, 10), LIVER, positive=False)
    for value in (SPLEEN, STOMACH):
        assert ((session.labelmap == value) == (truth == value)).all()


def test_without_locks_a_neighbour_changes_only_where_the_label_takes_or_gives() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, always(LIVER), with_carry(0))
    session.click((4, 15, 30), LIVER)
    changed = session.labelmap != truth
    assert changed.any()
    assert (session.labelmap[changed] == LIVER).all()
