"""How a correction carries to the next slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from udfa.carry_rules import (
    Carried,
    carried_change,
    fallback_change,
    hint,
    limited_to,
    partners,
    slices_to_carry,
    spread_change,
)
from udfa.edit_rules import Aim, Piece

ADD = Aim(value=1, positive=True, reach_mm=60.0)
REMOVE = Aim(value=1, positive=False, reach_mm=60.0)
SIZE = (40, 40)


def piece_of(labels: np.ndarray, intensity: np.ndarray | float = 0.0) -> Piece:
    """A piece with 1 mm pixels, classes 0..3, nothing fixed or locked."""
    return Piece(
        labels=labels.astype(np.uint8),
        intensity=np.broadcast_to(np.asarray(intensity, np.float32), labels.shape),
        fixed=np.zeros(labels.shape, bool),
        givable=np.ones(4, bool),
        spacing_mm=(1.0, 1.0),
        detail_mm=1.0,
    )


def square(first: int, last: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[first:last, first:last] = True
    return mask


def answer_of(classes: np.ndarray) -> np.ndarray:
    return (np.arange(4)[:, None, None] == classes).astype(np.float32)


def carried(change: np.ndarray, intensity: np.ndarray | float = 0.0, **changes: object) -> Carried:
    """A correction that took voxels from the background and that the network agreed with."""
    state = Carried(change, piece_of(np.zeros(SIZE), intensity), frozenset({0}), followed=True)
    return replace(state, **changes)  # type: ignore[arg-type]


def test_the_same_correction_is_wanted_where_the_next_slice_looks_the_same() -> None:
    change = square(10, 20)
    intensity = np.zeros(SIZE)
    intensity[:, 16:] = 1.0
    wanted = hint(carried(change), piece_of(np.zeros(SIZE), intensity), ADD)
    assert wanted[10:20, 10:16].all()
    assert wanted.sum() == 60


def test_a_slice_that_is_right_already_stops_the_carrying() -> None:
    change = square(10, 20)
    assert not hint(carried(change), piece_of(change), ADD).any()


def test_a_slice_that_looks_different_stops_the_carrying() -> None:
    change = square(10, 20)
    intensity = np.zeros(SIZE)
    intensity[:, 15:] = 1.0
    assert not hint(carried(change), piece_of(np.zeros(SIZE), intensity), ADD).any()


def test_a_carried_correction_takes_from_no_label_that_the_click_did_not_take_from() -> None:
    change = square(10, 20)
    labels = np.zeros(SIZE)
    labels[:, 15:] = 2
    wanted = hint(carried(change), piece_of(labels), ADD)
    assert wanted.sum() == 50
    assert not wanted[:, 15:].any()
    both = hint(carried(change, partners=frozenset({0, 2})), piece_of(labels), ADD)
    assert both.sum() == 100


def test_the_network_may_refine_the_outline_but_within_ten_millimetres() -> None:
    change = square(15, 20)
    state, piece = carried(change), piece_of(np.zeros(SIZE))
    wanted = hint(state, piece, ADD)
    everywhere = carried_change(state, piece, answer_of(np.ones(SIZE)), wanted, ADD)
    assert everywhere[5:30, 17].all()
    assert not everywhere[4, :].any()
    assert not everywhere[30, :].any()
    smaller = carried_change(state, piece, answer_of(square(16, 20)), wanted, ADD)
    assert (smaller == square(16, 20)).all()


def test_growth_beyond_the_outline_must_look_like_the_correction() -> None:
    intensity = np.zeros(SIZE)
    intensity[:, 20:] = 1.0
    state, piece = carried(square(10, 20), intensity), piece_of(np.zeros(SIZE), intensity)
    change = carried_change(state, piece, answer_of(np.ones(SIZE)), hint(state, piece, ADD), ADD)
    assert change[12, 6:20].all()
    # One pixel more, since the outermost pixels of a tissue look like neither side.
    assert not change[:, 21:].any()


def test_a_network_that_confirms_less_than_half_stops_the_carrying() -> None:
    state, piece = carried(square(10, 20)), piece_of(np.zeros(SIZE))
    wanted = hint(state, piece, ADD)
    assert not carried_change(state, piece, answer_of(square(10, 16)), wanted, ADD).any()
    assert carried_change(state, piece, answer_of(square(10, 18)), wanted, ADD).sum() == 64


def test_a_removal_carries_too() -> None:
    state = Carried(square(10, 20), piece_of(np.ones(SIZE)), frozenset({0}), followed=True)
    piece = piece_of(np.ones(SIZE))
    wanted = hint(state, piece, REMOVE)
    assert wanted.sum() == 100
    assert not carried_change(state, piece, answer_of(np.ones(SIZE)), wanted, REMOVE).any()
    change = carried_change(state, piece, answer_of(np.where(square(10, 20), 0, 1)), wanted, REMOVE)
    assert (change == square(10, 20)).all()


def test_where_only_edges_decide_the_correction_is_a_ball() -> None:
    piece, wanted = piece_of(np.zeros(SIZE)), np.ones(SIZE, bool)
    radii = []
    for offset_mm in (0.0, 3.0, 5.0, 6.0, 9.0):
        disc = fallback_change(wanted, [(20, 20)], offset_mm, piece)
        radii.append(int(disc[20].sum()) // 2 if disc.any() else -1)
    assert radii == [6, 5, 3, -1, -1]


def test_a_ball_has_the_holes_that_the_image_makes() -> None:
    wanted = np.ones(SIZE, bool)
    wanted[:, 22:] = False
    disc = fallback_change(wanted, [(20, 20), (90, -3)], 3.0, piece_of(np.zeros(SIZE)))
    assert disc[20, 21]
    assert not disc[:, 22:].any()


def test_partners_are_the_labels_that_lost_or_won() -> None:
    before = np.zeros(SIZE)
    before[:, 20:] = 2
    change = square(18, 22)
    assert partners(piece_of(before), np.ones(SIZE, np.uint8), change, ADD) == {0, 2}
    after = np.where(change, 3, 1).astype(np.uint8)
    assert partners(piece_of(np.ones(SIZE)), after, change, REMOVE) == {3}


def test_only_partners_and_the_background_may_receive() -> None:
    piece = replace(piece_of(np.zeros(SIZE)), givable=np.array([True, True, False, True]))
    assert limited_to(piece, frozenset({2})).givable.tolist() == [True, False, False, False]
    assert limited_to(piece, frozenset({1, 3})).givable.tolist() == [True, True, False, True]


def test_a_correction_carries_as_far_as_it_is_wide_and_half_as_far_again() -> None:
    """The largest disc in a square of 20 mm has a radius of 10 mm: 30 mm, or fifteen slices of 2 mm."""
    change = square(10, 30)
    assert slices_to_carry(change, (1.0, 1.0), 2.0, limit=20) == 15
    assert slices_to_carry(change, (1.0, 1.0), 2.0, limit=4) == 4
    assert slices_to_carry(change, (0.5, 0.5), 2.0, limit=20) == 7
    line = np.zeros(SIZE, bool)
    line[20, 5:35] = True
    assert slices_to_carry(line, (1.0, 1.0), 2.0, limit=20) == 1
    assert slices_to_carry(line, (1.0, 1.0), 4.0, limit=20) == 0


def test_tissue_is_the_same_up_to_a_change_of_31_hounsfield_units() -> None:
    change, intensity = square(10, 20), np.zeros(SIZE)
    intensity[:, 10:12], intensity[:, 12:] = 0.36, 0.34
    wanted = hint(carried(change), piece_of(np.zeros(SIZE), intensity), ADD)
    assert (wanted == (change & (np.arange(40) >= 12))).all()


def test_a_border_that_moved_moves_the_next_slices_by_ten_millimetres_at_most() -> None:
    state, piece = carried(square(15, 20)), piece_of(np.zeros(SIZE))
    everywhere = np.ones(SIZE, bool)
    change = spread_change(state, piece, everywhere, square(15, 20), False, ADD)
    assert change[17, 5:30].all()
    assert not change[:5].any()
    assert not change[30:].any()


def test_of_what_the_network_had_wanted_before_outlines_and_what_is_not_connected_are_not_carried() -> None:
    """Wanted are the square, a line of one pixel that runs out of it, and another square, 10 pixels away."""
    piece = replace(piece_of(np.zeros(SIZE)), detail_mm=2.0)
    wanted = square(10, 20) | square(30, 38)
    wanted[15, 20:30] = True
    change = spread_change(carried(square(10, 20)), piece, wanted & ~square(30, 31), square(10, 20), True, ADD)
    assert (change == square(10, 20)).all()


def test_noisy_tissue_may_differ_as_much_as_it_does_within_the_correction() -> None:
    """A chequered pattern of 0 and 1: its standard deviation is 0.5, hence up to 1.0 from its median is alike."""
    chequered = np.indices(SIZE).sum(axis=0) % 2
    state, piece = carried(square(10, 20), chequered), piece_of(np.zeros(SIZE), chequered)
    change = carried_change(state, piece, answer_of(np.ones(SIZE)), hint(state, piece, ADD), ADD)
    assert change[12, 6:24].all()
    same = square(10, 20) & (chequered == 1)
    carried_on = spread_change(state, piece_of(np.zeros(SIZE), 1.0), square(10, 20), same, True, ADD)
    assert carried_on[11:19, 11:19].all()
