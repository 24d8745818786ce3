"""U-DFA: frozen ViT, Spatial Pattern Adapter, Local-Global Fusion Adapters, U-Net decoder.

As described in the abstract of arXiv 2510.00585: a frozen DINOv2, a CNN adapter (SPA), fusion adapters (LGFA) that
inject its features at multiple stages, a U-Net decoder. All finer choices are ours and are explained where they stand.

    image (B, 3, H, W)
      |-- scaled by 7/8, patch 14 -> tokens on a grid of stride 16
      `-- SPA: maps at strides 2, 4, 8, 16, 32
    4 x [ LGFA injects maps into tokens -> a quarter of the ViT's blocks -> LGFA takes tokens back into the maps ]
    U-Net decoder on the fused maps and the final tokens -> logits (B, K, H, W)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udfa.config import SIZE_MULTIPLE, NetworkConfig
from udfa.errors import InvalidInputError
from udfa.layers.lgfa import LocalGlobalFusionAdapter
from udfa.layers.spa import SpatialPatternAdapter
from udfa.networks.backbone import QUARTERS, FrozenBackbone
from udfa.networks.decoder import UNetDecoder
from udfa.networks.prompt import PromptEncoder

IMAGE_CHANNELS = 3
"""Three neighbouring slices, or one slice three times."""


STRIDES = (2, 4, 8, 16, 32)
"""Strides of the SPA maps."""

TOKEN_STRIDE = 16
"""Image pixels from token to token, as the ViT sees the image at 7/8 of its size with patches of 14 pixels."""


@dataclass(frozen=True)
class EncoderFeatures:
    """What the encoder knows of an image; independent of clicks, so it can be cached per slice."""

    image: Tensor
    """(B, 3, H, W), the input itself."""
    maps: list[Tensor]
    """Fused SPA maps at strides 2, 4, 8, 16, 32."""
    tokens: Tensor
    """(B, D, H/16, W/16), the final normalised ViT patch tokens as a map."""

    def cropped(self, rows: slice, columns: slice) -> EncoderFeatures:
        """Return the features of a part of the image; its edges must be multiples of 32 pixels."""

        def part(x: Tensor, stride: int) -> Tensor:
            height, width = (slice(edge.start // stride, edge.stop // stride) for edge in (rows, columns))
            return x[..., height, width]

        maps = [part(x, STRIDES[i]) for i, x in enumerate(self.maps)]
        return EncoderFeatures(part(self.image, 1), maps, part(self.tokens, TOKEN_STRIDE))

    def split(self) -> list[EncoderFeatures]:
        """Return the features of each image of the batch, with memory of their own."""

        def one(x: Tensor, i: int) -> Tensor:
            return x[i : i + 1].clone()

        return [
            EncoderFeatures(one(self.image, i), [one(m, i) for m in self.maps], one(self.tokens, i))
            for i in range(len(self.image))
        ]


def joined(features: Sequence[EncoderFeatures]) -> EncoderFeatures:
    """Return features of equal size as one batch."""
    if len(features) == 1:
        return features[0]
    maps = [torch.cat(level) for level in zip(*(f.maps for f in features))]
    return EncoderFeatures(torch.cat([f.image for f in features]), maps, torch.cat([f.tokens for f in features]))


class UDFA(nn.Module):
    """The segmentation network. (B, 3, H, W) -> logits (B, K, H, W), H and W multiples of 32.

    Args:
        config: Shape of the network.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = FrozenBackbone(config.backbone)
        width = self.backbone.width
        self.spa = SpatialPatternAdapter(IMAGE_CHANNELS, config.spa_channels, config.norm)
        adapters = 0 if config.lgfa_direction == "none" else QUARTERS
        _, _, c8, c16, c32 = config.spa_channels
        self.lgfa = nn.ModuleList(
            LocalGlobalFusionAdapter(
                width, (c8, c16, c32), config.lgfa_width, config.lgfa_heads, config.lgfa_direction == "both"
            )
            for _ in range(adapters)
        )
        self.decoder = UNetDecoder(
            IMAGE_CHANNELS, config.spa_channels, width, config.decoder_channels, config.num_classes, config.norm
        )
        self.prompt_encoder = (
            None
            if config.prompt_channels is None
            else PromptEncoder(
                config.num_classes,
                config.prompt_channels,
                config.spa_channels[:4],
                config.decoder_channels[-1],
                config.norm,
            )
        )

    def encode(self, image: Tensor) -> EncoderFeatures:
        """Run SPA, ViT and LGFA. (B, 3, H, W) -> features.

        Raises:
            InvalidInputError: The image has not 3 channels, or a size that is no multiple of 32.
        """
        check_input_shape(image)
        fine2, fine4, *maps = self.spa(image)
        height, width = image.shape[-2:]
        size = (height // 8 * 7, width // 8 * 7)
        # Antialiased resizing exists in float32 only.
        scaled = F.interpolate(image.float(), size=size, mode="bilinear", antialias=True).to(image.dtype)
        tokens = self.backbone.embed(scaled)
        for quarter in range(QUARTERS):
            adapter = self.lgfa[quarter] if len(self.lgfa) else None
            if adapter is not None:
                prefix, patches = self.backbone.split(tokens)
                tokens = torch.cat([prefix, adapter.inject(patches, maps)], dim=1)  # type: ignore[operator]
            tokens = self.backbone.run_quarter(tokens, quarter)
            if adapter is not None:
                maps = adapter.extract(self.backbone.split(tokens)[1], maps)  # type: ignore[operator]
        _, patches = self.backbone.split(self.backbone.vit.norm(tokens))
        grid = patches.transpose(1, 2).unflatten(2, (height // 16, width // 16))
        return EncoderFeatures(image, [fine2, fine4, *maps], grid)

    def decode(
        self,
        features: EncoderFeatures,
        deep_supervision: bool = False,
        prompt: Tensor | None = None,
        prompt_channels: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """Run the decoder.

        Args:
            features: What `encode` returned.
            deep_supervision: Also return the logits at strides 2, 4 and 8; of the automatic result only.
            prompt: (B, 3K, H, W) click maps and labelmaps as in PromptEncoder; None for the automatic result.
            prompt_channels: Which channels the prompt holds, if not all; the others are 0 everywhere.

        Returns:
            [logits (B, K, H, W)], with deep supervision followed by the others.

        Raises:
            InvalidInputError: A prompt was given to a model without a prompt encoder.
        """
        if prompt is not None:
            return [self._guided(features, prompt, prompt_channels)]
        decoded: list[Tensor] = self.decoder(features.image, features.maps, features.tokens, deep_supervision)
        return decoded

    def _guided(self, features: EncoderFeatures, prompt: Tensor, channels: Sequence[int] | None) -> Tensor:
        """(B, K, H, W) logits, given a prompt."""
        if self.prompt_encoder is None:
            raise InvalidInputError("This checkpoint takes no clicks: it has no prompt encoder. Choose another.")
        additions, finest = self.prompt_encoder(prompt, features.maps, channels)
        maps = [m + a for m, a in zip(features.maps, additions)] + features.maps[len(additions) :]
        x2, _, _ = self.decoder.features(features.image, maps, features.tokens)
        return self.decoder.logits(x2, self.prompt_encoder.output(finest, x2))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, K, H, W)."""
        return self.decode(self.encode(image))[0]

    def trainable_state_keys(self) -> set[str]:
        """Names of all weights outside the frozen backbone."""
        return {key for key in self.state_dict() if not key.startswith("backbone.")}

    def parameter_counts(self) -> tuple[int, int]:
        """Return (weights outside the frozen backbone, all weights)."""
        total = sum(p.numel() for p in self.parameters())
        return total - sum(p.numel() for p in self.backbone.parameters()), total


def check_input_shape(image: Tensor) -> None:
    """Raise InvalidInputError unless the image is (B, 3, H, W) with H and W positive multiples of 32."""
    if image.ndim != 4 or image.shape[1] != IMAGE_CHANNELS:
        raise InvalidInputError(f"Expected an image of shape (B, {IMAGE_CHANNELS}, H, W), got {tuple(image.shape)}.")
    height, width = image.shape[-2:]
    if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or not height or not width:
        fitting = [max(SIZE_MULTIPLE, -(-size // SIZE_MULTIPLE) * SIZE_MULTIPLE) for size in (height, width)]
        raise InvalidInputError(
            f"Height and width must be multiples of {SIZE_MULTIPLE}, got {height}x{width}. "
            f"Pad to {fitting[0]}x{fitting[1]}, or use a size such as 160, 192, 224, 256 or 512."
        )
