"""Checkpoints: one safetensors file with weights and JSON metadata. No pickle is ever read.

File layout: the trainable weights under their parameter names (and the backbone's, when it is `mini`), and one
metadata entry `udfa` with a JSON document:

    format_version, config (ModelConfig), label_table, backbone {name, sha256, inside}, training, metrics, licence,
    intended_use, package_version, commit, parameters {trainable, total}, content_sha256

`content_sha256` covers all weights and the rest of the document, so that a changed file is noticed. Metadata is read
without torch and without safetensors: the module lists checkpoints before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import udfa
from udfa.config import ModelConfig, from_dict, to_dict
from udfa.errors import CheckpointError, InvalidInputError
from udfa.labels import Label, describe

if TYPE_CHECKING:
    from torch import Tensor

    from udfa.networks.udfa import UDFA

FORMAT_VERSION = 1
"""Version of the metadata document that this package writes; newer ones are refused."""

METADATA_KEY = "udfa"
HEADER_LIMIT = 100_000_000
"""Longest plausible safetensors header in bytes (the format's own limit)."""

_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself."""

    path: Path
    config: ModelConfig
    labels: tuple[Label, ...]
    """Labels 1..K in order."""
    backbone_sha256: str
    backbone_inside: bool
    training: Mapping[str, Any]
    """Data set, split, budget and how the backbone came about."""
    metrics: Mapping[str, Any]
    licence: str
    intended_use: str
    package_version: str
    commit: str
    trainable_parameters: int
    total_parameters: int
    content_sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """File name without its suffix."""
        return self.path.stem

    @property
    def trainable_share(self) -> float:
        """Trainable parameters / all parameters."""
        return self.trainable_parameters / self.total_parameters


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the network in eval mode, and what the file says."""

    network: UDFA
    info: CheckpointInfo


@dataclass(frozen=True)
class Description:
    """What the author of a checkpoint adds to the weights and the config."""

    licence: str
    intended_use: str
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    commit: str = ""


def save_checkpoint(
    path: Path, network: UDFA, config: ModelConfig, description: Description, half: bool = True
) -> CheckpointInfo:
    """Write a checkpoint aside and rename it into place.

    Args:
        path: Target, ending in `.safetensors`.
        network: The network whose weights are stored; the backbone's too when it is `mini`.
        config: Its configuration.
        description: Provenance, licence, metrics.
        half: Store weights in float16 (else float32).

    Raises:
        CheckpointError: A weight is not finite, or does not fit into float16.
    """
    import torch
    from safetensors.torch import save_file

    from udfa.volume_io import written_aside

    inside = config.network.backbone == "mini"
    keys = sorted(network.state_dict() if inside else network.trainable_state_keys())
    state = network.state_dict()
    dtype = torch.float16 if half else torch.float32
    tensors = {key: state[key].detach().cpu().to(dtype).contiguous() for key in keys}
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(f"Not saved: weights are NaN, infinite or too large for {dtype}: {broken[:3]}.")
    # The stored (rounded) backbone is what a loader will see, so that is what the hash covers.
    stored_backbone = {k: v for k, v in tensors.items() if k.startswith("backbone.")} if inside else None
    trainable, total = network.parameter_counts()
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "config": to_dict(config),
        "label_table": [_label_row(value, describe(name)) for value, name in enumerate(config.labels, start=1)],
        "backbone": {
            "name": config.network.backbone,
            "inside": inside,
            "sha256": tensors_sha256(stored_backbone or _prefixed(network.backbone.state_dict())),
        },
        "training": dict(description.training),
        "metrics": dict(description.metrics),
        "licence": description.licence,
        "intended_use": description.intended_use,
        "package_version": udfa.__version__,
        "commit": description.commit,
        "parameters": {"trainable": trainable, "total": total},
    }
    document["content_sha256"] = _content_sha256(document, tensors)
    with written_aside(path) as aside:
        save_file(tensors, aside, metadata={METADATA_KEY: json.dumps(document)})
    return read_info(path)


def _prefixed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"backbone.{key}": value for key, value in state.items()}


def _label_row(value: int, label: Label) -> dict[str, Any]:
    return {
        "value": value,
        "name": label.name,
        "title": label.title,
        "color": list(label.color),
        "type": label.type,
        "modifier": label.modifier,
    }


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(_byte_type()).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def _byte_type() -> Any:
    import torch

    return torch.uint8


