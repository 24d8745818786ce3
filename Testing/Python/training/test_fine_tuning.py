"""Fine-tuning does no harm unnoticed: the start is validated too, weights are drawn back, augmentation is inherited."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from udfa.checkpoint import Description, load_checkpoint, save_checkpoint
from udfa.config import ModelConfig
from udfa.errors import InvalidInputError
from udfa.networks.udfa import UDFA
from udfa_training.augment import AugmentConfig
from udfa_training.config_file import load_run
from udfa_training.fit import fit
from udfa_training.fit_config import FitConfig
from udfa_training.set_up import make_plan, make_state
from udfa_training.training_state import TrainingState, pull_back

Settings = Callable[..., FitConfig]
AUGMENT = {"rotation_degrees": 30.0, "scale": 0.1, "flip_probability": 0.5, "setting_of_an_older_version": 1}


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Path:
    """An untrained checkpoint whose history says how it was augmented."""
    return saved(tmp_path / "start.safetensors", settings().model)


def saved(path: Path, model: ModelConfig) -> Path:
    torch.manual_seed(1)
    history = [{"stage": "adapters and decoder", "step": 5, "settings": {"augment": AUGMENT}}]
    training = {"data_set": "none", "history": history}
    save_checkpoint(path, UDFA(model.network), model, Description("CC0", "Tests only", training))
    return path


@pytest.fixture
def tuning(settings: Settings, start: Path) -> Settings:
    """Settings of a run of the heads that starts from the checkpoint."""
    common: dict[str, Any] = {"init": str(start), "train": "heads", "steps": 1}
    return lambda **changes: settings(**{**common, **changes})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).network.state_dict()


def furthest(first: Path, second: Path) -> float:
    """Largest difference of two checkpoints' weights."""
    one, other = weights(first), weights(second)
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def validations(output: Path) -> dict[int, float]:
    """Step -> mean Dice."""
    with (output / "validation.csv").open(newline="") as file:
        return {int(row["step"]): float(row["mean_dice"]) for row in csv.DictReader(file)}


def test_weights_move_back_by_a_share_of_their_way() -> None:
    network = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, -2.0]]))
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    state = TrainingState(network, optimizer, {}, anchor={"weight": torch.tensor([[0.0, 2.0]])})
    pull_back(state, 0.25)
    assert network.weight.tolist() == [[0.75, -1.0]]
    pull_back(state, 7.0)
    assert network.weight.tolist() == [[0.0, 2.0]]


def test_a_pull_bounds_how_far_the_weights_go(tuning: Settings, start: Path, tmp_path: Path) -> None:
    free = fit(tuning(learning_rate=0.1, output=str(tmp_path / "free")))
    held = fit(tuning(learning_rate=0.1, pull=10.0, output=str(tmp_path / "held")))
    # Learning rate x pull is 1: each step is taken back as a whole.
    assert furthest(free, start) > 0.01
    assert furthest(held, start) < 1e-3


def test_an_interrupted_run_with_a_pull_equals_an_uninterrupted_one(tuning: Settings, tmp_path: Path) -> None:
    whole, parts = (
        tuning(steps=2, pull=50.0, learning_rate=0.01, output=str(tmp_path / name)) for name in ("whole", "parts")
    )
    fit(whole, stop_after=2)
    fit(parts, stop_after=1)
    fit(parts, stop_after=2)
    records = [torch.load(Path(run.output) / "last.pt", weights_only=True) for run in (whole, parts)]
    assert all(torch.equal(records[0]["network"][name], value) for name, value in records[1]["network"].items())


def test_heads_with_new_labels_are_not_drawn_back(settings: Settings, tmp_path: Path) -> None:
    model = dataclasses.replace(settings().model, labels=("liver", "pancreas", "gallbladder"))
    other = saved(tmp_path / "other.safetensors", model)
    same = saved(tmp_path / "same.safetensors", settings().model)
    for init, expected in ((other, False), (same, True)):
        state = make_state(make_plan(settings(init=str(init), pull=10.0)))
        assert any(name.startswith("decoder.head.") for name in state.anchor) is expected
        assert any(name.startswith("lgfa.") for name in state.anchor)
        assert not any(name.startswith("backbone.") for name in state.anchor)


def test_the_start_is_validated_first_and_stays_best_when_training_does_harm(
    tuning: Settings, start: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from udfa_training import milestones
    from udfa_training.validation import ValidationReport

    scores = iter([0.8, 0.7])
    monkeypatch.setattr(
        milestones,
        "validate",
        lambda network, config, cases, plan: ValidationReport({cases[0].name: {"liver": next(scores)}}),
    )
    config = tuning(learning_rate=0.1)
    model = fit(config)
    output = Path(config.output)
    assert validations(output) == {0: 0.8, 1: 0.7}
    assert furthest(output / "best.safetensors", start) < 1e-3
    assert furthest(model, start) > 0.01
    assert "No step was better than the start on 1 validation case (mean Dice 0.8000)" in caplog.text


def test_a_start_that_finds_nothing_yet_is_published_as_best_until_a_step_finds_something(
    tuning: Settings, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from udfa_training import milestones
    from udfa_training.validation import ValidationReport

    monkeypatch.setattr(milestones, "validate", lambda *_: ValidationReport({"c": {"liver": 0.0}}))
    config = tuning(learning_rate=0.1)
    fit(config)
    assert furthest(Path(config.output) / "best.safetensors", start) < 1e-3


def test_a_better_step_is_named_and_published_as_best(
    tuning: Settings, start: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from udfa_training import milestones
    from udfa_training.validation import ValidationReport

    scores = iter([0.6, 0.7])
    monkeypatch.setattr(
        milestones,
        "validate",
        lambda network, config, cases, plan: ValidationReport({cases[0].name: {"liver": next(scores)}}),
    )
    caplog.set_level("INFO", "udfa_training")
    config = tuning(learning_rate=0.1)
    fit(config)
    assert furthest(Path(config.output) / "best.safetensors", start) > 0.01
    assert "Best on 1 validation case: step 1, mean Dice 0.7000." in caplog.text


def test_the_augmentation_of_the_checkpoint_is_inherited_where_none_is_given(start: Path, prepared: Path) -> None:
    common = ["--init", str(start), "--data", str(prepared), "--output", "run"]
    inherited, changed = load_run(None, common), load_run(None, [*common, "--augment.scale", "0.3"])
    assert isinstance(inherited, FitConfig)
    assert isinstance(changed, FitConfig)
    assert inherited.augment == AugmentConfig(rotation_degrees=30.0, scale=0.1, flip_probability=0.5)
    assert changed.augment == AugmentConfig(rotation_degrees=30.0, scale=0.3, flip_probability=0.5)


def test_a_pull_needs_a_checkpoint_and_is_not_negative(settings: Settings) -> None:
    with pytest.raises(InvalidInputError, match="pull draws the weights back.*init"):
        settings(pull=10.0)
    with pytest.raises(InvalidInputError, match="pull is -1.0, but must be at least 0"):
        settings(pull=-1.0, init="abdomen-ct-mini")
