"""Where a checkpoint's backbone comes from: inside the file, a local file, or the hub; and that it is the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from udfa.checkpoint import load_checkpoint
from udfa.errors import CheckpointError
from udfa.networks import backbone as backbone_module


def without_network(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Any]) -> list[str]:
    """Replace timm's download; returns the names that are asked for."""
    original, asked = backbone_module.timm.create_model, []

    def create(name: str, pretrained: bool = False, **options: Any) -> Any:
        if not pretrained:
            return original(name, pretrained=False, **options)
        asked.append(name)
        return answer()

    monkeypatch.setattr(backbone_module.timm, "create_model", create)
    return asked


def test_the_backbone_comes_from_a_local_file(vits_checkpoint: Any, vits_weights: Path) -> None:
    loaded = load_checkpoint(vits_checkpoint.path, vits_weights).network
    expected = vits_checkpoint.network.backbone.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.backbone.state_dict().items())


def test_the_backbone_comes_from_the_hub_when_no_file_is_given(
    vits_checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = without_network(monkeypatch, lambda: vits_checkpoint.network.backbone.vit)
    loaded = load_checkpoint(vits_checkpoint.path).network
    assert asked == ["vit_small_patch14_dinov2.lvd142m"]
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.encode(image).tokens, vits_checkpoint.network.encode(image).tokens, atol=0.02, rtol=0
        )


def test_a_hub_that_cannot_be_reached_says_what_to_download_and_where_to_put_it(
    vits_checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ConnectionError("Name or service not known")

    without_network(monkeypatch, fail)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(vits_checkpoint.path)
    message = str(caught.value)
    assert "ConnectionError: Name or service not known" in message
    assert "download model.safetensors from huggingface.co/timm/vit_small_patch14_dinov2.lvd142m" in message
    assert "copy it here and name it as the backbone weights file" in message


def test_a_mini_checkpoint_asks_nobody(mini_checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = without_network(monkeypatch, lambda: pytest.fail("the hub was asked"))
    load_checkpoint(mini_checkpoint.path)
    assert asked == []


def test_another_backbone_than_that_of_the_training_is_refused(
    vits_checkpoint: Any, vits_weights: Path, tmp_path: Path
) -> None:
    state = load_file(vits_weights)
    state["blocks.11.mlp.fc2.bias"][0] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="trained on another dinov2_vits14 backbone"):
        load_checkpoint(vits_checkpoint.path, tmp_path / "other.safetensors")


def test_weights_of_another_architecture_are_refused(
    vits_checkpoint: Any, vits_weights: Path, mini_checkpoint: Any, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="does not hold the weights of dinov2_vits14: .* missing"):
        load_checkpoint(vits_checkpoint.path, mini_checkpoint.path)
    state = load_file(vits_weights)
    state["pos_embed"] = state["pos_embed"][:, :257].contiguous()
    save_file(state, tmp_path / "small.safetensors")
    with pytest.raises(CheckpointError, match=r"shapes differ for \['pos_embed'\]"):
        load_checkpoint(vits_checkpoint.path, tmp_path / "small.safetensors")


def test_a_backbone_file_that_does_not_exist_is_named(vits_checkpoint: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors is no file"):
        load_checkpoint(vits_checkpoint.path, tmp_path / "gone.safetensors")
