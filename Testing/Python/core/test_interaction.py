"""Correction by clicks: honoured, local, never at the cost of what is locked, and without harm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fakes.clicks import (
    LIVER,
    SPLEEN,
    STOMACH,
    FakeSegmenter,
    always,
    by_intensity,
    mini_segmenter,
    session_of,
    stubborn,
    volume_of,
    with_carry,
)
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.history import Edit
from udfa.interaction import CorrectionSession, SessionOptions, stroke

HU = {0: 0, LIVER: 100, SPLEEN: 200, STOMACH: -50}
BY_HU = by_intensity((80, 120, LIVER), (180, 220, SPLEEN), (-70, -30, STOMACH))


def organs() -> np.ndarray:
    """The truth: a liver block beside a spleen block, a stomach apart; 9 slices of 48 x 48."""
    truth = np.zeros((9, 48, 48), np.uint8)
    truth[1:8, 8:30, 6:24] = LIVER
    truth[1:8, 8:30, 24:36] = SPLEEN
    truth[2:6, 36:44, 30:44] = STOMACH
    return truth


def hu_of(truth: np.ndarray) -> np.ndarray:
    """An image in which every organ has an intensity of its own."""
    return np.vectorize(HU.get)(truth).astype(np.int16)


def everything_but(edit: Edit, shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the voxels outside an edit's box."""
    mask = np.ones(shape, bool)
    mask[edit.box] = False
    return mask


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


def test_an_earlier_click_keeps_its_voxel_when_a_later_one_elsewhere_would_take_it() -> None:
    session = session_of(np.zeros((1, 48, 48)), np.zeros((1, 48, 48)), stubborn, with_carry(0))
    session.click((0, 24, 10), LIVER)
    session.segmenter.opinion = always(SPLEEN)  # type: ignore[attr-defined]
    session.click((0, 24, 38), SPLEEN)
    assert session.labelmap[0, 24, 10] == LIVER
    assert session.labelmap[0, 24, 13] == SPLEEN


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


# Session -------------------------------------------------------------------------------------------------------------


def test_without_a_click_the_labelmap_is_the_automatic_result() -> None:
    hu = np.random.default_rng(0).integers(-120, 270, (3, 40, 40)).astype(np.int16)
    segmenter = mini_segmenter()
    automatic = segmenter.segment(volume_of(hu)).labelmap
    session = CorrectionSession(segmenter, volume_of(hu), automatic)
    assert np.array_equal(session.labelmap, automatic)
    assert session.labelmap is not automatic
    assert not session.can_undo


def test_the_given_labelmap_is_not_written_to() -> None:
    labels = np.zeros((1, 16, 16), np.uint8)
    session = session_of(np.zeros((1, 16, 16)), labels, always(LIVER))
    session.click((0, 3, 3), LIVER)
    assert session.labelmap.any()
    assert not labels.any()


def test_the_real_network_takes_clicks_in_every_way() -> None:
    """Random weights: the network is of no help, the rules hold all the same."""
    random = np.random.default_rng(4)
    hu = random.integers(-120, 270, (5, 50, 70)).astype(np.int16)
    labels = organs()[:5, :48, :48]
    labelmap = np.zeros(hu.shape, np.uint8)
    labelmap[:, :48, :48] = labels
    session = CorrectionSession(mini_segmenter(in_plane_spacing_mm=1.5), volume_of(hu), labelmap)
    session.lock([STOMACH])
    for _ in range(12):
        position = tuple(int(random.integers(n)) for n in hu.shape)
        value, positive = int(random.integers(1, 4)), bool(random.integers(2))
        before = session.labelmap.copy()
        edit = session.click(position, value, positive)
        outside = everything_but(edit, before.shape)
        assert (session.labelmap[outside] == before[outside]).all()
        assert ((session.labelmap == STOMACH) == (before == STOMACH)).all()
        if value != STOMACH and before[position] != STOMACH:
            assert bool(session.labelmap[position] == value) is positive


