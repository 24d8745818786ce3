"""Corrections carry to neighbouring slices while the image agrees, and no farther than the user allows."""

from __future__ import annotations

import numpy as np
import pytest

from fakes.clicks import LIVER, SPLEEN, Opinion, always, by_intensity, session_of, stubborn, with_carry
from udfa.slice_network import Question

BY_HU = by_intensity((80, 120, LIVER), (180, 220, SPLEEN))


def block(first: int, last: int, depth: int = 15) -> np.ndarray:
    """A liver of 20 x 20 pixels in slices first..last - 1."""
    truth = np.zeros((depth, 48, 48), np.uint8)
    truth[first:last, 10:30, 10:30] = LIVER
    return truth


def slices_with(labelmap: np.ndarray, value: int = LIVER) -> list[int]:
    return np.flatnonzero((labelmap == value).any(axis=(1, 2))).tolist()


def test_a_correction_carries_to_where_the_organ_ends() -> None:
    truth = block(5, 9)
    session = session_of(truth * 100, np.zeros_like(truth), BY_HU, with_carry(10))
    edit = session.click((6, 20, 20), LIVER)
    assert (session.labelmap == truth).all()
    assert edit.slices == (5, 6, 7, 8)


@pytest.mark.parametrize(("limit", "reached"), [(0, [7]), (1, [6, 7, 8]), (3, [4, 5, 6, 7, 8, 9, 10])])
def test_it_carries_no_farther_than_the_limit(limit: int, reached: list[int]) -> None:
    truth = block(0, 15)
    session = session_of(truth * 100, np.zeros_like(truth), BY_HU, with_carry(limit))
    edit = session.click((7, 20, 20), LIVER)
    assert slices_with(session.labelmap) == reached == list(edit.slices)


def test_the_image_stops_a_network_that_would_go_on_for_ever() -> None:
    truth = block(5, 9)
    session = session_of(truth * 100, np.zeros_like(truth), always(LIVER), with_carry(10, reach_mm=4.0))
    session.click((6, 20, 20), LIVER)
    assert slices_with(session.labelmap) == [5, 6, 7, 8]


