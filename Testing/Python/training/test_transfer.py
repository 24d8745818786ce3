"""A checkpoint in a network with other labels: what has the same name is kept, what is new is fresh."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from fakes.clicks import wake_prompt_encoder
from fakes.pairs import find_pairs
from udfa.checkpoint import Description, load_checkpoint, read_info, save_checkpoint
from udfa.config import ModelConfig, PostprocessingConfig, to_dict
from udfa.errors import CheckpointError, InvalidInputError
from udfa.networks.backbone import FrozenBackbone
from udfa.networks.udfa import UDFA
from udfa_training.backbone_file import save_backbone
from udfa_training.config_file import load_run
from udfa_training.fit import fit
from udfa_training.fit_config import FitConfig
from udfa_training.prepare import prepare
from udfa_training.publish import backbone_origin, earlier_training, inherited_terms
from udfa_training.set_up import make_plan, make_state
from udfa_training.splits import SplitChoice, split_cases
from udfa_training.transfer import take_over

Settings = Callable[..., FitConfig]
OTHER = ("gallbladder", "aorta", "liver")
"""Of the made data's labels liver, spleen, gallbladder: two in other places, one new, one left out."""


def with_labels(model: ModelConfig, labels: tuple[str, ...], prompt: bool = False) -> ModelConfig:
    channels = (8, 8, 8, 8) if prompt else None
    network = dataclasses.replace(model.network, num_classes=len(labels) + 1, prompt_channels=channels)
    return dataclasses.replace(model, labels=labels, network=network)


def checkpoint(path: Path, model: ModelConfig, licence: str = "made") -> Path:
    """A checkpoint with random weights."""
    torch.manual_seed(7)
    network = UDFA(model.network)
    if network.prompt_encoder is not None:
        wake_prompt_encoder(network)
    save_checkpoint(path, network, model, Description(licence, "tests"))
    return path


def weights(network: UDFA) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.fixture
def model(settings: Settings) -> ModelConfig:
    return settings().model


def test_a_run_is_not_resumed_from_another_checkpoint_or_with_other_cases(
    settings: Settings, source: Path, tmp_path: Path
) -> None:
    model = settings().model
    start, other = (
        checkpoint(tmp_path / f"{prompt}.safetensors", with_labels(model, model.labels, prompt))
        for prompt in (False, True)
    )
    fit(settings(init=str(start)), stop_after=1)
    with pytest.raises(InvalidInputError, match="weights_of_init was [0-9a-f]{12}, now [0-9a-f]{12}"):
        fit(settings(init=str(other)))
    fewer = prepare(find_pairs(source, ["b", "c"]), tmp_path / "fewer")
    with pytest.raises(InvalidInputError, match="training_cases was 2 with content [0-9a-f]{12}, now 1 with content"):
        fit(settings(init=str(start), data=str(fewer)))
    moved = start.rename(tmp_path / "moved.safetensors")
    copied = prepare(find_pairs(source, ["c"]), tmp_path / "copied")
    fit(settings(init=str(moved), data=str(copied)), stop_after=1)


def test_rows_of_the_heads_follow_the_names_of_the_labels(model: ModelConfig, tmp_path: Path) -> None:
    source = load_checkpoint(checkpoint(tmp_path / "a.safetensors", model))
    network = UDFA(model.network)
    before, given = weights(network), source.network.state_dict()
    transfer = take_over(network, OTHER, source)
    after = network.state_dict()
    # The head has 4 rows for each class: background, gallbladder (3 there), aorta (new), liver (1 there).
    for own, there in ((0, 0), (1, 3), (3, 1)):
        rows, rows_there = slice(4 * own, 4 * own + 4), slice(4 * there, 4 * there + 4)
        assert torch.equal(after["decoder.head.weight"][rows], given["decoder.head.weight"][rows_there])
        assert torch.equal(after["decoder.head.bias"][rows], given["decoder.head.bias"][rows_there])
        for key in (f"decoder.auxiliary_heads.{i}.weight" for i in range(3)):
            assert torch.equal(after[key][own], given[key][there])
    assert torch.equal(after["decoder.head.weight"][8:12], before["decoder.head.weight"][8:12])
    assert torch.equal(after["decoder.auxiliary_heads.0.bias"][2], before["decoder.auxiliary_heads.0.bias"][2])
    others = [key for key in given if "head" not in key]
    assert all(torch.equal(after[key], given[key]) for key in others)
    assert (transfer.kept, transfer.fresh, transfer.left_out) == (("gallbladder", "liver"), ("aorta",), ("spleen",))