def test_a_model_without_a_prompt_encoder_is_refused() -> None:
    segmenter = mini_segmenter()
    segmenter.network.prompt_encoder = None
    with pytest.raises(InvalidInputError, match="takes no clicks"):
        CorrectionSession(segmenter, volume_of(np.zeros((1, 8, 8))), np.zeros((1, 8, 8), np.uint8))


@pytest.mark.parametrize(
    ("labelmap", "message"),
    [(np.zeros((1, 8, 9), np.uint8), "differ in shape"), (np.zeros((1, 8, 8), np.int16), "must be uint8")],
)
def test_a_labelmap_that_does_not_fit_is_refused(labelmap: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        CorrectionSession(FakeSegmenter(stubborn), volume_of(np.zeros((1, 8, 8))), labelmap)  # type: ignore[arg-type]


@pytest.mark.parametrize("position", [(-1, 0, 0), (0, 8, 0), (0, 0, 8), (1, 0, 0)])
def test_a_click_outside_the_volume_is_refused_and_leaves_no_trace(position: tuple[int, int, int]) -> None:
    session = session_of(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), always(LIVER))
    with pytest.raises(InvalidInputError, match="outside the volume"):
        session.scribble([(0, 1, 1), position], LIVER)
    assert not session.labelmap.any()
    assert (session.clicks, session.can_undo) == ([], False)


@pytest.mark.parametrize("value", [0, 4, -1])
def test_a_label_that_the_model_lacks_is_refused(value: int) -> None:
    session = session_of(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), stubborn)
    with pytest.raises(InvalidInputError, match=r"has 1\.\.3"):
        session.click((0, 1, 1), value)


def test_an_empty_stroke_is_refused() -> None:
    session = session_of(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), stubborn)
    with pytest.raises(InvalidInputError, match="at least one position"):
        session.scribble([], LIVER)


def test_an_error_of_the_network_leaves_no_trace() -> None:
    session = session_of(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), stubborn)
    session.segmenter.errors = [RuntimeError("broken")]  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="broken"):
        session.click((0, 1, 1), LIVER)
    assert not session.labelmap.any()
    assert (session.clicks, session.can_undo) == ([], False)
    session.click((0, 1, 1), LIVER)
    assert session.labelmap[0, 1, 1] == LIVER


@pytest.mark.parametrize(
    "wrong",
    [{"carry_slices": -1}, {"reach_mm": 0.0}, {"reach_mm": float("nan")}, {"undo_depth": 0}, {"cache_bytes": -1}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        SessionOptions(**wrong)  # type: ignore[arg-type]


def test_the_cache_keeps_to_its_budget_over_many_slices() -> None:
    random = np.random.default_rng(0)
    hu = random.integers(-120, 270, (12, 64, 64)).astype(np.int16)
    segmenter = mini_segmenter()
    with torch.inference_mode():
        from udfa.features import features_bytes

        one = features_bytes(segmenter.encode(torch.zeros(1, 3, 64, 64)))
    options = SessionOptions(carry_slices=0, cache_bytes=4 * one)
    session = CorrectionSession(segmenter, volume_of(hu), np.zeros(hu.shape, np.uint8), options)
    for z in range(12):
        session.click((z, 30, 30), LIVER)
        assert session.network.cache.used_bytes <= 4 * one
    assert len(session.network.cache) == 4


def test_a_single_slice_and_a_single_pixel_can_be_clicked() -> None:
    for shape in [(1, 1, 1), (1, 40, 3), (5, 1, 1)]:
        session = CorrectionSession(
            mini_segmenter(),
            Volume(np.zeros(shape, np.int16), (1.0, 1.0, 1.0), np.eye(3)[:, ::-1]),
            np.zeros(shape, np.uint8),
        )
        session.click((0, 0, 0), LIVER)
        assert session.labelmap[0, 0, 0] == LIVER
