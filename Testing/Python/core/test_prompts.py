"""Clicks and labels as the network sees them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from udfa.networks.udfa import UDFA
from udfa.prompts import (
    CLICK_RADIUS,
    PlaneClick,
    PromptPart,
    click_maps,
    one_hot_labels,
    prompt_tensor,
    sparse_prompt,
)


def test_a_click_is_a_disc_of_radius_two_and_a_half_pixels_in_the_map_of_its_class() -> None:
    maps = click_maps([PlaneClick(5, 6, value=2, positive=True)], 3, (11, 12))
    assert maps.shape == (3, 11, 12)
    assert maps[2].sum() == 21
    assert maps[2, 5, 4:9].tolist() == [1] * 5
    assert maps[2, 3, 5:8].tolist() == [1] * 3
    assert maps[2, 3, 4] == 0
    assert not maps[:2].any()


def test_a_negative_click_is_minus_one() -> None:
    maps = click_maps([PlaneClick(5, 5, value=1, positive=False)], 3, (11, 11))
    assert maps[1].unique().tolist() == [-1, 0]
    assert maps[1].sum() == -21


def test_the_same_disc_is_drawn_wherever_the_click_is_exactly() -> None:
    """All pixels whose centre lies within the radius, and no others, also for clicks between pixels."""
    for row, column in [(0.0, 0.0), (4.5, 7.25), (9.99, 0.3), (-1.2, 5.0), (6.0, 13.9)]:
        maps = click_maps([PlaneClick(row, column, 1, True)], 2, (10, 12))
        rows, columns = torch.arange(10.0)[:, None], torch.arange(12.0)[None]
        expected = (rows - row) ** 2 + (columns - column) ** 2 <= CLICK_RADIUS**2
        assert (maps[1].bool() == expected).all()


def test_a_click_far_outside_leaves_no_trace() -> None:
    clicks = [PlaneClick(-50, 5, 1, True), PlaneClick(5, 400, 1, True), PlaneClick(400, -400, 1, False)]
    assert not click_maps(clicks, 2, (10, 12)).any()


def test_this_is_liver_takes_back_this_is_spleen_at_the_same_place() -> None:
    maps = click_maps([PlaneClick(5, 5, 2, True), PlaneClick(5, 5, 1, True)], 3, (11, 11))
    assert maps[1, 5, 5] == 1
    assert not maps[2].any()


def test_a_positive_click_keeps_what_was_said_against_other_classes() -> None:
    maps = click_maps([PlaneClick(5, 5, 2, False), PlaneClick(5, 5, 1, True)], 3, (11, 11))
    assert (maps[1, 5, 5], maps[2, 5, 5]) == (1, -1)


def test_the_later_of_two_contradicting_clicks_counts() -> None:
    there, not_there = PlaneClick(5, 5, 1, True), PlaneClick(5, 5, 1, False)
    assert click_maps([there, not_there], 2, (11, 11))[1, 5, 5] == -1
    assert click_maps([not_there, there], 2, (11, 11))[1, 5, 5] == 1


def test_without_clicks_the_maps_are_zero() -> None:
    assert not click_maps([], 4, (8, 8)).any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int32])
def test_labels_become_one_map_per_class(dtype: torch.dtype) -> None:
    maps = one_hot_labels(torch.tensor([[0, 2], [1, 0]], dtype=dtype), 3)
    assert maps.tolist() == [[[1, 0], [0, 1]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]]


def test_labels_that_the_model_does_not_know_count_as_background() -> None:
    maps = one_hot_labels(torch.tensor([[7, 255, 1]], dtype=torch.uint8), 3)
    assert maps[0].tolist() == [[1, 1, 0]]
    assert maps[1].tolist() == [[0, 0, 1]]


def test_clicks_and_labels_are_joined_and_padded_to_the_tile() -> None:
    maps, labels = torch.full((2, 3, 4), 0.5), torch.ones(2, 3, 4)
    prompt = prompt_tensor(maps, labels, None, (8, 8))
    assert prompt.shape == (1, 6, 8, 8)
    assert prompt[0, :2, :3, :4].unique().tolist() == [0.5]
    assert prompt[0, 2:4, :3, :4].unique().tolist() == [1]
    assert not prompt[0, 4:].any()
    assert not prompt[0, :, 3:].any()
    assert not prompt[0, :, :, 4:].any()


def test_a_neighbouring_slice_comes_last_in_the_prompt() -> None:
    maps, labels, neighbour = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    prompt = prompt_tensor(maps, labels, neighbour, (4, 4))
    assert not prompt[0, :4].any()
    assert prompt[0, 4:, :3].all()
    assert not prompt[0, 4:, 3:].any()


def two_parts() -> list[PromptPart]:
    """One with two clicks and no neighbour, and labels that the model does not know; one with a neighbour."""
    random = np.random.default_rng(0)
    labels = random.choice(np.array([0, 2, 3, 9], np.uint8), (20, 40))
    clicks = [PlaneClick(4.5, 6, 2, True), PlaneClick(5, 7, 3, False)]
    neighbour = random.choice(np.array([0, 1], np.uint8), (32, 33))
    return [PromptPart(clicks, labels, None), PromptPart([], np.zeros((32, 33), np.uint8), neighbour)]


def dense(part: PromptPart, num_classes: int, shape: tuple[int, int]) -> torch.Tensor:
    labels, neighbour = (
        None if plane is None else one_hot_labels(torch.from_numpy(plane), num_classes)
        for plane in (part.labels, part.neighbour)
    )
    assert labels is not None
    maps = click_maps(part.clicks, num_classes, (part.labels.shape[0], part.labels.shape[1]))
    return prompt_tensor(maps, labels, neighbour, shape)


def test_a_sparse_prompt_leaves_out_nothing_but_zeros() -> None:
    parts = two_parts()
    prompt = sparse_prompt(parts, 4, (32, 64))
    assert prompt.channels == (2, 3, 4, 6, 7, 8, 9)
    full = torch.cat([dense(part, 4, (32, 64)) for part in parts])
    assert torch.equal(prompt.values, full[:, list(prompt.channels)])
    others = [i for i in range(12) if i not in prompt.channels]
    assert not full[:, others].any()


@pytest.fixture(scope="module")
def clicking_network() -> UDFA:
    from fakes.clicks import click_config

    torch.manual_seed(0)
    network = UDFA(click_config().network)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def some_prompt() -> torch.Tensor:
    labels = one_hot_labels(torch.zeros(64, 64, dtype=torch.uint8), 4)
    maps = click_maps([PlaneClick(20, 30, 2, True)], 4, (64, 64))
    return prompt_tensor(maps, labels, None, (64, 64)).expand(2, -1, -1, -1)


def test_an_untrained_prompt_encoder_changes_nothing_bit_for_bit(clicking_network: UDFA, image: torch.Tensor) -> None:
    features = clicking_network.encode(image)
    assert torch.equal(clicking_network.decode(features, prompt=some_prompt())[0], clicking_network(image))


def test_without_clicks_a_trained_prompt_encoder_is_not_run_and_the_result_is_the_automatic_one(
    clicking_network: UDFA, image: torch.Tensor
) -> None:
    from fakes.clicks import wake_prompt_encoder

    automatic = clicking_network(image)
    runs: list[int] = []
    assert clicking_network.prompt_encoder is not None
    hook = clicking_network.prompt_encoder.register_forward_hook(lambda *_: runs.append(1))
    weights = {k: v.clone() for k, v in clicking_network.state_dict().items()}
    wake_prompt_encoder(clicking_network)
    try:
        features = clicking_network.encode(image)
        assert torch.equal(clicking_network.decode(features)[0], automatic)
        assert torch.equal(clicking_network(image), automatic)
        assert not runs
        prompted = clicking_network.decode(features, prompt=some_prompt())[0]
        assert runs == [1]
        assert not torch.equal(prompted, automatic)
        # Clicks leave the features as they were.
        assert torch.equal(clicking_network.decode(features)[0], automatic)
    finally:
        hook.remove()
        clicking_network.load_state_dict(weights)


def test_only_the_prompt_encoders_additions_differ_between_the_two_checkpoints(clicking_network: UDFA) -> None:
    keys = {key for key in clicking_network.state_dict() if key.startswith("prompt_encoder.")}
    plain = UDFA(type(clicking_network.config)(num_classes=4))
    assert set(clicking_network.state_dict()) - keys == set(plain.state_dict())
    zero = [key for key in keys if key.startswith("prompt_encoder.to_skip.")]
    assert len(zero) == 8
    assert not any(clicking_network.state_dict()[key].any() for key in zero)


def test_the_network_answers_a_sparse_prompt_as_the_full_one(clicking_network: UDFA, image: torch.Tensor) -> None:
    from fakes.clicks import wake_prompt_encoder

    weights = {k: v.clone() for k, v in clicking_network.state_dict().items()}
    wake_prompt_encoder(clicking_network)
    try:
        features = clicking_network.encode(image)
        parts = two_parts()
        prompt = sparse_prompt(parts, 4, (64, 64))
        full = torch.cat([dense(part, 4, (64, 64)) for part in parts])
        expected = clicking_network.decode(features, prompt=full)[0]
        found = clicking_network.decode(features, prompt=prompt.values, prompt_channels=prompt.channels)[0]
        assert torch.allclose(found, expected, atol=1e-4)
        assert not torch.allclose(found, clicking_network(image), atol=1e-2)
    finally:
        clicking_network.load_state_dict(weights)
