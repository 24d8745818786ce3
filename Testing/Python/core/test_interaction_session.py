"""Correction sessions: what they take, refuse and remember."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fakes.clicks import (
    LIVER,
    STOMACH,
    FakeSegmenter,
    always,
    mini_segmenter,
    session_of,
    stubborn,
    volume_of,
)
from fakes.organs import everything_but, organs
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.interaction import CorrectionSession, SessionOptions


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
    [
        {"carry_slices": -1},
        {"reach_mm": 0.0},
        {"reach_mm": float("nan")},
        {"reach_mm": float("inf")},
        {"undo_depth": 0},
        {"cache_bytes": -1},
    ],
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
