"""Correction by clicks: never at the cost of what is locked or masked, and without harm."""

from __future__ import annotations

import numpy as np
import pytest

from fakes.clicks import (
    LIVER,
    SPLEEN,
    STOMACH,
    always,
    session_of,
    stubborn,
    with_carry,
)
from fakes.organs import BY_HU, hu_of, organs
from udfa.errors import InvalidInputError

# Locks and masks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opinion", [always(LIVER), stubborn, BY_HU])
def test_a_locked_neighbour_loses_no_voxel(opinion: object) -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, opinion)  # type: ignore[arg-type]
    session.lock([SPLEEN, STOMACH])
    for position in [(4, 15, 23), (4, 31, 20), (4, 40, 29), (1, 5, 26)]:
        session.click(position, LIVER)
    for value in (SPLEEN, STOMACH):
        assert ((session.labelmap == value) == (truth == value)).all()


def test_a_locked_neighbour_gains_no_voxel() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, always(SPLEEN))
    session.lock([SPLEEN])
    session.click((4, 15, 20), LIVER, positive=False)
    assert session.labelmap[4, 15, 20] == 0
    assert ((session.labelmap == SPLEEN) == (truth == SPLEEN)).all()


def test_a_click_on_a_locked_neighbour_changes_nothing_and_says_why() -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, always(LIVER))
    session.lock([SPLEEN])
    edit = session.click((4, 15, 30), LIVER)
    assert (session.labelmap == truth).all()
    assert (edit.changed_voxels, edit.slices) == (0, ())
    assert "locked" in edit.note


@pytest.mark.parametrize("positive", [True, False])
def test_a_click_for_a_locked_label_changes_nothing_and_names_it(positive: bool) -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, always(LIVER))
    session.lock([LIVER])
    edit = session.click((4, 15, 10 if not positive else 40), LIVER, positive)
    assert (session.labelmap == truth).all()
    assert edit.note == "liver is locked."


def test_values_that_the_model_does_not_know_are_kept() -> None:
    truth = organs()
    truth[4, 12:18, 10:14] = 99
    session = session_of(hu_of(organs()), truth, always(LIVER))
    session.click((4, 15, 2), LIVER)
    session.click((4, 15, 20), LIVER, positive=False)
    edit = session.click((4, 15, 12), LIVER)
    assert ((session.labelmap == 99) == (truth == 99)).all()
    assert "does not know" in edit.note


def test_background_cannot_be_locked() -> None:
    session = session_of(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), stubborn)
    with pytest.raises(InvalidInputError, match="Background"):
        session.lock([0, LIVER])


def test_voxels_outside_the_mask_never_change() -> None:
    truth = organs()
    editable = np.zeros(truth.shape, bool)
    editable[:, :, :20] = True
    session = session_of(hu_of(truth), np.zeros_like(truth), BY_HU)
    session.restrict(editable)
    session.click((4, 15, 10), LIVER)
    assert (session.labelmap[1:8, 8:30, 6:20] == LIVER).all()
    assert not session.labelmap[:, :, 20:].any()
    edit = session.click((4, 15, 22), LIVER)
    assert (edit.changed_voxels, edit.note) == (0, "The clicked voxel is outside the region that may be edited.")
    session.restrict(None)
    session.click((4, 15, 22), LIVER)
    assert (session.labelmap[4] == np.where(truth[4] == LIVER, LIVER, 0)).all()


@pytest.mark.parametrize("mask", [np.ones((1, 8, 9), bool), np.ones((1, 8, 8), np.uint8)])
def test_a_mask_that_does_not_fit_is_refused(mask: np.ndarray) -> None:
    session = session_of(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), stubborn)
    with pytest.raises(InvalidInputError, match="must be bool"):
        session.restrict(mask)


# No harm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opinion", [always(LIVER), always(0), stubborn, BY_HU])
def test_a_correct_click_on_the_true_mask_changes_nothing(opinion: object) -> None:
    truth = organs()
    session = session_of(hu_of(truth), truth, opinion)  # type: ignore[arg-type]
    for position, value, positive in [
        ((4, 15, 10), LIVER, True),
        ((4, 8, 23), LIVER, True),
        ((4, 15, 30), LIVER, False),
        ((4, 15, 24), LIVER, False),
        ((0, 0, 0), SPLEEN, False),
    ]:
        edit = session.click(position, value, positive)
        assert edit.note == "The clicked voxel is already as wanted."
    assert (session.labelmap == truth).all()


def test_a_click_on_a_small_error_leaves_the_rest_of_a_true_mask_alone() -> None:
    """The network is wrong about the whole outline by one of its own pixels; the reader corrects 3 % of the organ."""
    truth = np.zeros((1, 128, 128), np.uint8)
    truth[0, 20:100, 20:100] = LIVER
    network_thinks = np.zeros((64, 64), np.int64)
    network_thinks[9:51, 9:51] = LIVER
    labels = truth.copy()
    labels[0, 40:54, 86:100] = 0
    hu = np.full((1, 128, 128), 60)
    session = session_of(hu, labels, lambda *_: network_thinks, with_carry(0), in_plane_spacing_mm=2.0)
    session.click((0, 47, 92), LIVER)
    wrong = session.labelmap != truth
    assert not wrong[0, 40:54, 86:100].any()
    assert wrong.sum() < 0.01 * (truth > 0).sum()