def test_a_model_with_fewer_labels_gives_the_logits_of_those_it_kept(model: ModelConfig, tmp_path: Path) -> None:
    source = load_checkpoint(checkpoint(tmp_path / "a.safetensors", model))
    fewer = with_labels(model, ("gallbladder",))
    network = UDFA(fewer.network).eval()
    take_over(network, fewer.labels, source)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(image), source.network(image)[:, [0, 3]], atol=1e-5)


def test_the_prompt_encoder_finds_its_columns_by_name_too(model: ModelConfig, tmp_path: Path) -> None:
    source = load_checkpoint(checkpoint(tmp_path / "a.safetensors", with_labels(model, model.labels, prompt=True)))
    other = with_labels(model, ("spleen", "aorta"), prompt=True)
    network = UDFA(other.network)
    key, last = "prompt_encoder.down.0.0.weight", "prompt_encoder.to_output.weight"
    before, given = weights(network)[key], source.network.state_dict()[key]
    transfer = take_over(network, other.labels, source)
    after = network.state_dict()[key]
    # Columns: clicks on background, spleen, aorta, then two times one-hot maps; there 3 x 4, with spleen in place 2.
    assert torch.equal(after[:, [0, 1, 3, 4, 6, 7]], given[:, [0, 2, 4, 6, 8, 10]])
    assert torch.equal(after[:, [2, 5, 8]], before[:, [2, 5, 8]])
    # Rows: four sub-pixels of each class.
    output = source.network.state_dict()[last]
    assert torch.equal(network.state_dict()[last][:8], torch.cat([output[:4], output[8:12]]))
    assert transfer.prompt_encoder == "kept"


@pytest.mark.parametrize(("here", "there", "outcome"), [(True, False, "fresh"), (False, True, "left out")])
def test_a_prompt_encoder_that_only_one_has_is_no_obstacle(
    model: ModelConfig, tmp_path: Path, here: bool, there: bool, outcome: str
) -> None:
    source = load_checkpoint(checkpoint(tmp_path / "a.safetensors", with_labels(model, model.labels, prompt=there)))
    network = UDFA(with_labels(model, model.labels, prompt=here).network)
    transfer = take_over(network, model.labels, source)
    assert transfer.prompt_encoder == outcome
    assert outcome in transfer.describe()


def test_a_prompt_encoder_of_another_width_begins_anew_as_a_whole(model: ModelConfig, tmp_path: Path) -> None:
    source = load_checkpoint(checkpoint(tmp_path / "a.safetensors", with_labels(model, model.labels, prompt=True)))
    wider = dataclasses.replace(model.network, prompt_channels=(8, 16, 8, 8))
    network = UDFA(wider)
    before = weights(network)
    assert take_over(network, model.labels, source).prompt_encoder == "fresh"
    prompt = [key for key in before if key.startswith("prompt_encoder.")]
    assert all(torch.equal(before[key], network.state_dict()[key]) for key in prompt)


@pytest.mark.parametrize(
    ("train", "parts"),
    [
        ("everything-but-backbone", {"spa", "lgfa", "decoder"}),
        ("adapters", {"spa", "lgfa", "decoder.head", "decoder.auxiliary_heads"}),
        ("decoder", {"decoder"}),
        ("heads", {"decoder.head", "decoder.auxiliary_heads"}),
    ],
)
def test_exactly_the_named_parts_train(settings: Settings, train: str, parts: set[str]) -> None:
    state = make_state(make_plan(settings(train=train)))
    trained = set(state.average)
    assert trained == {n for n, _ in state.network.named_parameters() if any(n.startswith(f"{p}.") for p in parts)}
    assert all(any(name.startswith(f"{part}.") for name in trained) for part in parts)
    assert sum(len(group["params"]) for group in state.optimizer.param_groups) == len(trained)


def test_train_backbone_and_a_part_contradict_each_other(settings: Settings) -> None:
    with pytest.raises(InvalidInputError, match="train is 'heads', but train_backbone trains everything"):
        settings(train="heads", train_backbone=True)


def test_fine_tuning_on_new_labels_records_what_was_taken_over(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="udfa_training")
    first = checkpoint(tmp_path / "first.safetensors", with_labels(settings().model, OTHER), "terms of the first")
    info = read_info(fit(settings(init=str(first), train="heads", steps=1)))
    assert "rows of the heads kept for liver, gallbladder; fresh for spleen; left out aorta" in caplog.text
    assert info.training["history"][-1]["stage"] == "heads"
    assert info.training["history"][-1]["taken_over"] == {
        "labels_kept": ["liver", "gallbladder"],
        "labels_fresh": ["spleen"],
        "labels_left_out": ["aorta"],
        "prompt_encoder": "none",
    }
    assert info.licence == "terms of the first; made for tests, no terms"


