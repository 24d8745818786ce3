"""Self-supervised pre-training: hides patches, needs no labels, resumes to the bit, and its file starts a network."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from udfa.checkpoint import Description, save_checkpoint
from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig, to_dict
from udfa.errors import CheckpointError, InvalidInputError
from udfa.networks import backbone as backbones
from udfa.networks.backbone import FrozenBackbone
from udfa.networks.udfa import UDFA
from udfa_training.backbone_file import backbone_description, load_backbone, save_backbone
from udfa_training.budget_loop import Budget
from udfa_training.cli import main
from udfa_training.dataset import open_prepared
from udfa_training.masked_images import MaskedImages, backbone_input, patches, token_mask
from udfa_training.pretrain import MixedSlices, load_images, make_dataset, pretrain, volumes
from udfa_training.pretrain_config import PretrainConfig, PretrainSource

Settings = Callable[..., PretrainConfig]
PREPROCESSING = PreprocessingConfig(in_plane_spacing_mm=4.0, tile_size=64)
BUDGET = Budget(
    steps=2, batch_size=1, warmup_steps=1, accelerator="cpu", precision="32-true", save_every=1, learning_rate=1e-3
)


@pytest.fixture
def pretraining(prepared: Path, tmp_path: Path) -> Settings:
    """Return settings of a tiny run; any field can be given another value."""
    tiny = PretrainConfig(
        sources=(PretrainSource(str(prepared), PREPROCESSING),), output=str(tmp_path / "run"), size=64, budget=BUDGET
    )
    return lambda **changes: dataclasses.replace(tiny, **changes)


def saved(config: PretrainConfig) -> dict[str, Any]:
    record: dict[str, Any] = torch.load(Path(config.output) / "last.pt", weights_only=True)
    return record


def test_a_mask_hides_the_asked_share_in_whole_blocks() -> None:
    mask = token_mask(8, 0.5, 2, np.random.default_rng(0))
    assert mask.shape == (8, 8)
    assert mask.sum() == 32
    blocks = mask.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4)
    assert sorted(blocks.sum(axis=1)) == [0] * 8 + [4] * 8


def test_a_mask_hides_something_and_leaves_something() -> None:
    random = np.random.default_rng(0)
    assert token_mask(4, 0.01, 2, random).sum() == 4
    assert token_mask(4, 0.99, 2, random).sum() == 12


def test_patches_are_cut_row_by_row_in_the_order_of_the_tokens() -> None:
    plane = torch.zeros(1, 28, 42)
    plane[0, 14:, 28:] = torch.arange(196.0).reshape(14, 14)
    cut = patches(plane)
    assert cut.shape == (1, 6, 196)
    assert torch.equal(cut[0, 5], torch.arange(196.0))
    assert not cut[0, :5].any()


def test_what_is_hidden_does_not_reach_the_prediction() -> None:
    objective = MaskedImages(FrozenBackbone("mini"), 0.5, 1).eval()
    image = torch.randn(1, 3, 64, 64)
    other = image.clone()
    other[:, :, :32, :16] = torch.randn(32, 16)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :2, :2] = True  # a column more, since the resizing filter reaches beyond the changed pixels
    mask[:, 2, :2] = True
    with torch.no_grad():
        first, second = (objective.restore(backbone_input(x), mask) for x in (image, other))
        seen = [objective.restore(backbone_input(x), torch.zeros_like(mask)) for x in (image, other)]
    assert torch.allclose(first, second, atol=1e-6)
    assert (seen[0] - seen[1]).abs().max() > 1e-3


def test_the_loss_is_the_mean_absolute_error_of_the_hidden_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = MaskedImages(FrozenBackbone("mini"), 0.5, 1)
    image = torch.full((2, 3, 64, 64), 3.0)
    # Hidden patches are predicted as 1 (error 2), the others as 100, which must not count.
    monkeypatch.setattr(
        objective,
        "restore",
        lambda scaled, mask: torch.where(mask.flatten(1)[..., None], 1.0, 100.0).expand(2, 16, 196),
    )
    assert objective(image, torch.zeros(2, 1, 64, 64), seed=4).item() == pytest.approx(2.0, abs=1e-5)


def test_a_few_steps_on_one_image_lower_the_loss() -> None:
    torch.manual_seed(0)
    objective = MaskedImages(FrozenBackbone("mini"), 0.5, 1)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=1e-3)
    image = torch.linspace(0, 1, 64)[None, None, None].expand(2, 3, 64, 64)
    losses = []
    for _ in range(6):
        loss = objective(image, torch.zeros(2, 1, 64, 64), seed=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_an_interrupted_run_equals_an_uninterrupted_one(pretraining: Settings, tmp_path: Path) -> None:
    whole = pretraining(output=str(tmp_path / "whole"))
    parts = pretraining(output=str(tmp_path / "parts"))
    expected = pretrain(whole)
    assert pretrain(parts, stop_after=1).name == "last.pt"
    assert saved(parts)["step"] == 1
    assert pretrain(parts).read_bytes() == expected.read_bytes()


def test_resuming_with_other_settings_is_refused_and_says_which(pretraining: Settings) -> None:
    pretrain(pretraining(), stop_after=1)
    with pytest.raises(InvalidInputError, match="masked_share was 0.6, now 0.3.*another output folder"):
        pretrain(pretraining(masked_share=0.3))


def test_resuming_with_other_volumes_or_another_start_is_refused(pretraining: Settings, source: Path) -> None:
    """The source has the volumes of the held-out patient too."""
    pretrain(pretraining(), stop_after=1)
    more = PretrainSource(str(source), PREPROCESSING)
    with pytest.raises(InvalidInputError, match=r"sources.0.volumes was 2 with names .*, now 3 with names"):
        pretrain(pretraining(sources=(more,)))
    with pytest.raises(InvalidInputError, match="weights_of_init was None, now [0-9a-f]{12}"):
        pretrain(pretraining(init="abdomen-ct-mini"))


def test_only_the_training_split_of_a_prepared_data_set_is_read(pretraining: Settings, prepared: Path) -> None:
    names = {path.name for path in volumes(pretraining().sources[0])}
    held_out = {case.image.name for case in open_prepared(prepared).split("val")}
    assert len(names) == 2
    assert not names & held_out


def test_any_folder_of_volumes_serves_and_an_empty_one_is_refused(source: Path, tmp_path: Path) -> None:
    names = [path.name for path in volumes(PretrainSource(str(source)))]
    assert names == ["a_image.nii.gz", "b_image.nii.gz", "c_image.nii.gz"]
    with pytest.raises(InvalidInputError, match="no volumes to learn from"):
        volumes(PretrainSource(str(tmp_path / "nothing")))


def test_slices_are_prepared_as_training_prepares_them(prepared: Path) -> None:
    from udfa_training.dataset import load_stack

    case = open_prepared(prepared).split("train")[0]
    with_labels = load_stack(case, PREPROCESSING, 4)
    assert np.array_equal(load_images(case.image, PREPROCESSING).images, with_labels.images)


def test_sources_are_drawn_by_their_number_of_slices(pretraining: Settings, prepared: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    first = open_prepared(prepared).split("train")[0].image
    (half / first.name).write_bytes(first.read_bytes())
    config = pretraining(
        sources=(PretrainSource(str(prepared), PREPROCESSING), PretrainSource(str(half), PREPROCESSING))
    )
    dataset = make_dataset(config, [volumes(source) for source in config.sources])
    assert isinstance(dataset, MixedSlices)
    assert dataset.shares == pytest.approx([2 / 3, 1 / 3])
    image, _ = dataset[5]
    assert image.shape == (3, 64, 64)
    assert torch.equal(image, dataset[5][0])


def test_the_file_says_how_it_came_about_and_starts_a_network(pretraining: Settings) -> None:
    path = pretrain(pretraining())
    described = backbone_description(path)
    assert described["name"] == "mini"
    assert described["started_from"] == "random weights"
    assert described["data"] == [
        {"name": "source", "volumes": 2, "patients": ["a", "b"], "licence": "made for tests, no terms"}
    ]
    network = UDFA(NetworkConfig())
    before = network.backbone.vit.patch_embed.proj.weight.clone()
    load_backbone(network.backbone, path)
    assert not torch.equal(before, network.backbone.vit.patch_embed.proj.weight)
    assert not any(p.requires_grad for p in network.backbone.parameters())


def test_a_backbone_comes_out_of_a_checkpoint_too(tmp_path: Path) -> None:
    network = UDFA(NetworkConfig(num_classes=2))
    path = tmp_path / "model.safetensors"
    config = ModelConfig(task="Test", labels=("liver",), network=network.config)
    save_checkpoint(path, network, config, Description("none", "test"), half=False)
    target = FrozenBackbone("mini")
    load_backbone(target, path)
    for key, value in network.backbone.vit.state_dict().items():
        assert torch.equal(target.vit.state_dict()[key], value)
    assert backbone_description(path) == {}


def test_a_file_with_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = FrozenBackbone("mini")
    path = tmp_path / "backbone.safetensors"
    with monkeypatch.context() as patch:
        patch.setitem(backbones.BACKBONE_WIDTHS, "mini", 96)
        save_backbone(path, FrozenBackbone("mini"), {})
    with pytest.raises(CheckpointError, match="does not hold the weights of 'mini'.*udfa-train pretrain"):
        load_backbone(backbone, path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    backbone = FrozenBackbone("mini")
    with torch.no_grad():
        backbone.vit.cls_token.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="NaN"):
        save_backbone(tmp_path / "backbone.safetensors", backbone, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("field", "value"), [("size", 50), ("masked_share", 1.0), ("mask_side", 9), ("sources", ())])
def test_settings_that_make_no_sense_are_refused(pretraining: Settings, field: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=field):
        pretraining(**{field: value})


def test_the_command_takes_a_file_and_overrides(
    pretraining: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pretrain.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(to_dict(pretraining())))))
    output = tmp_path / "cli"
    assert main(["pretrain", "--config", str(path), "--budget.steps", "1", "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output / "backbone.safetensors")


def test_the_configurations_of_the_package_are_valid() -> None:
    from udfa_training.config_file import load_config

    folder = Path(__file__).resolve().parents[3] / "training" / "configs" / "pretrain"
    paths = sorted(folder.glob("*.yaml"))
    assert paths
    for path in paths:
        assert load_config(path, (), PretrainConfig).sources
