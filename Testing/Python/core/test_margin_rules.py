"""A click shifts the network's margin around it, and what the network was less sure of changes with the click."""

from __future__ import annotations

import numpy as np
import pytest

from udfa.edit_rules import Aim, Piece
from udfa.margin_rules import (
    AGREEMENT,
    EXCESS,
    FAINTEST,
    SPREAD_PIXELS,
    SPREAD_SLICES,
    STRONGEST,
    Spread,
    joined_change,
    margin,
)
from udfa.standing import SliceClick

ADD, REMOVE = Aim(1, True, 60.0), Aim(1, False, 60.0)
WHOLE = (slice(0, 60), slice(0, 60))
Z = 5
ONE_SIGMA = float(np.exp(-0.5))


def answer_of(margins: np.ndarray) -> np.ndarray:
    """Probabilities of two classes of which the second wins by the given margins."""
    label = 1 / (1 + np.exp(-margins))
    return np.stack([1 - label, label]).astype(np.float32)


def ramp(border: float = 30.0, slope: float = 1.0) -> np.ndarray:
    """An organ left of `border`; towards the right the network is surer, pixel by pixel, that it has ended."""
    columns = np.arange(60, dtype=np.float64)
    return answer_of(np.broadcast_to((border - columns - 0.5) * slope, (60, 60)))


def spread_of(
    aim: Aim = ADD, earlier: tuple[SliceClick, ...] = (), spacing: tuple[float, float] = (1.0, 1.0)
) -> Spread:
    return Spread(aim, earlier, spacing, 1.0)


def piece_of(labels: np.ndarray) -> Piece:
    shape = labels.shape
    return Piece(
        labels.astype(np.uint8),
        np.zeros(shape, np.float32),
        np.zeros(shape, bool),
        np.ones(2, bool),
        (1.0, 1.0),
        1.0,
    )


def test_the_margin_is_the_log_ratio_to_the_likeliest_other_class() -> None:
    answer = np.array([[[0.7, 0.1]], [[0.2, 0.8]], [[0.1, 0.1]]], np.float32)
    assert margin(answer, 1)[0].tolist() == pytest.approx([np.log(2 / 7), np.log(8)])
    assert margin(answer, 0)[0].tolist() == pytest.approx([np.log(3.5), np.log(1 / 8)])


def test_a_certain_answer_has_a_finite_margin() -> None:
    assert margin(np.array([[[1.0]], [[0.0]]], np.float32), 1)[0, 0] == pytest.approx(np.log(1e-6))


def test_a_click_on_a_thin_error_moves_the_border_along_it() -> None:
    """The border lies 3 pixels too far left. One sigma from the click the shift still gains 2 pixels, far off none."""
    spread, answer = spread_of(), ramp()
    assert not spread.take(Z, [(30, 32)], WHOLE, answer)
    wanted = spread.wanted(Z, WHOLE, answer)
    assert spread.strengths == {(Z, 30, 32): pytest.approx(2.5 + EXCESS, abs=1e-3)}
    assert wanted[30, 20:].tolist() == [column <= 32 for column in range(20, 60)]
    one_sigma_away = round(30 - SPREAD_PIXELS)
    reached = (2.5 + EXCESS) * ONE_SIGMA
    assert wanted[one_sigma_away, 30:].sum() == int(reached + 0.5) == 2
    assert not wanted[0, 30:].any()


def test_a_removal_moves_the_border_back() -> None:
    spread, answer = spread_of(REMOVE), ramp()
    spread.take(Z, [(30, 27)], WHOLE, answer)
    wanted = spread.wanted(Z, WHOLE, answer)
    assert wanted[30, 27:40].all()
    assert not wanted[30, :27].any()
    assert not wanted[0, :30].any()


def test_where_the_network_is_sure_the_border_stays() -> None:
    spread = spread_of()
    steep_above = np.where(np.arange(60)[:, None] < 20, 9.0, 1.0)
    answer = answer_of((30 - np.arange(60)[None] - 0.5) * steep_above)
    spread.take(Z, [(25, 31)], WHOLE, answer)
    wanted = spread.wanted(Z, WHOLE, answer)
    assert wanted[25, 31]
    assert wanted[20, 30]
    assert not wanted[19, 30]


def test_the_shift_fades_from_slice_to_slice() -> None:
    answer = ramp()
    gains = []
    for offset in (0, 1, 2, 3, 5):
        spread = spread_of()
        spread.take(Z, [(30, 33)], WHOLE, answer)
        gains.append(int(spread.wanted(Z + offset, WHOLE, answer)[30, 30:].sum()))
    strength = 3.5 + EXCESS
    expected = [strength * np.exp(-0.5 * (offset / SPREAD_SLICES) ** 2) for offset in (0, 1, 2, 3, 5)]
    assert gains == [int(e + 0.5) for e in expected]
    assert gains[0] == 4
    assert gains[-1] == 0


def test_only_slices_are_reached_to_which_more_than_a_faint_part_of_the_shift_comes() -> None:
    spread = spread_of()
    spread.take(Z, [(30, 32)], WHOLE, ramp())
    farthest = SPREAD_SLICES * np.sqrt(-2 * np.log(FAINTEST))
    assert [offset for offset in range(9) if spread.reaches(Z + offset)] == list(range(int(farthest) + 1))


def test_a_click_that_needs_a_huge_shift_moves_its_surroundings_by_a_limited_one() -> None:
    spread, answer = spread_of(), ramp()
    spread.take(Z, [(30, 50)], WHOLE, answer)
    assert spread.strengths == {(Z, 30, 50): STRONGEST + EXCESS}
    assert spread.wanted(Z, WHOLE, answer)[30, 30:50].sum() <= STRONGEST + 1