def test_the_click_stage_refuses_other_labels(settings: Settings, tmp_path: Path) -> None:
    model = with_labels(settings().model, settings().model.labels, prompt=True)
    first = checkpoint(tmp_path / "first.safetensors", with_labels(model, OTHER))
    with pytest.raises(InvalidInputError, match="first train stage network on the new labels"):
        make_plan(settings(stage="clicks", init=str(first), model=model))


def test_a_checkpoint_to_start_from_describes_the_model(settings: Settings, tmp_path: Path) -> None:
    """Network, preprocessing and clean-up are the checkpoint's, the labels those of the data."""
    model = dataclasses.replace(
        with_labels(settings().model, OTHER),
        postprocessing=dataclasses.replace(
            settings().model.postprocessing,
            largest_component_labels=("liver",),
            small_part_labels=("aorta", "gallbladder"),
            small_part_share=0.25,
        ),
    )
    first = checkpoint(tmp_path / "first.safetensors", model)
    overrides = ["--init", str(first), "--data", settings().data, "--output", "run"]
    config = load_run(None, [*overrides, "--model.preprocessing.in_plane_spacing_mm", "8"])
    assert isinstance(config, FitConfig)
    assert config.model.labels == ("liver", "spleen", "gallbladder")
    assert config.model.network == dataclasses.replace(model.network, num_classes=4)
    assert config.model.preprocessing == dataclasses.replace(model.preprocessing, in_plane_spacing_mm=8.0)
    assert config.model.postprocessing == PostprocessingConfig(("liver",), ("gallbladder",), 0.25)
    assert config.model.task == "prepared (CT)"


def test_a_complete_model_is_left_as_it_is(settings: Settings, tmp_path: Path) -> None:
    config = settings(init="runs/of/tomorrow.safetensors")
    path = tmp_path / "complete.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    assert load_run(path) == config


def test_the_name_of_a_bundled_model_is_a_checkpoint_to_start_from(settings: Settings) -> None:
    config = load_run(None, ["--init", "abdomen-ct-mini", "--data", settings().data, "--output", "run"])
    assert isinstance(config, FitConfig)
    transfer = make_plan(config).tasks[0].transfer
    assert transfer is not None
    assert transfer.kept == ("liver", "spleen", "gallbladder")
    assert "aorta" in transfer.left_out


def test_images_of_another_kind_than_the_checkpoint_expects_are_pointed_out(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings()
    preprocessing = dataclasses.replace(config.model.preprocessing, modality="MR", in_plane_spacing_mm=None)
    make_plan(settings(model=dataclasses.replace(config.model, preprocessing=preprocessing)))
    assert "holds CT images, but the preprocessing is for MR" in caplog.text


def test_a_fold_is_held_out(settings: Settings, source: Path, tmp_path: Path) -> None:
    folds = SplitChoice("none", folds=3)
    data = prepare(split_cases(find_pairs(source), folds), tmp_path / "folds")
    held_out = [
        [c.name for c in make_plan(settings(data=str(data), fold=k)).tasks[0].data.split("val")] for k in range(3)
    ]
    assert sorted(name for names in held_out for name in names) == ["a", "b", "c"]


def test_a_backbone_that_pretrain_wrote_is_loaded_and_recorded(settings: Settings, tmp_path: Path) -> None:
    torch.manual_seed(5)
    backbone = FrozenBackbone("mini")
    volumes = {"name": "volumes", "patients": ["p", "c"], "licence": "terms of the volumes"}
    save_backbone(tmp_path / "backbone.safetensors", backbone, {"method": "masked images", "data": [volumes]})
    config = settings(backbone_weights=str(tmp_path / "backbone.safetensors"))
    loaded = make_plan(config).tasks[0].network.backbone.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in backbone.state_dict().items())
    assert backbone_origin(config, None, "x") == (
        "mini: trained by this project (masked images; data: volumes); frozen here"
    )
    assert inherited_terms(config, None) == ["terms of the volumes"]
    assert earlier_training(config, None) == {"train": ["c", "p"]}


def test_dinov2_never_starts_from_random_weights(settings: Settings, tmp_path: Path) -> None:
    model = settings().model
    network = dataclasses.replace(model.network, backbone="dinov2_vits14")
    config = settings(
        model=dataclasses.replace(model, network=network), backbone_weights=str(tmp_path / "absent.safetensors")
    )
    with pytest.raises(CheckpointError, match=r"absent\.safetensors"):
        make_plan(config)


def test_a_frozen_backbone_with_random_weights_is_pointed_out(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_plan(settings())
    assert "The backbone is frozen and has random weights" in caplog.text
