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
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import udfa
from udfa.config import ModelConfig, from_dict, to_dict
from udfa.errors import CheckpointError, InvalidInputError
from udfa.labels import Label, describe
from udfa.safetensors_file import METADATA, read_header, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from udfa.networks.udfa import UDFA

FORMAT_VERSION = 2
"""Version of the metadata document that this package writes; newer ones are refused."""

METADATA_KEY = "udfa"
"""Name of the metadata document in the safetensors header."""

T = TypeVar("T")


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
        CheckpointError: The file name or the configuration does not fit, a weight is not finite or does not fit into
            float16, the description is no plain data, or the file cannot be written. No file is left behind then.
    """
    import torch

    if path.suffix != ".safetensors":
        raise CheckpointError(f"Not saved: {path.name} must end in .safetensors.")
    if network.config != config.network:
        raise CheckpointError(f"Not saved: the network was built as {network.config}, not as {config.network}.")
    inside = config.network.backbone == "mini"
    state = network.state_dict()
    dtype = torch.float16 if half else torch.float32
    tensors = {key: state[key].detach().cpu().to(dtype).contiguous() for key in sorted(_stored_keys(network))}
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
    return _write(path, tensors, document)


def _write(path: Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> CheckpointInfo:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from udfa.volume_io import written_aside

    try:
        document["content_sha256"] = content_sha256(document, tensors)
        text = json.dumps(document)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"Not saved: the description holds something that JSON cannot ({error}).") from error
    try:
        with written_aside(path) as aside:
            save_file(tensors, aside, metadata={METADATA_KEY: text})
            return replace(read_info(aside), path=path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} could not be written ({error}). Check the folder and the free space.") from error


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


def content_sha256(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over a metadata document, without its own entry `content_sha256`, and all tensors."""
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
        config = from_dict(ModelConfig, _current_config(document), "config")
        labels = tuple(_label_from_row(row, value) for value, row in enumerate(document["label_table"], start=1))
        info = CheckpointInfo(
            path=path,
            config=config,
            labels=labels,
            backbone_sha256=_typed(backbone, "sha256", str),
            backbone_inside=_typed(backbone, "inside", bool),
            training=_typed(document, "training", dict),
            metrics=_typed(document, "metrics", dict),
            licence=_typed(document, "licence", str),
            intended_use=_typed(document, "intended_use", str),
            package_version=_typed(document, "package_version", str),
            commit=_typed(document, "commit", str),
            trainable_parameters=_typed(parameters, "trainable", int),
            total_parameters=_typed(parameters, "total", int),
            content_sha256=_typed(document, "content_sha256", str),
            size_bytes=path.stat().st_size,
        )
        _check_consistency(info, backbone["name"])
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its metadata is incomplete or inconsistent ({type(error).__name__}: {error}). Get the file again."
        ) from error
    return info


def _current_config(document: dict[str, Any]) -> dict[str, Any]:
    """The configuration in today's form. Networks of format 1 had group normalisation and did not say so."""
    config: dict[str, Any] = document["config"]
    if document["format_version"] >= 2:
        return config
    return {**config, "network": {"norm": "group", **config["network"]}}


def _typed(entries: Any, key: str, kind: type[T]) -> T:
    """Return entries[key] if it is of exactly that type; TypeError or KeyError if not."""
    value = entries[key]
    if type(value) is not kind:
        raise TypeError(f"{key} is {value!r}, but must be of type {kind.__name__}")
    return value


def _check_consistency(info: CheckpointInfo, backbone_name: Any) -> None:
    """Raise ValueError if entries of the metadata contradict each other."""
    if tuple(label.name for label in info.labels) != info.config.labels:
        raise ValueError("label table and configuration name different labels")
    if backbone_name != info.config.network.backbone:
        raise ValueError(f"backbone {backbone_name!r} and configuration {info.config.network.backbone!r} differ")
    if info.backbone_inside != (backbone_name == "mini"):
        raise ValueError("the backbone is inside the file if and only if it is 'mini'")
    if not 0 <= info.trainable_parameters <= info.total_parameters or not info.total_parameters:
        raise ValueError(f"{info.trainable_parameters} of {info.total_parameters} parameters are trainable")


def _label_from_row(row: Any, value: int) -> Label:
    red, green, blue = row["color"]
    color = (red, green, blue)
    if not all(type(c) is int and 0 <= c <= 255 for c in color) or _typed(row, "value", int) != value:
        raise ValueError(f"label {value} has a wrong number or colour: {row}")
    return Label(_typed(row, "name", str), _typed(row, "title", str), color, _code(row["type"]), _code(row["modifier"]))


def _code(value: Any) -> tuple[str, str, str] | None:
    if value is None:
        return None
    scheme, code, meaning = (str(part) for part in value)
    return (scheme, code, meaning)


def _read_document(path: Path) -> dict[str, Any]:
    metadata = read_header(path).get(METADATA, {})
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} holds weights, but is no UDFA checkpoint: the metadata entry '{METADATA_KEY}' is missing."
        )
    try:
        document = json.loads(metadata[METADATA_KEY])
        version = _typed(document, "format_version", int)
        if version < 1:
            raise ValueError(f"format_version is {version}")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the metadata entry '{METADATA_KEY}' is damaged. Get the file again.") from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written in checkpoint format {version} by UDFA {document.get('package_version', '?')}, this "
            f"UDFA {udfa.__version__} reads up to {FORMAT_VERSION}. Update the extension."
        )
    return dict(document)


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
    if content_sha256(_read_document(path), tensors) != info.content_sha256:
        raise CheckpointError(f"{path} has been changed: its content does not match its SHA-256. Get the file again.")
    _check_weights(path, tensors, info)
    network = UDFA(info.config.network)
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


def _check_weights(path: Path, tensors: Mapping[str, Tensor], info: CheckpointInfo) -> None:
    """Raise CheckpointError unless the names, shapes and types of the weights are exactly those of the configuration.

    The network is built without memory for this, so that a configuration of absurd size does no harm.
    """
    import torch

    from udfa.networks.udfa import UDFA

    try:
        with torch.device("meta"):
            network = UDFA(info.config.network)
    except (InvalidInputError, RuntimeError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: the network of its configuration cannot be built ({error}).") from error
    state = network.state_dict()
    expected = _stored_keys(network)
    missing, foreign = sorted(expected - set(tensors)), sorted(set(tensors) - expected)
    if missing or foreign:
        raise CheckpointError(
            f"{path} does not fit its own configuration: missing {missing[:3]} ({len(missing)}), "
            f"foreign {foreign[:3]} ({len(foreign)}). Get the file again."
        )
    wrong = [key for key in sorted(tensors) if tensors[key].shape != state[key].shape]
    if wrong:
        shapes = f"{tuple(tensors[wrong[0]].shape)} instead of {tuple(state[wrong[0]].shape)}"
        raise CheckpointError(f"{path}: {len(wrong)} weights of unexpected shape, such as {wrong[0]}: {shapes}.")
    strange = [key for key in sorted(tensors) if str(tensors[key].dtype) not in ("torch.float16", "torch.float32")]
    if strange:
        raise CheckpointError(f"{path}: {strange[0]} is of type {tensors[strange[0]].dtype}, not float16 or float32.")


def _stored_keys(network: UDFA) -> set[str]:
    """Names of the weights a checkpoint holds: all for `mini`, those outside the frozen backbone for DINOv2."""
    return set(network.state_dict()) if network.config.backbone == "mini" else network.trainable_state_keys()