def test_the_network_stops_where_the_image_alone_would_go_on() -> None:
    """The organ ends without an edge; the network knows where, because it sees the neighbouring bone."""
    truth = block(5, 9)
    hu = np.full(truth.shape, 100)
    hu[9:, 0, 0] = hu[:5, 0, 0] = 250

    def opinion(image: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
        inside = np.zeros(image.shape)
        if image[0, 0] < 200:
            inside[10:30, 10:30] = LIVER
        return inside

    session = session_of(hu, np.zeros_like(truth), opinion, with_carry(10))
    session.click((6, 20, 20), LIVER)
    assert (session.labelmap == truth).all()


def test_it_stops_at_a_slice_that_is_right_already() -> None:
    truth = block(0, 15)
    labels = truth.copy()
    labels[[6, 7, 8, 11]] = 0
    session = session_of(truth * 100, labels, BY_HU, with_carry(10))
    edit = session.click((7, 20, 20), LIVER)
    assert edit.slices == (6, 7, 8)
    assert not session.labelmap[11].any()


def test_the_outline_follows_an_organ_that_becomes_narrower() -> None:
    truth = np.zeros((9, 48, 48), np.uint8)
    for z in range(9):
        truth[z, 10 + z : 30, 10 + z : 30] = LIVER
    session = session_of(truth * 100, np.zeros_like(truth), BY_HU, with_carry(10))
    session.click((3, 20, 20), LIVER)
    assert (session.labelmap == truth).mean() > 0.999
    assert slices_with(session.labelmap) == list(range(9))


def test_it_does_not_jump_to_another_organ() -> None:
    """On the slices above, spleen lies where the liver was missing below; the network is confused about it."""
    hu = np.full((9, 48, 48), 100)
    labels = np.zeros((9, 48, 48), np.uint8)
    labels[5:, 10:30, 10:30] = SPLEEN
    session = session_of(hu, labels, always(LIVER), with_carry(8, reach_mm=12.0))
    session.click((4, 20, 20), LIVER)
    assert ((session.labelmap == SPLEEN) == (labels == SPLEEN)).all()
    assert session.labelmap[4, 20, 20] == LIVER
    assert session.labelmap[2, 20, 20] == LIVER


def test_a_correction_that_took_from_an_organ_goes_on_taking_from_it() -> None:
    truth = block(3, 12)
    labels = np.where(truth == LIVER, SPLEEN, 0).astype(np.uint8)
    session = session_of(truth * 100, labels, BY_HU, with_carry(10))
    session.click((7, 20, 20), LIVER)
    assert (session.labelmap == truth).all()


def test_a_removal_carries_and_gives_the_voxels_to_whom_the_click_gave_them() -> None:
    truth = np.zeros((9, 48, 48), np.uint8)
    truth[:, 10:30, 10:20] = LIVER
    truth[:, 10:30, 20:30] = SPLEEN
    labels = truth.copy()
    labels[3:6, 12:28, 20:27] = LIVER
    session = session_of(truth * 100, labels, BY_HU, with_carry(10))
    edit = session.click((4, 20, 23), LIVER, positive=False)
    assert (session.labelmap == truth).all()
    assert edit.slices == (3, 4, 5)


def test_a_removal_to_the_background_makes_no_other_organ_on_the_next_slices() -> None:
    labels = block(0, 9, depth=9)
    hu = np.full(labels.shape, 50)
    hu[5:, 0, 0] = 250

    def opinion(image: np.ndarray, maps: np.ndarray, existing: np.ndarray) -> np.ndarray:
        return np.full(image.shape, SPLEEN if image[0, 0] > 200 else 0)

    session = session_of(hu, labels, opinion, with_carry(8))
    session.click((4, 20, 20), LIVER, positive=False)
    assert not session.labelmap.any()


def clinging(hu: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A network that wants the labels as they stand, and sees liver everywhere where it is shown none."""
    return np.asarray(np.where(labels.any(axis=0), labels.argmax(axis=0), LIVER))


@pytest.mark.parametrize("positive", [True, False])
def test_against_the_network_a_ball_changes(positive: bool) -> None:
    """Slices of 2 mm: a ball of 6 mm radius reaches two slices up and down, a limit of one slice cuts it."""
    labels = np.full((9, 48, 48), 0 if positive else LIVER, np.uint8)
    session = session_of(np.zeros(labels.shape), labels, stubborn if positive else clinging, with_carry(8))
    edit = session.click((4, 24, 24), LIVER, positive)
    widths = (session.labelmap != labels)[:, 24].sum(axis=1)
    assert widths.tolist() == [0, 0, 9, 11, 13, 11, 9, 0, 0]
    assert edit.slices == (2, 3, 4, 5, 6)
    session.undo()
    session.options = with_carry(1)
    assert session.click((4, 24, 24), LIVER, positive).slices == (3, 4, 5)


def test_carrying_respects_locks_and_masks() -> None:
    truth = block(0, 9, depth=9)
    labels = np.zeros_like(truth)
    labels[6:, 10:30, 20:30] = SPLEEN
    editable = np.ones(truth.shape, bool)
    editable[:3] = False
    session = session_of(truth * 100, labels, BY_HU, with_carry(8))
    session.lock([SPLEEN])
    session.restrict(editable)
    session.click((4, 20, 15), LIVER)
    assert slices_with(session.labelmap) == [3, 4, 5, 6, 7, 8]
    assert ((session.labelmap == SPLEEN) == (labels == SPLEEN)).all()


def test_a_stroke_carries_beyond_both_of_its_ends() -> None:
    truth = block(2, 12)
    session = session_of(truth * 100, np.zeros_like(truth), BY_HU, with_carry(2))
    edit = session.scribble([(5, 14, 14), (7, 20, 20)], LIVER)
    assert edit.slices == (3, 4, 5, 6, 7, 8, 9)


def test_at_the_first_and_last_slice_the_carrying_ends() -> None:
    truth = block(0, 3, depth=3)
    for z in (0, 2):
        session = session_of(truth * 100, np.zeros_like(truth), BY_HU, with_carry(10))
        session.click((z, 20, 20), LIVER)
        assert (session.labelmap == truth).all()


@pytest.mark.parametrize("opinion", [always(LIVER), stubborn, BY_HU])
def test_with_no_carrying_only_the_clicked_slice_changes_and_only_it_is_encoded(opinion: Opinion) -> None:
    truth = block(0, 9, depth=9)
    session = session_of(truth * 100, np.zeros_like(truth), opinion, with_carry(0))
    session.click((4, 20, 20), LIVER)
    assert slices_with(session.labelmap) == [4]
    assert session.segmenter.encoded == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("opinion", [always(LIVER), stubborn])
def test_a_carried_correction_does_not_overrule_an_earlier_click_on_the_next_slice(opinion: Opinion) -> None:
    """Also not right beside the carried place, where a new click on the same slice would win."""
    session = session_of(np.zeros((9, 48, 48)), np.zeros((9, 48, 48)), opinion, with_carry(0, reach_mm=8.0))
    session.click((5, 24, 24), SPLEEN)
    session.click((5, 24, 27), LIVER, positive=False)
    session.options = with_carry(4, reach_mm=8.0)
    edit = session.click((4, 24, 25), LIVER)
    assert session.labelmap[4, 24, 24] == LIVER
    assert session.labelmap[5, 24, 24] == SPLEEN
    assert session.labelmap[5, 24, 27] != LIVER
    assert 4 in edit.slices


def test_a_correction_follows_an_organ_that_runs_obliquely() -> None:
    """Four pixels of 1 mm to the side from slice to slice: after four slices it lies beside where it began."""
    truth = np.zeros((9, 60, 60), np.uint8)
    for z in range(9):
        truth[z, 4 + 4 * z : 24 + 4 * z, 20:40] = LIVER
    session = session_of(truth * 100, np.zeros_like(truth), BY_HU, with_carry(10))
    edit = session.click((4, 30, 30), LIVER)
    assert edit.slices == tuple(range(9))
    assert (session.labelmap == truth).mean() > 0.995


def test_slices_above_and_below_are_asked_about_together() -> None:
    truth = block(0, 15)
    session = session_of(truth * 100, np.zeros_like(truth), BY_HU, with_carry(3))
    calls: list[list[int]] = []
    ask = session.network.ask

    def watched(questions: list[Question]) -> list[np.ndarray]:
        calls.append([question.z for question in questions])
        return ask(questions)

    session.network.ask = watched  # type: ignore[method-assign, assignment]
    session.click((7, 20, 20), LIVER)
    assert calls == [[7], [8, 6], [9, 5], [10, 4]]


def test_a_region_that_the_image_alone_decides_on_is_not_asked_about_again() -> None:
    """The network never follows; what the click adds then is a matter of image edges, on all slices."""
    truth = block(0, 15)
    session = session_of(truth * 100, np.zeros_like(truth), stubborn, with_carry(10))
    edit = session.click((7, 20, 20), LIVER)
    assert edit.slices == (5, 6, 7, 8, 9)
    assert len(session.segmenter.prompts) == 1  # type: ignore[attr-defined]


def test_what_was_prepared_around_a_voxel_spares_a_carried_click_nearby_the_encoder() -> None:
    truth = block(0, 30, 30)
    session = session_of(truth * 100, np.zeros_like(truth), BY_HU, with_carry(3))
    session.prepare_around((15, 20, 20), lambda: False)
    assert session.network.encoded == 2 * 6 + 1
    assert session.click((12, 18, 18), LIVER).slices == tuple(range(9, 16))
    assert session.network.encoded == 13
    session.prepare_around((0, 20, 20), lambda: True)
    assert session.network.encoded == 13


def told_by_labels(hu: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A network that sees nothing by itself, and the tissue when it is shown clicks or labels."""
    return np.asarray((hu > 50) & (maps.any() or labels.any())).astype(np.int64)


@pytest.mark.parametrize(("missing", "asked"), [(2, 1), (6, 3)])
def test_the_network_is_asked_about_other_slices_only_if_more_than_a_border_moved(missing: int, asked: int) -> None:
    """A strip of 6 pixels is 3 deep, one of 2 pixels only 1: less than two of the network's pixels."""
    truth = block(0, 3, depth=3)
    labels = truth.copy()
    labels[:, :, 30 - missing :] = 0
    session = session_of(truth * 100, labels, told_by_labels, with_carry(1))
    session.restrict(truth == LIVER)
    session.click((1, 20, 28), LIVER)
    assert (session.labelmap[1, 15:26] == truth[1, 15:26]).all()
    assert len(session.segmenter.prompts) == asked  # type: ignore[attr-defined]
