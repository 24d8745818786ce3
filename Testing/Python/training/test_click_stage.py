"""The click stage: simulated readers click where the errors are, and only the prompt encoder learns from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from udfa.checkpoint import load_checkpoint, read_info
from udfa.errors import InvalidInputError
from udfa_training.click_simulation import ReaderConfig, disturbed, next_click
from udfa_training.fit import fit
from udfa_training.fit_config import FitConfig

Settings = Callable[..., FitConfig]
EXACT = ReaderConfig(jitter_pixels=0.0, wrong_share=0.0, choices=1)


@pytest.fixture
def first_stage(settings: Settings, tmp_path: Path) -> Path:
    """A checkpoint without a prompt encoder."""
    return fit(settings(steps=1, output=str(tmp_path / "first")))


@pytest.fixture
def click_settings(settings: Settings, first_stage: Path) -> Settings:
    """Settings of a tiny click stage that starts from it."""
    model = settings().model
    network = dataclasses.replace(model.network, prompt_channels=(8, 8, 8, 8))
    common = {"stage": "clicks", "init": str(first_stage), "model": dataclasses.replace(model, network=network)}
    return lambda **changes: settings(**{**common, **changes})


def test_only_the_prompt_encoder_changes(click_settings: Settings, first_stage: Path) -> None:
    before = load_checkpoint(first_stage).network.state_dict()
    after = load_checkpoint(fit(click_settings())).network
    prompt = {key for key in after.state_dict() if key.startswith("prompt_encoder.")}
    assert prompt
    assert after.state_dict().keys() - prompt == before.keys()
    assert [key for key, value in before.items() if not torch.equal(value, after.state_dict()[key])] == []


def test_without_clicks_the_result_is_that_of_the_first_stage_bit_for_bit(
    click_settings: Settings, first_stage: Path
) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    networks = [load_checkpoint(path).network for path in (first_stage, fit(click_settings()))]
    expected, automatic = (network(image) for network in networks)
    assert torch.equal(expected, automatic)


def test_the_best_checkpoint_of_a_click_stage_is_that_of_the_last_step(click_settings: Settings) -> None:
    """Clicks leave the automatic result alone, so that all validations are alike."""
    config = click_settings(steps=3, validate_every=1)
    fit(config)
    best, last = (read_info(Path(config.output) / f"{name}.safetensors") for name in ("best", "model"))
    assert best.training["history"][-1]["step"] == 3
    assert best.content_sha256 == last.content_sha256


def test_an_interrupted_click_stage_equals_an_uninterrupted_one(click_settings: Settings, tmp_path: Path) -> None:
    whole = click_settings(steps=3, output=str(tmp_path / "whole"))
    parts = click_settings(steps=3, output=str(tmp_path / "parts"))
    fit(parts, stop_after=1)
    states = [load_checkpoint(fit(config)).network.state_dict() for config in (whole, parts)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_a_first_stage_of_another_shape_is_refused(click_settings: Settings) -> None:
    config = click_settings()
    network = dataclasses.replace(config.model.network, decoder_channels=(24, 16, 8, 8))
    with pytest.raises(InvalidInputError, match="does not fit model.network"):
        fit(click_settings(model=dataclasses.replace(config.model, network=network)))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"init": None}, "name it with init"), ({"train_backbone": True}, "prompt encoder only")],
)
def test_settings_that_make_no_click_stage_are_refused(
    click_settings: Settings, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        click_settings(**changes)


def plane(*blocks: tuple[int, int, int]) -> NDArray[np.int64]:
    """A plane of 40 x 40 with blocks of 9 x 9 pixels: (label, first row, first column)."""
    labels = np.zeros((40, 40), dtype=np.int64)
    for label, row, column in blocks:
        labels[row : row + 9, column : column + 9] = label
    return labels


def test_a_missing_structure_gets_a_positive_click_in_its_middle() -> None:
    click = next_click(plane(), plane((2, 10, 20)), np.random.default_rng(0), EXACT)
    assert click is not None
    assert (click.row, click.column, click.value, click.positive) == (14.0, 24.0, 2, True)


def test_a_structure_where_none_should_be_gets_a_negative_click() -> None:
    click = next_click(plane((3, 5, 5)), plane(), np.random.default_rng(0), EXACT)
    assert click is not None
    assert (click.row, click.column, click.value, click.positive) == (9.0, 9.0, 3, False)


def test_a_slice_without_errors_gets_no_click() -> None:
    assert next_click(plane((1, 5, 5)), plane((1, 5, 5)), np.random.default_rng(0), EXACT) is None


def test_a_careless_reader_gives_every_click_the_wrong_sign() -> None:
    careless = dataclasses.replace(EXACT, wrong_share=1.0)
    click = next_click(plane(), plane((2, 10, 20)), np.random.default_rng(0), careless)
    assert click is not None
    assert not click.positive


def test_a_click_with_jitter_still_lies_in_the_error() -> None:
    reference = plane((1, 10, 20))
    shaky = ReaderConfig(jitter_pixels=9.0, wrong_share=0.0)
    clicks = [next_click(plane(), reference, np.random.default_rng(seed), shaky) for seed in range(40)]
    places = [(int(click.row), int(click.column)) for click in clicks if click is not None]
    assert len(places) == 40
    assert all(reference[place] == 1 for place in places)
    assert len(set(places)) > 5


def test_a_disturbed_reference_differs_and_depends_only_on_the_generator() -> None:
    reference = plane((1, 2, 2), (2, 20, 20), (3, 2, 25))
    results = [disturbed(reference, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3)]
    assert np.array_equal(results[0], results[1])
    assert any(not np.array_equal(result, reference) for result in results)
    assert all(set(np.unique(result)) <= {0, 1, 2, 3} for result in results)
    assert np.array_equal(reference, plane((1, 2, 2), (2, 20, 20), (3, 2, 25)))
