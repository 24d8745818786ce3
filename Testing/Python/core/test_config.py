"""Configuration: strict reading, self-validation, and a round trip through JSON that loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from udfa.config import ModelConfig, NetworkConfig, PostprocessingConfig, PreprocessingConfig, from_dict, to_dict
from udfa.errors import InvalidInputError

MODEL = {"task": "Test (CT)", "labels": ["liver", "spleen"], "network": {"num_classes": 3}}


def test_a_config_survives_the_round_trip_through_json() -> None:
    config = ModelConfig(
        task="Herz (MR)",
        labels=("myocardium",),
        network=NetworkConfig(num_classes=2, lgfa_direction="inject", spa_channels=(8, 8, 16, 16, 24)),
        preprocessing=PreprocessingConfig(modality="MR", in_plane_spacing_mm=None, in_slices=1),
        postprocessing=PostprocessingConfig(("myocardium",)),
    )
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_missing_fields_take_their_defaults() -> None:
    config = from_dict(ModelConfig, MODEL)
    assert config.preprocessing == PreprocessingConfig()
    assert config.network == NetworkConfig(num_classes=3)


def test_integers_are_accepted_where_floats_are_meant() -> None:
    spacing = from_dict(PreprocessingConfig, {"in_plane_spacing_mm": 2}).in_plane_spacing_mm
    assert spacing == 2.0
    assert type(spacing) is float


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": 3}, "backbone is 3, but must be of type str"),
        ({"num_classes": 3.0}, "num_classes is 3.0, but must be of type int"),
        ({"num_classes": True}, "num_classes is True, but must be of type int"),
        ({"num_classes": "3"}, "num_classes is '3', but must be of type int"),
        ({"spa_channels": [8, 8]}, "needs 5 values"),
        ({"spa_channels": "88888"}, "must be a list"),
        ({"spa_channels": [8, 8, 8, 8, None]}, "must be of type int"),
        ({"lgfa_direction": "sideways"}, "must be one of 'both', 'inject', 'none'"),
        ({"width": 3, "heigth": 4}, "unknown field(s) heigth, width for NetworkConfig"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        from_dict(NetworkConfig, fields, "model.yaml")
    assert str(caught.value).startswith("model.yaml: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [True, 1.0, "1", 2, [1], None])
def test_a_choice_of_numbers_accepts_nothing_that_is_merely_equal(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"in_slices is .* but must be one of 1, 3"):
        from_dict(PreprocessingConfig, {"in_slices": value})


@pytest.mark.parametrize("value", [True, "2", [2.0], float("nan"), float("inf"), 10**400])
def test_a_number_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        from_dict(PreprocessingConfig, {"in_plane_spacing_mm": value})


def test_null_is_accepted_only_where_it_has_a_meaning() -> None:
    assert from_dict(PreprocessingConfig, {"in_plane_spacing_mm": None}).in_plane_spacing_mm is None
    with pytest.raises(InvalidInputError, match="std is None"):
        from_dict(PreprocessingConfig, {"std": None})


@pytest.mark.parametrize("data", [None, [], "task", 3])
def test_something_other_than_a_mapping_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected a mapping for ModelConfig"):
        from_dict(ModelConfig, data)


def test_a_missing_required_field_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"field\(s\) labels, task of ModelConfig missing"):
        from_dict(ModelConfig, {})


def test_unknown_fields_that_are_no_strings_are_named_too() -> None:
    with pytest.raises(InvalidInputError, match=r"unknown field\(s\) 1, None"):
        from_dict(ModelConfig, {1: 2, None: 3})  # type: ignore[dict-item]


def test_an_error_in_a_nested_config_says_where_it_is() -> None:
    with pytest.raises(InvalidInputError, match=r"a.json: preprocessing: tile_size is 100"):
        from_dict(ModelConfig, {**MODEL, "preprocessing": {"tile_size": 100}}, "a.json")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "resnet"}, "Unknown backbone 'resnet'. Known: mini"),
        ({"num_classes": 1}, "background and one label"),
        ({"num_classes": 257}, "at most 256"),
        ({"lgfa_heads": 0}, "lgfa_heads is 0, but must be positive"),
        ({"lgfa_heads": -2}, "lgfa_heads is -2, but must be positive"),
        ({"lgfa_width": 0}, "lgfa_width is 0, but must be positive"),
        ({"lgfa_width": 63}, "not a multiple of lgfa_heads 2"),
        ({"decoder_channels": (32, 32, 32, 12)}, "positive multiples of 8"),
        ({"spa_channels": (-8, 8, 8, 8, 8)}, "positive multiples of 8"),
    ],
)
def test_an_impossible_network_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        NetworkConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window_hu": (100.0, 100.0)}, "window_hu"),
        ({"window_hu": (float("-inf"), 100.0)}, "finite"),
        ({"percentiles": (99.0, 1.0)}, "percentiles"),
        ({"percentiles": (0.0, 101.0)}, "percentiles"),
        ({"std": 0.0}, "std is 0.0"),
        ({"mean": float("nan")}, "finite"),
        ({"in_plane_spacing_mm": 0.0}, "in_plane_spacing_mm is 0.0"),
        ({"finest_spacing_mm": -1.0}, "finest_spacing_mm is -1.0"),
        ({"tile_size": 100}, "multiple of 32"),
        ({"tile_size": 0}, "multiple of 32"),
        ({"tile_overlap": 0.95}, "tile_overlap is 0.95"),
    ],
)
def test_impossible_preprocessing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        PreprocessingConfig(**fields)


def test_the_number_of_labels_must_fit_the_network() -> None:
    with pytest.raises(InvalidInputError, match="2 labels need num_classes 3, got 14"):
        ModelConfig(task="", labels=("a", "b"))


def test_label_names_must_not_repeat() -> None:
    with pytest.raises(InvalidInputError, match="repeat"):
        ModelConfig(task="", labels=("a", "a"), network=NetworkConfig(num_classes=3))


@pytest.mark.parametrize("rule", ["largest_component_labels", "small_part_labels"])
def test_clean_up_of_a_label_that_the_model_lacks_is_refused(rule: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"{rule} .* lacks: .'tail'"):
        ModelConfig(
            task="",
            labels=("a", "b"),
            network=NetworkConfig(num_classes=3),
            postprocessing=from_dict(PostprocessingConfig, {rule: ["a", "tail"]}),
        )


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_the_share_below_which_a_part_is_small_is_a_share(share: float) -> None:
    with pytest.raises(InvalidInputError, match="small_part_share"):
        PostprocessingConfig(small_part_share=share)
