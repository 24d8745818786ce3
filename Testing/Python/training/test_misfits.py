"""Warnings of a run whose data and settings do not go together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from udfa.checkpoint import Description, save_checkpoint
from udfa.networks.udfa import UDFA
from udfa_training.augment import AugmentConfig
from udfa_training.dataset import open_prepared
from udfa_training.fit_config import FitConfig
from udfa_training.misfits import mirrored_pairs, warn_of_misfits
from udfa_training.set_up import make_plan

Settings = Callable[..., FitConfig]


def warnings_of(config: FitConfig, caplog: pytest.LogCaptureFixture) -> str:
    warn_of_misfits(open_prepared(Path(config.data)), config)
    return caplog.text


def test_settings_that_fit_are_passed_in_silence(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    flips = AugmentConfig(flip_probability=0.5)
    assert not warnings_of(settings(steps=10, warmup_steps=1, augment=flips), caplog)


def test_organs_that_a_flip_turns_into_each_other_are_pairs() -> None:
    labels = ("left_kidney", "liver", "right_kidney", "lung_right", "lung_left", "left_adrenal")
    assert mirrored_pairs(labels) == [("left_kidney", "right_kidney"), ("lung_left", "lung_right")]
    assert mirrored_pairs(("left_ventricle", "right_ventricle", "cleft_lip", "cright_lip")) == []


def test_flips_of_paired_organs_are_named(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    model = dataclasses.replace(settings().model, labels=("left_kidney", "right_kidney", "liver"))
    flipped = settings(model=model, augment=AugmentConfig(flip_probability=0.5))
    assert "a flipped left_kidney looks like a right_kidney" in warnings_of(flipped, caplog)
    caplog.clear()
    assert "looks like" not in warnings_of(settings(model=model), caplog)


def test_a_warm_up_as_long_as_the_run_is_named(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    assert "warmup_steps is 100, but the run has 40 steps" in warnings_of(settings(steps=40, warmup_steps=100), caplog)


@pytest.mark.parametrize(("trained_on", "named"), [(["c", "d"], True), (["a", "b"], False)])
def test_validation_patients_that_the_checkpoint_has_seen_are_named(
    trained_on: list[str], named: bool, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The made data validate on patient c."""
    model, path = settings().model, tmp_path / "start.safetensors"
    training = {"data_set": "other", "train": trained_on, "validation": ["e"]}
    save_checkpoint(path, UDFA(model.network), model, Description("CC0", "Tests only", training))
    for start in ({"init": str(path)}, {"backbone_weights": str(path)}):
        caplog.clear()
        make_plan(settings(**start))
        assert ("on which this run validates: c. If they are the same patients" in caplog.text) is named
        assert ("hold out those that it did not see (e)" in caplog.text) is named