def test_a_network_that_agrees_is_followed_at_any_distance() -> None:
    spread, answer = spread_of(), ramp()
    assert spread.take(Z, [(30, 5)], WHOLE, answer)
    assert spread.agreed
    assert spread.reaches(Z + 40)
    assert spread.wanted(Z + 40, WHOLE, answer).sum() == 60 * 30


def test_an_opposite_click_takes_back_what_an_earlier_one_moved() -> None:
    """The earlier shift counts as part of the margin: the second click is no agreement with the automatic answer."""
    answer = ramp()
    earlier = SliceClick(Z, 30, 34, 1, True, 4.5)
    spread = spread_of(REMOVE, (earlier,))
    assert not spread.take(Z, [(30, 33)], WHOLE, answer)
    wanted = spread.wanted(Z, WHOLE, answer)
    assert wanted[30, 33]
    assert not wanted[30, 30:32].any()
    assert spread_of(REMOVE).take(Z, [(30, 33)], WHOLE, answer)


def test_of_several_shifts_in_one_sense_the_strongest_counts_and_not_their_sum() -> None:
    answer = ramp()
    spread = spread_of(ADD, tuple(SliceClick(Z, 30, 33, 1, True, 3.6) for _ in range(9)))
    spread.take(Z, [(30, 33)], WHOLE, answer)
    assert spread.wanted(Z, WHOLE, answer)[30].sum() == 34


def test_the_spread_is_in_millimetres_of_unequal_pixels() -> None:
    """Rows 2 mm apart: one sigma is half as many rows."""
    answer = ramp()
    near, far = spread_of(spacing=(2.0, 1.0)), spread_of()
    for spread in (near, far):
        spread.take(Z, [(30, 33)], WHOLE, answer)
    half = round(SPREAD_PIXELS / 2)
    assert near.wanted(Z, WHOLE, answer)[30 + half].sum() == far.wanted(Z, WHOLE, answer)[30 + 2 * half].sum()


def test_a_part_of_the_slice_gives_the_same_as_the_whole() -> None:
    answer, part = ramp(), (slice(20, 45), slice(25, 50))
    spread = spread_of()
    spread.take(Z, [(10, 7)], part, answer[(slice(None), *part)])
    wanted = spread.wanted(Z, WHOLE, answer)
    assert list(spread.strengths) == [(Z, 30, 32)]
    assert (spread.wanted(Z, part, answer[(slice(None), *part)]) == wanted[part]).all()


def test_what_the_network_confirms_may_lie_farther_from_the_border() -> None:
    spread, answer = spread_of(), ramp()
    spread.take(Z, [(30, 31)], WHOLE, answer)
    wanted, plausible = spread.wanted(Z, WHOLE, answer)[30].sum(), spread.plausible(Z, WHOLE, answer)[30].sum()
    assert plausible - wanted == int(AGREEMENT)


def test_a_confirmed_change_is_plausible_however_large_the_shift_it_needs() -> None:
    spread, answer = spread_of(), ramp()
    spread.take(Z, [(30, 50)], WHOLE, answer)
    assert spread.plausible(Z, WHOLE, answer)[30, 30:51].all()


def test_only_what_is_connected_with_the_click_changes() -> None:
    wanted = np.zeros((60, 60), bool)
    wanted[30, 30:35] = wanted[40, 30:35] = True
    shown = np.zeros((60, 60), bool)
    shown[31, 34:40] = shown[50, 50:] = True
    change = joined_change(piece_of(np.zeros((60, 60))), wanted, shown, [(30, 31)], ADD)
    assert np.argwhere(change).tolist() == [[30, c] for c in range(30, 35)] + [[31, c] for c in range(34, 40)]


def test_the_clicked_voxel_changes_even_if_nothing_else_does() -> None:
    nothing = np.zeros((60, 60), bool)
    change = joined_change(piece_of(np.zeros((60, 60))), nothing, nothing, [(30, 31)], ADD)
    assert np.argwhere(change).tolist() == [[30, 31]]


def test_the_reach_and_what_is_fixed_bound_the_change() -> None:
    piece = piece_of(np.zeros((60, 60)))
    piece.fixed[:, 33] = True
    change = joined_change(piece, np.ones((60, 60), bool), np.zeros((60, 60), bool), [(30, 31)], Aim(1, True, 5.0))
    rows, columns = np.nonzero(change)
    assert np.hypot(rows - 30, columns - 31).max() == 5.0
    assert columns.max() == 32


def test_a_network_that_disagrees_with_one_of_two_slices_has_not_agreed() -> None:
    spread, answer = spread_of(), ramp()
    assert not spread.take(Z, [(30, 32)], WHOLE, answer)
    assert spread.take(Z + 1, [(30, 5)], WHOLE, answer)
    assert not spread.agreed


def test_a_network_that_disagreed_is_not_followed_out_of_reach_of_the_shift() -> None:
    """A twentieth of the shift arrives 34 pixels away; the upper left corner is 43 pixels away."""
    spread, answer = spread_of(), ramp()
    spread.take(Z, [(30, 31)], WHOLE, answer)
    wanted = spread.wanted(Z, WHOLE, answer)
    assert wanted[30, 0]
    assert not wanted[0, 0]


def test_a_network_that_agrees_with_one_end_of_a_stroke_only_has_not_agreed() -> None:
    assert not spread_of().take(Z, [(30, 5), (30, 40)], WHOLE, ramp())
