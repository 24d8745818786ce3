"""Undo and redo, and manual edits in between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.clicks import (
    LIVER,
    SPLEEN,
    STOMACH,
    always,
    by_intensity,
    change_opinion,
    mini_segmenter,
    session_of,
    stubborn,
    volume_of,
)
from udfa.audit import Audit, ModelReference
from udfa.errors import InvalidInputError
from udfa.history import Click
from udfa.interaction import CorrectionSession, SessionOptions

SHAPE = (5, 24, 24)
BY_HU = by_intensity((80, 120, LIVER), (180, 220, SPLEEN))

State = tuple[bytes, list[Click], object]


def state_of(session: CorrectionSession) -> State:
    """Everything that undo must bring back: labels, clicks, and which voxels count as painted."""
    painted = session._painted
    return (session.labelmap.tobytes(), list(session.clicks), None if painted is None else painted.tobytes())


def random_hu() -> np.ndarray:
    return np.random.default_rng(7).choice([0, 100, 200], SHAPE, p=[0.4, 0.3, 0.3]).astype(np.int16)


def test_seventy_edits_are_undone_and_redone_bit_for_bit_prompts_included() -> None:
    random = np.random.default_rng(1)
    session = session_of(random_hu(), random.integers(0, 4, SHAPE), BY_HU)
    session.take_up(np.roll(session.labelmap, 1, axis=2))
    states = [state_of(session)]
    for number in range(70):
        if number % 7 == 3:
            painted = session.labelmap.copy()
            painted[number % 5, :6, :6] = number % 4
            if session.take_up(painted) is None:
                continue
        elif number % 5 == 1:
            path = [tuple(int(random.integers(n)) for n in SHAPE) for _ in range(3)]
            session.scribble(path, int(random.integers(1, 4)), bool(random.integers(2)))
        else:
            position = tuple(int(random.integers(n)) for n in SHAPE)
            session.click(position, int(random.integers(1, 4)), bool(random.integers(2)))
        states.append(state_of(session))
    assert len(states) > 60
    for state in reversed(states[:-1]):
        session.undo()
        assert state_of(session) == state
    for state in states[1:]:
        session.redo()
        assert state_of(session) == state
    assert session.redo() is None


@pytest.mark.parametrize("segmenter", [mini_segmenter(3, in_plane_spacing_mm=1.5)])
def test_the_real_networks_edits_are_undone_bit_for_bit(segmenter: object) -> None:
    random = np.random.default_rng(2)
    session = CorrectionSession(segmenter, volume_of(random_hu()), np.zeros(SHAPE, np.uint8))  # type: ignore[arg-type]
    states = [state_of(session)]
    for _ in range(8):
        session.click(tuple(int(random.integers(n)) for n in SHAPE), int(random.integers(1, 4)), random.random() < 0.7)
        states.append(state_of(session))
    for state in reversed(states[:-1]):
        session.undo()
        assert state_of(session) == state
    for state in states[1:]:
        session.redo()
        assert state_of(session) == state


def test_the_same_clicks_after_undo_give_the_same_labels() -> None:
    session = session_of(random_hu(), np.zeros(SHAPE), BY_HU)
    session.click((2, 10, 10), LIVER)
    after = state_of(session)
    session.click((2, 5, 15), SPLEEN)
    session.undo()
    session.undo()
    session.click((2, 10, 10), LIVER)
    assert state_of(session) == after


def test_there_is_nothing_to_undo_at_first() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn)
    assert (session.undo(), session.redo(), session.can_undo, session.can_redo) == (None, None, False, False)


def test_a_click_without_effect_is_undone_too_with_its_marker() -> None:
    session = session_of(np.zeros(SHAPE), np.full(SHAPE, LIVER), stubborn)
    edit = session.click((2, 3, 3), LIVER)
    assert edit.changed_voxels == 0
    assert session.clicks == [Click((2, 3, 3), LIVER, True)]
    session.undo()
    assert session.clicks == []
    session.redo()
    assert session.clicks == [Click((2, 3, 3), LIVER, True)]


def test_a_click_without_effect_after_an_undo_leaves_redo_possible() -> None:
    segmenter = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn).segmenter
    audit = Audit(volume_of(np.zeros(SHAPE)), segmenter.config.labels, ModelReference("fake", "0123abcd"))
    options = SessionOptions(carry_slices=0)
    session = CorrectionSession(segmenter, volume_of(np.zeros(SHAPE)), np.zeros(SHAPE, np.uint8), options, audit)
    session.click((2, 12, 12), LIVER)
    clicked = session.labelmap.copy()
    session.undo()
    session.click((2, 12, 12), LIVER, positive=False)
    assert session.can_redo
    session.redo()
    assert (session.labelmap == clicked).all()
    assert [click.positive for click in session.clicks] == [False, True]
    assert [edit.undone for edit in audit.edits] == [False, False]
    session.undo()
    session.undo()
    assert session.clicks == []
    session.redo()
    session.click((2, 2, 2), SPLEEN)
    assert not session.can_redo


def test_the_depth_of_the_history_is_the_users() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn, SessionOptions(carry_slices=0, undo_depth=3))
    for column in range(5):
        session.click((2, 12, 4 * column), LIVER)
    while session.can_undo:
        session.undo()
    assert [click.position[2] for click in session.clicks] == [0, 4]


def test_an_edits_memory_is_its_box_and_not_the_volume() -> None:
    session = session_of(np.zeros((9, 64, 64)), np.zeros((9, 64, 64)), stubborn, SessionOptions(carry_slices=0))
    edit = session.click((4, 30, 30), LIVER)
    for content in (edit.before, edit.after):
        owner = content if content.base is None else content.base
        assert content.size == owner.size == 13 * 13


# Manual edits --------------------------------------------------------------------------------------------------------


def painted_block(session: CorrectionSession, value: int) -> np.ndarray:
    labelmap = session.labelmap.copy()
    labelmap[2, 4:12, 4:12] = value
    return labelmap


def test_a_brush_stroke_in_between_is_taken_up() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn, SessionOptions(carry_slices=0))
    session.click((2, 18, 18), LIVER)
    edit = session.take_up(painted_block(session, SPLEEN))
    assert edit is not None
    assert (edit.kind, edit.changed_voxels, edit.slices) == ("manual", 64, (2,))
    session.click((2, 18, 4), LIVER)
    assert (session.labelmap[2, 4:12, 4:12] == SPLEEN).all()


def test_no_change_is_no_edit() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn)
    assert session.take_up(session.labelmap.copy()) is None
    assert not session.can_undo


@pytest.mark.parametrize("value", [0, SPLEEN])
def test_what_was_painted_or_erased_is_not_overwritten_by_later_clicks(value: int) -> None:
    session = session_of(np.zeros(SHAPE), np.full(SHAPE, STOMACH), always(LIVER))
    session.take_up(painted_block(session, value))
    session.click((2, 20, 20), LIVER)
    session.click((3, 20, 20), LIVER)
    assert (session.labelmap[2, 4:12, 4:12] == value).all()
    assert session.labelmap[2, 3, 3] == LIVER


def test_a_click_on_what_was_painted_changes_it() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), always(LIVER), SessionOptions(carry_slices=0))
    session.take_up(painted_block(session, SPLEEN))
    session.click((2, 8, 8), LIVER)
    assert (session.labelmap[2, 4:12, 4:12] == LIVER).all()


def test_once_clicked_it_is_protected_no_longer_until_undo() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), always(LIVER), SessionOptions(carry_slices=0))
    session.take_up(painted_block(session, SPLEEN))
    session.click((2, 8, 8), LIVER)
    change_opinion(session, always(STOMACH))
    session.click((2, 20, 20), STOMACH)
    assert session.labelmap[2, 5, 5] == STOMACH
    session.undo()
    session.undo()
    session.click((2, 20, 20), STOMACH)
    assert (session.labelmap[2, 4:12, 4:12] == SPLEEN).all()


def test_what_was_painted_twice_is_protected_as_well() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), always(LIVER), SessionOptions(carry_slices=0))
    session.take_up(painted_block(session, SPLEEN))
    session.take_up(painted_block(session, STOMACH))
    session.click((2, 20, 20), LIVER)
    assert (session.labelmap[2, 4:12, 4:12] == STOMACH).all()
    session.undo()
    session.undo()
    session.click((2, 20, 20), LIVER)
    assert (session.labelmap[2, 4:12, 4:12] == SPLEEN).all()


def test_what_a_click_changed_beside_a_painted_part_does_not_count_as_painted() -> None:
    """Had it, a click on it would be one on the painted part."""
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), always(LIVER), SessionOptions(carry_slices=0))
    session.take_up(painted_block(session, SPLEEN))
    session.click((2, 20, 20), LIVER)
    change_opinion(session, always(STOMACH))
    session.click((2, 20, 19), STOMACH)
    assert session.labelmap[2, 20, 19] == STOMACH
    assert (session.labelmap[2, 4:12, 4:12] == SPLEEN).all()


def test_following_an_undo_made_elsewhere_takes_the_click_back() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn, SessionOptions(carry_slices=0))
    start = session.labelmap.copy()
    session.click((2, 12, 12), LIVER)
    clicked = session.labelmap.copy()
    session.click((2, 12, 12), LIVER)
    assert session.follow(start) == "undone"
    assert session.clicks == []
    assert (session.labelmap == start).all()
    assert session.follow(start) == "same"
    assert session.follow(clicked) == "redone"
    assert session.clicks == [Click((2, 12, 12), LIVER, True)]
    assert (session.labelmap == clicked).all()


def test_several_undos_and_redos_made_elsewhere_between_two_looks_are_followed() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn, SessionOptions(carry_slices=0))
    states = [session.labelmap.copy()]
    for column in (4, 12, 20):
        session.click((2, 12, column), LIVER)
        states.append(session.labelmap.copy())
    for number, said in ((1, "undone"), (3, "redone"), (0, "undone"), (2, "redone")):
        assert session.follow(states[number]) == said
        assert [click.position[2] for click in session.clicks] == [4, 12, 20][:number]
        assert (session.labelmap == states[number]).all()
    session.click((2, 12, 20), LIVER)
    # Nothing counts as painted, so that the click has its full effect.
    assert (session.labelmap == states[3]).all()


def test_undoing_two_brush_strokes_seen_as_one_leads_back_to_the_click_before_them() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn, SessionOptions(carry_slices=0))
    start = session.labelmap.copy()
    session.click((2, 18, 18), LIVER)
    clicked = session.labelmap.copy()
    once = painted_block(session, SPLEEN)
    twice = once.copy()
    twice[3] = STOMACH
    assert session.follow(twice) == "manual"
    assert session.follow(once) == "manual"
    assert session.follow(clicked) == "undone"
    assert session.follow(start) == "undone"
    assert session.clicks == []
    assert session.follow(clicked) == "redone"
    assert len(session.clicks) == 1


def test_following_a_brush_takes_it_up() -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn, SessionOptions(carry_slices=0))
    session.click((2, 18, 18), LIVER)
    painted = painted_block(session, SPLEEN)
    assert session.follow(painted) == "manual"
    assert (session.labelmap == painted).all()
    assert len(session.clicks) == 1


def test_erasing_as_much_elsewhere_is_no_undo_of_a_click() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[4, :13, :13] = SPLEEN
    session = session_of(np.zeros(SHAPE), labels, stubborn, SessionOptions(carry_slices=0))
    assert session.click((2, 12, 12), LIVER).before.shape == (1, 13, 13)
    erased = session.labelmap.copy()
    erased[4] = 0
    assert session.follow(erased) == "manual"
    assert (session.labelmap == erased).all()
    assert len(session.clicks) == 1


@pytest.mark.parametrize("wrong", [np.zeros((5, 24, 25), np.uint8), np.zeros(SHAPE, np.int16)])
def test_a_labelmap_that_does_not_fit_is_not_taken_up(wrong: np.ndarray) -> None:
    session = session_of(np.zeros(SHAPE), np.zeros(SHAPE), stubborn)
    for method in (session.take_up, session.follow):
        with pytest.raises(InvalidInputError, match="must be uint8"):
            method(wrong)


# Any sequence --------------------------------------------------------------------------------------------------------

position = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))
action = st.one_of(
    st.tuples(st.just("click"), position, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("scribble"), st.lists(position, min_size=2, max_size=3), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("paint"), position, st.integers(0, 3)),
    st.tuples(st.just("lock"), st.sets(st.integers(1, 3), max_size=2)),
    st.tuples(st.just("undo")),
    st.tuples(st.just("redo")),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(action, min_size=1, max_size=14), st.sampled_from([stubborn, BY_HU, always(LIVER), always(0)]))
def test_any_sequence_of_edits_keeps_all_promises(actions: list[tuple[object, ...]], opinion: object) -> None:
    """A model of the session: a stack of states. Locks, honour and locality are checked on the way."""
    labels = np.random.default_rng(3).integers(0, 4, SHAPE)
    session = session_of(random_hu(), labels, opinion)  # type: ignore[arg-type]
    session.take_up(np.where(labels == 3, 0, labels).astype(np.uint8))
    done, undone = [state_of(session)], []
    for name, *arguments in actions:
        before = session.labelmap.copy()
        if name == "lock":
            session.lock(arguments[0])  # type: ignore[arg-type]
        elif name == "undo" and len(done) > 1:
            undone.append(done.pop())
            session.undo()
            assert state_of(session) == done[-1]
        elif name == "redo" and undone:
            done.append(undone.pop())
            session.redo()
            assert state_of(session) == done[-1]
        elif name == "paint":
            d, h, w = arguments[0]  # type: ignore[misc]
            painted = before.copy()
            painted[d, h : h + 4, w : w + 4] = arguments[1]
            if session.take_up(painted) is not None:
                done, undone = [*done, state_of(session)], []
            assert (session.labelmap == painted).all()
        elif name in ("click", "scribble"):
            path = arguments[0] if name == "scribble" else [arguments[0]]
            value, positive = arguments[1:]
            edit = session.scribble(path, value, positive)  # type: ignore[arg-type]
            done, undone = [*done, state_of(session)], []
            check_promises(session, before, path, edit, value, positive)  # type: ignore[arg-type]


def check_promises(
    session: CorrectionSession,
    before: np.ndarray,
    path: list[tuple[int, int, int]],
    edit: object,
    value: int,
    positive: bool,
) -> None:
    after = session.labelmap
    for place in path:
        if value not in session.locked and before[place] not in session.locked:
            assert bool(after[place] == value) is positive
    for locked in session.locked:
        assert ((before == locked) == (after == locked)).all()
    outside = np.ones(SHAPE, bool)
    outside[edit.box] = False  # type: ignore[attr-defined]
    assert (before[outside] == after[outside]).all()
    changed = before != after
    if positive:
        assert (after[changed] == value).all()
    else:
        assert (before[changed] == value).all()
    assert np.flatnonzero(changed.any(axis=(1, 2))).tolist() == list(edit.slices)  # type: ignore[attr-defined]
