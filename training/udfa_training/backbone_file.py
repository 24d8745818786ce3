"""The `mini` backbone alone: a safetensors file with timm's parameter names, or the backbone inside a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from udfa.checkpoint import METADATA_KEY, read_info, tensors_sha256
from udfa.errors import CheckpointError
from udfa.networks.backbone import FrozenBackbone
from udfa.safetensors_file import METADATA, read_header, read_tensors
from udfa.volume_io import written_aside

BACKBONE_KEY = "udfa_backbone"
"""Name of the metadata document of a backbone file."""

INSIDE = "backbone.vit."
"""Prefix of the backbone's weights inside a checkpoint."""


def save_backbone(path: Path, backbone: FrozenBackbone, description: Mapping[str, Any]) -> None:
    """Write a backbone aside and rename it into place.

    Args:
        path: Target, ending in `.safetensors`.
        backbone: The backbone; stored in float32.
        description: How it came about (method, data, steps, licence), as plain types.

    Raises:
        CheckpointError: The file name does not fit, or a weight is not finite.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"Not saved: {path.name} must end in .safetensors.")
    tensors = {key: value.detach().cpu().float().contiguous() for key, value in backbone.vit.state_dict().items()}
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(f"Not saved: weights are NaN or infinite: {broken[:3]}.")
    document = {**description, "name": backbone.name, "sha256": tensors_sha256(tensors)}
    with written_aside(path) as aside:
        save_file(tensors, aside, metadata={BACKBONE_KEY: json.dumps(document)})


def load_backbone(backbone: FrozenBackbone, path: Path) -> None:
    """Load weights into a backbone, in place, from a backbone file or from a checkpoint that holds its backbone.

    Raises:
        CheckpointError: The file holds no backbone, or one of another architecture.
    """
    tensors = read_tensors(path)
    if METADATA_KEY in read_header(path).get(METADATA, {}):
        tensors = {key[len(INSIDE) :]: value for key, value in tensors.items() if key.startswith(INSIDE)}
    expected = backbone.vit.state_dict()
    wrong = sorted(set(expected) ^ set(tensors)) or [k for k in expected if expected[k].shape != tensors[k].shape]
    if wrong:
        raise CheckpointError(
            f"{path} does not hold the weights of '{backbone.name}': {len(wrong)} are missing, foreign or of another "
            f"shape ({wrong[:3]}). Give a file written by 'udfa-train pretrain' or a checkpoint with this backbone."
        )
    backbone.vit.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=True)


def backbone_description(path: Path) -> dict[str, Any]:
    """Return what a backbone file says about itself; empty for a checkpoint."""
    text = read_header(path).get(METADATA, {}).get(BACKBONE_KEY)
    return {} if text is None else dict(json.loads(text))


def backbone_training(path: Path) -> dict[str, Any]:
    """Return whom the backbone in a file learnt from, in the terms of a checkpoint's record (`train`, ...)."""
    found = backbone_description(path)
    if not found:
        return dict(read_info(path).training)
    return {"train": sorted({patient for data in found.get("data", []) for patient in data.get("patients", [])})}
