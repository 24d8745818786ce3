"""The same voxels in another order of the array get the same correction at the same place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fakes.clicks import LIVER, SPLEEN, by_intensity, click_config, mini_segmenter, session_of, stubborn
from udfa.geometry import Volume
from udfa.interaction import CorrectionSession, SessionOptions

CLICKS = [((3, 20, 14), LIVER, True), ((4, 12, 30), SPLEEN, True), ((3, 18, 14), LIVER, False), ((2, 4, 40), 3, True)]
TURNS = [
    ((0, 1, 2), (True, False, False)),
    ((0, 1, 2), (False, True, True)),
    ((2, 1, 0), (True, False, True)),
    ((1, 2, 0), (False, False, True)),
    ((2, 0, 1), (True, True, True)),
    ((1, 0, 2), (False, False, False)),
]


def scene() -> tuple[np.ndarray, np.ndarray]:
    """HU and labels with errors, 7 x 34 x 48."""
    random = np.random.default_rng(5)
    truth = np.zeros((7, 34, 48), np.uint8)
    truth[1:6, 8:28, 6:24] = LIVER
    truth[1:6, 8:28, 24:40] = SPLEEN
    hu = truth * 100 + random.integers(-5, 6, truth.shape)
    labels = truth.copy()
    labels[2:5, 8:28, 6:16] = 0
    labels[2:5, 8:16, 24:34] = LIVER
    return hu.astype(np.int16), labels


def turned(array: np.ndarray, permutation: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    axes = [axis for axis in range(3) if flips[axis]]
    return np.ascontiguousarray(np.flip(array.transpose(permutation), axes))


def turned_position(position: tuple[int, ...], shape: tuple[int, ...], turn: Any) -> tuple[int, int, int]:
    permutation, flips = turn
    source = [(shape[axis] - 1 - position[axis]) if flip else position[axis] for axis, flip in zip(permutation, flips)]
    return (source[0], source[1], source[2])


def turned_volume(volume: Volume, turn: Any) -> Volume:
    """The same voxels at the same places of the patient."""
    permutation, flips = turn
    direction = volume.direction[:, list(permutation)].copy()
    spacing = [volume.spacing_mm[axis] for axis in permutation]
    shape = [volume.array.shape[axis] for axis in permutation]
    origin = np.asarray(volume.origin_mm, dtype=np.float64)
    for axis, flip in enumerate(flips):
        if flip:
            origin = origin + direction[:, axis] * spacing[axis] * (shape[axis] - 1)
            direction[:, axis] *= -1
    return Volume(turned(volume.array, permutation, flips), tuple(spacing), direction, tuple(origin))


def oblique() -> np.ndarray:
    """Axes towards superior, posterior and left, tilted by 20 degrees about the left-right axis."""
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    return np.array([[0, 0, 1.0], [-s, c, 0], [c, s, 0]])


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["by intensity", "stubborn", "real network"])
def test_a_turned_volume_gets_the_same_correction(turn: Any, kind: str) -> None:
    hu, labels = scene()
    straight = Volume(hu, (3.0, 1.2, 0.9), oblique(), (10.0, -20.0, 30.0))
    spacing = {"in_plane_spacing_mm": 1.5} if kind == "real network" else {}
    if kind == "real network":
        segmenter: Any = mini_segmenter(1, **spacing)
    else:
        opinion = stubborn if kind == "stubborn" else by_intensity((80, 120, LIVER), (180, 220, SPLEEN))
        segmenter = session_of(hu, labels, opinion).segmenter
    one = CorrectionSession(segmenter, straight, labels, SessionOptions(carry_slices=2))
    two = CorrectionSession(
        segmenter, turned_volume(straight, turn), turned(labels, *turn), SessionOptions(carry_slices=2)
    )
    changes = 0
    for position, value, positive in CLICKS:
        first = one.click(position, value, positive)
        second = two.click(turned_position(position, hu.shape, turn), value, positive)
        assert np.array_equal(two.labelmap, turned(one.labelmap, *turn))
        assert first.changed_voxels == second.changed_voxels
        changes += first.changed_voxels
    assert changes > 200
    two.undo()
    one.undo()
    assert np.array_equal(two.labelmap, turned(one.labelmap, *turn))


@pytest.mark.parametrize("turn", TURNS)
def test_the_box_and_slices_of_an_edit_are_in_the_volumes_own_indices(turn: Any) -> None:
    hu, labels = scene()
    straight = Volume(hu, (3.0, 1.2, 0.9), oblique())
    opinion = by_intensity((80, 120, LIVER), (180, 220, SPLEEN))
    session = session_of(hu, labels, opinion)
    session = CorrectionSession(session.segmenter, turned_volume(straight, turn), turned(labels, *turn))
    before = session.labelmap.copy()
    edit = session.click(turned_position((3, 20, 14), hu.shape, turn), LIVER)
    changed = before != session.labelmap
    for axis in range(3):
        along = np.flatnonzero(changed.any(axis=tuple(a for a in range(3) if a != axis)))
        assert (edit.box[axis].start, edit.box[axis].stop) == (along[0], along[-1] + 1)
    assert session.slice_axis == turn[0].index(0)
    axes = tuple(a for a in range(3) if a != session.slice_axis)
    assert edit.slices == tuple(np.flatnonzero(changed.any(axis=axes)))
    assert (edit.before == before[edit.box]).all()
    assert (edit.after == session.labelmap[edit.box]).all()


def test_a_manual_edit_names_the_slices_it_changed() -> None:
    hu, labels = scene()
    turn = ((2, 1, 0), (True, False, True))
    volume = turned_volume(Volume(hu, (3.0, 1.2, 0.9), oblique()), turn)
    session = CorrectionSession(session_of(hu, labels, stubborn).segmenter, volume, turned(labels, *turn))
    painted = session.labelmap.copy()
    painted[5, 5, 1] = painted[5, 5, 4] = 3
    edit = session.take_up(painted)
    assert edit is not None
    assert session.slice_axis == 2
    assert edit.slices == (1, 4)


def test_slices_across_the_largest_spacing_are_used_when_the_checkpoint_says_so() -> None:
    assert click_config(slice_axis="acquisition").preprocessing.slice_axis == "acquisition"
    hu, labels = scene()
    sagittal = turned_volume(Volume(hu, (1.0, 1.0, 6.0), oblique()), ((2, 0, 1), (False, False, False)))
    segmenter = session_of(hu, labels, stubborn, slice_axis="acquisition").segmenter
    session = CorrectionSession(
        segmenter, sagittal, turned(labels, (2, 0, 1), (False, False, False)), SessionOptions(carry_slices=0)
    )
    assert session.slice_axis == 0
    edit = session.click((14, 3, 20), LIVER)
    assert edit.slices == (14,)
