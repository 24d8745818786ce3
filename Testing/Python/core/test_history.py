"""Edits as box deltas, and their undo history."""

from __future__ import annotations

import numpy as np
import pytest

from udfa.history import EMPTY_BOX, Click, Edit, History, delta, empty_edit


def edit_at(labelmap: np.ndarray, box: tuple[slice, slice, slice], value: int) -> Edit:
    """Write a value into a box and return the edit."""
    before = labelmap[box].copy()
    labelmap[box] = value
    return Edit(box, before, labelmap[box].copy())


def box(*edges: tuple[int, int]) -> tuple[slice, slice, slice]:
    d, h, w = (slice(a, b) for a, b in edges)
    return d, h, w


def test_the_delta_is_the_smallest_box_that_holds_all_differences() -> None:
    before = np.zeros((5, 6, 7), np.uint8)
    after = before.copy()
    after[1, 2, 3] = 4
    after[3, 5, 3] = 2
    found = delta(before, after)
    assert found is not None
    where, old, new = found
    assert where == box((1, 4), (2, 6), (3, 4))
    assert old.shape == new.shape == (3, 4, 1)
    assert not old.any()
    assert (new == after[where]).all()


def test_equal_labelmaps_have_no_delta() -> None:
    assert delta(np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8)) is None


def test_the_offset_moves_the_box_but_not_its_content() -> None:
    after = np.zeros((2, 3, 3), np.uint8)
    after[1, 1, 2] = 9
    found = delta(np.zeros_like(after), after, (10, 20, 30))
    assert found is not None
    assert found[0] == box((11, 12), (21, 22), (32, 33))
    assert found[2].tolist() == [[[9]]]


def test_a_delta_is_a_copy() -> None:
    before, after = np.zeros((1, 1, 1), np.uint8), np.ones((1, 1, 1), np.uint8)
    found = delta(before, after)
    after[:], before[:] = 7, 7
    assert found is not None
    assert (found[1].item(), found[2].item()) == (0, 1)


def test_an_edit_counts_the_voxels_that_differ() -> None:
    edit = Edit(box((0, 1), (0, 1), (0, 3)), np.array([[[1, 2, 3]]], np.uint8), np.array([[[1, 0, 0]]], np.uint8))
    assert edit.changed_voxels == 2
    nothing = empty_edit((Click((0, 0, 0), 1, True),), "click")
    assert (nothing.changed_voxels, nothing.box) == (0, EMPTY_BOX)


def test_sixty_edits_are_undone_and_redone_bit_for_bit() -> None:
    random = np.random.default_rng(0)
    labelmap = random.integers(0, 4, (6, 7, 8)).astype(np.uint8)
    history, states = History(depth=60), [labelmap.copy()]
    for _ in range(60):
        edges = [sorted(random.choice(n + 1, 2, replace=False)) for n in labelmap.shape]
        history.push(edit_at(labelmap, box(*((int(a), int(b)) for a, b in edges)), int(random.integers(4))))
        states.append(labelmap.copy())
    for state in reversed(states[:-1]):
        assert history.undo(labelmap) is not None
        assert (labelmap == state).all()
    assert history.undo(labelmap) is None
    for state in states[1:]:
        assert history.redo(labelmap) is not None
        assert (labelmap == state).all()
    assert history.redo(labelmap) is None


def test_beyond_its_depth_the_history_forgets_the_oldest_edit() -> None:
    labelmap = np.zeros((1, 1, 3), np.uint8)
    history = History(depth=2)
    for column in range(3):
        history.push(edit_at(labelmap, box((0, 1), (0, 1), (column, column + 1)), 5))
    while history.can_undo:
        history.undo(labelmap)
    assert labelmap.tolist() == [[[5, 0, 0]]]


def test_a_new_edit_ends_the_chance_to_redo() -> None:
    labelmap = np.zeros((1, 1, 1), np.uint8)
    history = History()
    history.push(edit_at(labelmap, box((0, 1), (0, 1), (0, 1)), 1))
    history.undo(labelmap)
    assert history.can_redo
    history.push(edit_at(labelmap, box((0, 1), (0, 1), (0, 1)), 2))
    assert not history.can_redo
    assert history.redo(labelmap) is None
    assert labelmap.item() == 2


def test_undo_brings_the_protection_of_painted_voxels_back() -> None:
    labelmap, painted = np.zeros((1, 1, 2), np.uint8), np.array([[[True, False]]])
    whole = box((0, 1), (0, 1), (0, 2))
    flip = np.array([[[True, True]]])
    edit = Edit(whole, labelmap.copy(), labelmap.copy() + 1, painted_flip=flip)
    painted ^= flip
    history = History()
    history.push(edit)
    history.undo(labelmap, painted)
    assert painted.tolist() == [[[True, False]]]
    history.redo(labelmap, painted)
    assert painted.tolist() == [[[False, True]]]


@pytest.mark.parametrize(
    ("wanted", "undos", "redos"), [(1, 1, 0), (0, 2, 0), (3, 0, 1), (4, 0, 2), (9, 0, 0), (2, 0, 0)]
)
def test_it_tells_how_many_undos_or_redos_lead_to_a_labelmap(wanted: int, undos: int, redos: int) -> None:
    labelmap = np.zeros((1, 1, 2), np.uint8)
    history = History()
    for number in (1, 2, 3, 4):
        history.push(edit_at(labelmap, box((0, 1), (0, 1), (0, 1)), number))
    history.undo(labelmap)
    history.undo(labelmap)
    goal = np.array([[[wanted, 0]]], np.uint8)
    assert (history.steps_to(goal, labelmap, True), history.steps_to(goal, labelmap, False)) == (undos, redos)
    assert labelmap.tolist() == [[[2, 0]]]
    # A voxel that no edit has changed differs as well.
    assert history.steps_to(goal + np.array([[[0, 7]]], np.uint8), labelmap, True) == 0
