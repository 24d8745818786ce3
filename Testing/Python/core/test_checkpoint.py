"""Checkpoints: what is stored comes back exactly, and each way of being wrong has its own message."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import udfa
from udfa.checkpoint import (
    FORMAT_VERSION,
    Description,
    content_sha256,
    load_checkpoint,
    read_info,
    save_checkpoint,
    tensors_sha256,
)
from udfa.config import NetworkConfig
from udfa.errors import CheckpointError
from udfa.labels import describe
from udfa.networks.udfa import UDFA

PLAIN = Description("CC0", "Tests only")
PACKAGE_FOLDER = Path(udfa.__file__).parents[1]


def resaved(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    """A copy with changed weights and hashes that fit them, as a careless or malicious author would make it."""
    tensors = load_file(source)
    raw = source.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    document = json.loads(header["__metadata__"]["udfa"])
    change(tensors)
    if document["backbone"]["inside"]:
        inside = {key: value for key, value in tensors.items() if key.startswith("backbone.")}
        document["backbone"]["sha256"] = tensors_sha256(inside)
    document["content_sha256"] = content_sha256(document, tensors)
    save_file(tensors, target, metadata={"udfa": json.dumps(document)})
    return target


def test_a_mini_checkpoint_holds_every_weight(mini_checkpoint: Any) -> None:
    stored = load_file(mini_checkpoint.path)
    assert set(stored) == set(mini_checkpoint.network.state_dict())
    assert {key.split(".")[0] for key in stored} == {"backbone", "spa", "lgfa", "decoder"}
    assert {value.dtype for value in stored.values()} == {torch.float16}


def test_a_dinov2_checkpoint_holds_the_adapters_only(vits_checkpoint: Any) -> None:
    stored = load_file(vits_checkpoint.path)
    assert set(stored) == {key for key in vits_checkpoint.network.state_dict() if not key.startswith("backbone.")}
    assert {key.split(".")[0] for key in stored} == {"spa", "lgfa", "decoder"}
    assert vits_checkpoint.info.size_bytes < 6e6


def test_loading_restores_weights_and_results_up_to_float16(mini_checkpoint: Any) -> None:
    loaded = load_checkpoint(mini_checkpoint.path).network
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for key, value in mini_checkpoint.network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().float()), key
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), mini_checkpoint.network(image), atol=0.02, rtol=0)


def test_loading_a_float32_checkpoint_restores_results_bit_for_bit(mini_checkpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "full.safetensors"
    save_checkpoint(path, mini_checkpoint.network, mini_checkpoint.config, PLAIN, half=False)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(path).network(image), mini_checkpoint.network(image))


def test_saving_a_loaded_checkpoint_changes_no_weight(mini_checkpoint: Any, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(mini_checkpoint.path)
    info = save_checkpoint(tmp_path / "again.safetensors", checkpoint.network, checkpoint.info.config, PLAIN)
    assert info.backbone_sha256 == checkpoint.info.backbone_sha256
    first, second = load_file(mini_checkpoint.path), load_file(info.path)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_metadata_says_what_was_given(mini_checkpoint: Any) -> None:
    info = read_info(mini_checkpoint.path)
    assert info == mini_checkpoint.info
    assert info.config == mini_checkpoint.config
    assert info.labels == (describe("liver"), describe("spleen"))
    assert (info.licence, info.intended_use, info.commit) == ("CC-BY-4.0", "Tests only", "0123abc")
    assert info.training["split"] == {"train": ["case 1"], "val": ["case 2"]}
    assert info.metrics == {"mean_dice": 0.5}
    assert info.package_version == udfa.__version__
    assert info.name == "mini"
    assert info.size_bytes == mini_checkpoint.path.stat().st_size
    trainable, total = mini_checkpoint.network.parameter_counts()
    assert (info.trainable_parameters, info.total_parameters) == (trainable, total)
    assert info.trainable_share == trainable / total
    assert info.backbone_inside


def test_metadata_is_read_where_torch_and_safetensors_cannot_be_imported(mini_checkpoint: Any) -> None:
    script = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "safetensors", "timm", "SimpleITK", "numpy"}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
from pathlib import Path
from udfa.checkpoint import read_info
print(read_info(Path(sys.argv[1])).config.labels)
"""
    result = subprocess.run(
        [sys.executable, "-c", script, str(mini_checkpoint.path)],
        cwd=PACKAGE_FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "('liver', 'spleen')"


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.5, 0.999999])
def test_a_truncated_file_is_refused(mini_checkpoint: Any, tmp_path: Path, share: float) -> None:
    raw = mini_checkpoint.path.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(raw[: int(len(raw) * share)])
    for read in (read_info, load_checkpoint):
        with pytest.raises(CheckpointError, match="truncated|empty|is not a safetensors file"):
            read(path)