def _content_sha256(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    rest = {key: value for key, value in document.items() if key != "content_sha256"}
    canonical = json.dumps(json.loads(json.dumps(rest)), sort_keys=True)
    return hashlib.sha256((canonical + tensors_sha256(tensors)).encode()).hexdigest()


def read_info(path: Path) -> CheckpointInfo:
    """Read what a checkpoint says about itself, without torch.

    Raises:
        CheckpointError: Missing, truncated, not a UDFA checkpoint, written by a newer version, or inconsistent.
    """
    document = _read_document(path)
    try:
        backbone, parameters = document["backbone"], document["parameters"]
        config = from_dict(ModelConfig, document["config"], str(path))
        labels = tuple(_label_from_row(row) for row in document["label_table"])
        info = CheckpointInfo(
            path=path,
            config=config,
            labels=labels,
            backbone_sha256=backbone["sha256"],
            backbone_inside=backbone["inside"],
            training=document["training"],
            metrics=document["metrics"],
            licence=document["licence"],
            intended_use=document["intended_use"],
            package_version=document["package_version"],
            commit=document["commit"],
            trainable_parameters=parameters["trainable"],
            total_parameters=parameters["total"],
            content_sha256=document["content_sha256"],
            size_bytes=path.stat().st_size,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its metadata is incomplete or inconsistent ({type(error).__name__}: {error}). Get the file again."
        ) from error
    if tuple(label.name for label in labels) != config.labels:
        raise CheckpointError(f"{path}: label table and configuration name different labels. Get the file again.")
    return info


def _label_from_row(row: Mapping[str, Any]) -> Label:
    red, green, blue = (int(c) for c in row["color"])
    return Label(row["name"], row["title"], (red, green, blue), _code(row["type"]), _code(row["modifier"]))


def _code(value: Any) -> tuple[str, str, str] | None:
    if value is None:
        return None
    scheme, code, meaning = (str(part) for part in value)
    return (scheme, code, meaning)


def _read_header(path: Path) -> dict[str, Any]:
    """Return the JSON header of a safetensors file after checking that the file is whole."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. Check the path, or list the bundled models with 'udfa models'.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(_PICKLE_STARTS):
            raise CheckpointError(
                f"{path} is a pickle-based PyTorch file. It could run code when opened and is refused; "
                f"convert it to a .safetensors checkpoint with 'udfa-train'."
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= HEADER_LIMIT:
            raise CheckpointError(f"{path} is not a safetensors file. Choose a .safetensors checkpoint of UDFA.")
        if 8 + length > size:
            raise CheckpointError(f"{path} is truncated ({size} bytes). Copy or download it again.")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: its header cannot be read.") from error
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path} is truncated or has been appended to: {8 + length + end} bytes expected, {size} found. "
            f"Copy or download it again."
        )
    return dict(header)


def _read_document(path: Path) -> dict[str, Any]:
    metadata = _read_header(path).get("__metadata__") or {}
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} holds weights, but is no UDFA checkpoint: the metadata entry '{METADATA_KEY}' is missing."
        )
    try:
        document = json.loads(metadata[METADATA_KEY])
        version = int(document["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the metadata entry '{METADATA_KEY}' is damaged. Get the file again.") from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written in checkpoint format {version} by UDFA {document.get('package_version', '?')}, this "
            f"UDFA {udfa.__version__} reads up to {FORMAT_VERSION}. Update the extension."
        )
    return dict(document)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file; CheckpointError if it is not one, or is not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _read_header(path)
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Copy or download it again.") from error


def load_checkpoint(path: Path, backbone_weights: Path | None = None) -> Checkpoint:
    """Load a checkpoint strictly: exact key set, exact shapes, hashes checked, nothing executed.

    Args:
        path: The checkpoint.
        backbone_weights: Local safetensors file with the DINOv2 weights; None lets timm fetch them from the hub on
            first use. Not needed for `mini`, which is inside the checkpoint.

    Raises:
        CheckpointError: The file, its weights or its backbone are not what they should be.
    """
    from udfa.networks.backbone import load_pretrained
    from udfa.networks.udfa import UDFA

    info = read_info(path)
    tensors = read_tensors(path)
    if _content_sha256(_read_document(path), tensors) != info.content_sha256:
        raise CheckpointError(f"{path} has been changed: its content does not match its SHA-256. Get the file again.")
    try:
        network = UDFA(info.config.network)
    except InvalidInputError as error:
        raise CheckpointError(f"{path}: {error}") from error
    expected = set(network.state_dict()) if info.backbone_inside else network.trainable_state_keys()
    missing, foreign = sorted(expected - set(tensors)), sorted(set(tensors) - expected)
    if missing or foreign:
        raise CheckpointError(
            f"{path} does not fit its own configuration: missing {missing[:3]} ({len(missing)}), "
            f"foreign {foreign[:3]} ({len(foreign)})."
        )
    state = network.state_dict()
    wrong = [key for key, value in tensors.items() if value.shape != state[key].shape]
    if wrong:
        raise CheckpointError(f"{path}: weights of unexpected shape: {wrong[:3]}.")
    if not info.backbone_inside:
        load_pretrained(network.backbone, backbone_weights)
    stored = {k: v for k, v in tensors.items() if k.startswith("backbone.")}
    digest = tensors_sha256(stored if info.backbone_inside else _prefixed(network.backbone.state_dict()))
    if digest != info.backbone_sha256:
        raise CheckpointError(
            f"{path} was trained on another {info.config.network.backbone} backbone (SHA-256 "
            f"{info.backbone_sha256[:12]}..., this one has {digest[:12]}...). Use the original timm weights."
        )
    network.load_state_dict({**network.state_dict(), **{k: v.float() for k, v in tensors.items()}}, strict=True)
    network.requires_grad_(False)
    network.eval()
    return Checkpoint(network, info)
