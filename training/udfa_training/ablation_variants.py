"""Networks of the ablation: U-DFA and what it is compared with. All map (B, 3, H, W) to logits (B, K, H, W)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from monai.networks.nets import BasicUNet, SwinUNETR
from monai.utils import OptionalImportError
from torch import Tensor, nn

from udfa.config import NetworkConfig
from udfa.errors import InvalidInputError
from udfa.layers.spa import SpatialPatternAdapter
from udfa.networks.decoder import UNetDecoder
from udfa.networks.udfa import IMAGE_CHANNELS, UDFA
from udfa_training.ablation_config import Variant
from udfa_training.backbone_file import load_backbone

SWIN_WIDTHS = (12, 24, 36, 48)
"""Widths that SwinUNETR accepts: multiples of 12."""


class SpaUNet(nn.Module):
    """U-DFA without its backbone: SPA and decoder. (B, 3, H, W) -> logits (B, K, H, W).

    Args:
        config: Shape of the U-DFA whose parts these are.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.spa = SpatialPatternAdapter(IMAGE_CHANNELS, config.spa_channels, config.norm)
        self.decoder = UNetDecoder(
            IMAGE_CHANNELS, config.spa_channels, 0, config.decoder_channels, config.num_classes, config.norm
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: list[Tensor] = self.decoder(image, self.spa(image), None)
        return logits[0]


def build_variant(variant: Variant, network: NetworkConfig) -> nn.Module:
    """Return the network of a variant.

    Args:
        variant: What to build.
        network: U-DFA as the variant sees it; foreign networks are sized by it.

    Raises:
        CheckpointError: The backbone file does not fit.
        InvalidInputError: A package that MONAI needs is missing.
    """
    if variant.kind == "spa_unet":
        return SpaUNet(network)
    if variant.kind == "udfa":
        built = UDFA(network)
        if variant.backbone is not None:
            load_backbone(built.backbone, Path(variant.backbone))
        return built
    size = reference_size(network, variant.match)
    return plain_unet(network.num_classes, size) if variant.kind == "unet" else swin_unetr(network.num_classes, size)


def reference_size(network: NetworkConfig, match: str) -> int:
    """Parameters of a U-DFA: `trainable` or `total`."""
    with torch.device("meta"):
        trainable, total = UDFA(network).parameter_counts()
    return trainable if match == "trainable" else total


def plain_unet(num_classes: int, parameters: int) -> nn.Module:
    """MONAI's BasicUNet (five levels, widths c, c, 2c, 4c, 8c, c) with about that many parameters."""

    def build(width: int) -> nn.Module:
        features = (width, width, 2 * width, 4 * width, 8 * width, width)
        return BasicUNet(spatial_dims=2, in_channels=IMAGE_CHANNELS, out_channels=num_classes, features=features)  # type: ignore[no-any-return]

    with torch.device("meta"):
        guess = 2 * round(16 * math.sqrt(parameters / total_parameters(build(32))))
    return _nearest(build, range(max(4, guess - 4), guess + 5, 2), parameters, "meta")


def swin_unetr(num_classes: int, parameters: int) -> nn.Module:
    """MONAI's SwinUNETR in 2D, of the width whose size is nearest to that many parameters."""

    def build(width: int) -> nn.Module:
        return SwinUNETR(  # type: ignore[no-any-return]
            in_channels=IMAGE_CHANNELS, out_channels=num_classes, feature_size=width, spatial_dims=2
        )

    try:
        # Only a forward pass notices that einops is missing.
        with torch.no_grad():
            build(SWIN_WIDTHS[0])(torch.zeros(1, IMAGE_CHANNELS, 64, 64))
    except OptionalImportError as error:
        raise InvalidInputError("MONAI's SwinUNETR needs the package einops: pip install einops.") from error
    return _nearest(build, SWIN_WIDTHS, parameters, "cpu")


def _nearest(
    build: Callable[[int], nn.Module], widths: range | tuple[int, ...], parameters: int, device: str
) -> nn.Module:
    """The network of the width that comes nearest to a size; candidates are built on a device (meta: no memory)."""

    def distance(width: int) -> int:
        with torch.device(device):
            return abs(total_parameters(build(width)) - parameters)

    return build(min(widths, key=distance))


def total_parameters(network: nn.Module) -> int:
    """All parameters."""
    return sum(p.numel() for p in network.parameters())


def trainable_parameters(network: nn.Module) -> int:
    """Parameters that require a gradient and take part in the result (auxiliary heads train with `fit` only)."""
    return sum(p.numel() for name, p in network.named_parameters() if p.requires_grad and "auxiliary_heads" not in name)