def test_a_file_with_something_appended_is_refused(mini_checkpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(mini_checkpoint.path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="appended to"):
        read_info(path)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_changed_byte_of_the_weights_is_noticed(mini_checkpoint: Any, tmp_path: Path, place: str) -> None:
    raw = bytearray(mini_checkpoint.path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    raw[{"first": start, "middle": (start + len(raw)) // 2, "last": len(raw) - 1}[place]] ^= 1
    (tmp_path / "a.safetensors").write_bytes(raw)
    with pytest.raises(CheckpointError, match="has been changed: its content does not match its SHA-256"):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Tests only", b"Tests 0nly"),
        (b'mean_dice\\": 0.5', b'mean_dice\\": 0.9'),
        (b"-125.0", b"-225.0"),
        (b"Liver", b"liver"),
        (b"0123abc", b"0123abd"),
    ],
)
def test_one_changed_character_of_the_metadata_is_noticed(
    mini_checkpoint: Any, tmp_path: Path, old: bytes, new: bytes
) -> None:
    raw = mini_checkpoint.path.read_bytes()
    assert old in raw
    (tmp_path / "a.safetensors").write_bytes(raw.replace(old, new, 1))
    with pytest.raises(CheckpointError, match="has been changed"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="is no UDFA checkpoint: the metadata entry 'udfa' is missing"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_newer_format_asks_for_an_update(
    mini_checkpoint: Any, tmp_path: Path, edit_document: Callable[..., Path]
) -> None:
    newer = {"format_version": FORMAT_VERSION + 1, "package_version": "9.9"}
    path = edit_document(mini_checkpoint.path, tmp_path / "a.safetensors", lambda document: document.update(newer))
    with pytest.raises(CheckpointError, match=r"format 3 by UDFA 9\.9, this UDFA .* reads up to 2\. Update"):
        load_checkpoint(path)


def test_a_network_of_format_1_has_group_normalisation(
    mini_checkpoint: Any, tmp_path: Path, edit_document: Callable[..., Path]
) -> None:
    def as_format_1(document: dict[str, Any]) -> None:
        document["format_version"] = 1
        del document["config"]["network"]["norm"]

    old = edit_document(mini_checkpoint.path, tmp_path / "old.safetensors", as_format_1)
    assert read_info(mini_checkpoint.path).config.network.norm == "instance"
    assert read_info(old).config.network.norm == "group"


def test_a_missing_weight_is_named(mini_checkpoint: Any, tmp_path: Path) -> None:
    path = resaved(mini_checkpoint.path, tmp_path / "a.safetensors", lambda t: t.pop("decoder.head.bias"))
    with pytest.raises(CheckpointError, match=r"missing \['decoder.head.bias'\] \(1\), foreign \[\] \(0\)"):
        load_checkpoint(path)


def test_a_foreign_weight_is_named(mini_checkpoint: Any, tmp_path: Path) -> None:
    path = resaved(mini_checkpoint.path, tmp_path / "a.safetensors", lambda t: t.update(extra=torch.zeros(1)))
    with pytest.raises(CheckpointError, match=r"missing \[\] \(0\), foreign \['extra'\] \(1\)"):
        load_checkpoint(path)


def test_a_backbone_in_a_dinov2_checkpoint_is_foreign(vits_checkpoint: Any, tmp_path: Path) -> None:
    key = "backbone.vit.norm.weight"
    path = resaved(vits_checkpoint.path, tmp_path / "a.safetensors", lambda t: t.update({key: torch.zeros(384)}))
    with pytest.raises(CheckpointError, match=rf"foreign \['{key}'\]"):
        load_checkpoint(path)


def test_a_weight_of_another_shape_is_named_with_both_shapes(mini_checkpoint: Any, tmp_path: Path) -> None:
    wrong = {"decoder.head.bias": torch.zeros(8)}
    path = resaved(mini_checkpoint.path, tmp_path / "a.safetensors", lambda t: t.update(wrong))
    with pytest.raises(CheckpointError, match=r"decoder\.head\.bias: \(8,\) instead of \(12,\)"):
        load_checkpoint(path)


@pytest.mark.parametrize("dtype", [torch.int16, torch.float64, torch.complex64])
def test_a_weight_of_another_type_is_named(mini_checkpoint: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    wrong = {"decoder.head.bias": torch.zeros(12, dtype=dtype)}
    path = resaved(mini_checkpoint.path, tmp_path / "a.safetensors", lambda t: t.update(wrong))
    with pytest.raises(CheckpointError, match=r"decoder\.head\.bias is of type"):
        load_checkpoint(path)


@pytest.mark.parametrize("width", [10**7, 10**12, 10**30])
def test_a_configuration_of_absurd_size_is_refused_without_taking_the_memory(
    mini_checkpoint: Any, tmp_path: Path, edit_document: Callable[..., Path], width: int
) -> None:
    def enlarge(document: dict[str, Any]) -> None:
        document["config"]["network"]["spa_channels"] = [8 * width] * 5
        document["content_sha256"] = content_sha256(document, load_file(mini_checkpoint.path))

    path = edit_document(mini_checkpoint.path, tmp_path / "a.safetensors", enlarge)
    with pytest.raises(CheckpointError, match="unexpected shape|cannot be built"):
        load_checkpoint(path)


def test_a_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="is no file"):
            load_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_cannot_be_stored_are_not_saved(mini_checkpoint: Any, tmp_path: Path, value: float) -> None:
    torch.manual_seed(0)
    network = UDFA(mini_checkpoint.config.network)
    with torch.no_grad():
        network.decoder.head.bias[0] = value
    with pytest.raises(CheckpointError, match=r"Not saved: .*decoder\.head\.bias"):
        save_checkpoint(tmp_path / "a.safetensors", network, mini_checkpoint.config, PLAIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (replace(PLAIN, training={"when": object()}), "JSON cannot"),
        (replace(PLAIN, licence=None), "licence is None, but must be of type str"),
    ],
)
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    mini_checkpoint: Any, tmp_path: Path, description: Description, message: str
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(path, mini_checkpoint.network, mini_checkpoint.config, description)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing_half_written(
    mini_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def write_half(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", write_half)
    with pytest.raises(CheckpointError, match=r"could not be written \(.*No space left on device"):
        save_checkpoint(tmp_path / "a.safetensors", mini_checkpoint.network, mini_checkpoint.config, PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_network_and_configuration_must_belong_together(mini_checkpoint: Any, tmp_path: Path) -> None:
    config = replace(mini_checkpoint.config, network=NetworkConfig(num_classes=3, lgfa_direction="none"))
    with pytest.raises(CheckpointError, match="Not saved: the network was built as"):
        save_checkpoint(tmp_path / "a.safetensors", mini_checkpoint.network, config, PLAIN)
    with pytest.raises(CheckpointError, match=r"a\.pth must end in \.safetensors"):
        save_checkpoint(tmp_path / "a.pth", mini_checkpoint.network, mini_checkpoint.config, PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_the_hash_covers_names_types_shapes_and_values() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3).half(), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "c": torch.ones(1)},
        {"a": torch.zeros(2, 3), "b": torch.ones(1) * 2},
        {"a": torch.zeros(2, 3)},
    ]
    hashes = {tensors_sha256(tensors) for tensors in [base, *others]}
    assert len(hashes) == 6
    assert tensors_sha256(dict(reversed(base.items()))) == tensors_sha256(base)
    assert tensors_sha256({"a": torch.zeros(3, 2).T, "b": torch.ones(1)}) == tensors_sha256(base)
