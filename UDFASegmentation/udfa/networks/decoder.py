"""U-Net decoder: from the fused SPA pyramid and the final tokens back to the input's pixel grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udfa.config import Norm
from udfa.layers.conv import ConvNormAct

IMAGE_FOLD = 2
"""The image's 2x2 pixels enter the last stage as channels, so that no convolution runs at full resolution."""


class DecoderStage(nn.Module):
    """Double the resolution, join the skip, convolve. (B, C, H, W), (B, Cs, 2H, 2W) -> (B, C', 2H, 2W)."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        self.first = ConvNormAct(out_channels + skip_channels, out_channels, norm=norm)
        self.second = ConvNormAct(out_channels, out_channels, norm=norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.reduce(x), scale_factor=2, mode="nearest")
        joined: Tensor = self.second(self.first(torch.cat([x, skip], dim=1)))
        return joined


class UNetDecoder(nn.Module):
    """Strides 32 -> 16 -> 8 -> 4 -> 2, then a sub-pixel head to stride 1.

    Args:
        image_channels: Channels of the network's input image.
        skip_channels: Channels of the fused maps at strides 2, 4, 8, 16, 32, finest first.
        token_dim: Width of the ViT tokens that join at stride 16; 0 when there are none.
        channels: Decoder channels at strides 16, 8, 4, 2.
        num_classes: Output channels.
        norm: Normalisation after the convolutions.
    """

    def __init__(
        self,
        image_channels: int,
        skip_channels: tuple[int, ...],
        token_dim: int,
        channels: tuple[int, int, int, int],
        num_classes: int,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        s2, s4, s8, s16, s32 = skip_channels
        c16, c8, c4, c2 = channels
        self.tokens = nn.Conv2d(token_dim, c16, kernel_size=1) if token_dim else None
        self.stage16 = DecoderStage(s32, s16 + (c16 if token_dim else 0), c16, norm)
        self.stage8 = DecoderStage(c16, s8, c8, norm)
        self.stage4 = DecoderStage(c8, s4, c4, norm)
        self.stage2 = DecoderStage(c4, s2 + image_channels * IMAGE_FOLD**2, c2, norm)
        self.head = nn.Conv2d(c2, num_classes * IMAGE_FOLD**2, kernel_size=1)
        self.auxiliary_heads = nn.ModuleList(nn.Conv2d(c, num_classes, kernel_size=1) for c in (c2, c4, c8))

    def features(self, image: Tensor, maps: list[Tensor], tokens: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Decode.

        Args:
            image: (B, C, H, W), the network's input.
            maps: Fused maps at strides 2, 4, 8, 16, 32.
            tokens: (B, D, H/16, W/16) final tokens, or None.

        Returns:
            Decoded maps at strides 2, 4 and 8.
        """
        m2, m4, m8, m16, m32 = maps
        if self.tokens is not None and tokens is not None:
            m16 = torch.cat([m16, self.tokens(tokens)], dim=1)
        x16 = self.stage16(m32, m16)
        x8 = self.stage8(x16, m8)
        x4 = self.stage4(x8, m4)
        x2 = self.stage2(x4, torch.cat([m2, F.pixel_unshuffle(image, IMAGE_FOLD)], dim=1))
        return x2, x4, x8

    def logits(self, x2: Tensor, added: Tensor | None = None) -> Tensor:
        """Logits (B, K, H, W) of the decoded map at stride 2; `added` (B, 4K, H/2, W/2) counts into them, folded."""
        folded = self.head(x2)
        return F.pixel_shuffle(folded if added is None else folded + added, IMAGE_FOLD)

    def forward(
        self, image: Tensor, maps: list[Tensor], tokens: Tensor | None, deep_supervision: bool = False
    ) -> list[Tensor]:
        """Decode to logits (B, K, H, W), with deep supervision followed by those of the heads at strides 2, 4, 8.

        Args:
            image: As for `features`.
            maps: As for `features`.
            tokens: As for `features`.
            deep_supervision: Also return the logits of the auxiliary heads.
        """
        decoded = self.features(image, maps, tokens)
        heads = zip(self.auxiliary_heads, decoded) if deep_supervision else ()
        return [self.logits(decoded[0]), *(head(x) for head, x in heads)]
