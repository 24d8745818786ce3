"""Prompt encoder: clicks and labelmaps guide the decoder without touching the encoder.

What it finds is added to the decoder's skip maps, and to its output, through 1x1 convolutions that start at zero (the
idea of ControlNet, arXiv 2302.05543), so that an untrained prompt encoder changes nothing. Without clicks it is not run
at all, and the automatic result stays what it was, bit for bit.

The skip maps enter the prompt encoder, too: what a click means depends on what is seen at the clicked place. That, and
the way around the frozen decoder to its output, are our choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udfa.config import Norm
from udfa.layers.conv import ConvNormAct
from udfa.networks.decoder import IMAGE_FOLD

PROMPT_MAPS = 3
"""Channels per class: the click map, the labelmap as it stands, and that of the neighbouring slice."""


class PromptEncoder(nn.Module):
    """Small CNN pyramid on prompt and skip maps.

    The prompt is (B, 3K, H, W): K signed click maps (+1 disc: this class is here; -1 disc: it is not), K channels of
    the slice's labels as one-hot, and K of the labels of a neighbouring slice that was corrected, all 0 without one.

    Args:
        num_classes: K, background included.
        channels: Widths of the pyramid at strides 2, 4, 8, 16.
        skip_channels: Channels of the skip maps at these strides.
        decoder_channels: Channels of the decoder's last map, at stride 2.
        norm: Normalisation after the convolutions.
    """

    def __init__(
        self,
        num_classes: int,
        channels: tuple[int, int, int, int],
        skip_channels: tuple[int, int, int, int],
        decoder_channels: int,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        previous = (PROMPT_MAPS * num_classes, *channels[:-1])
        self.down = nn.ModuleList(ConvNormAct(c_in, c, stride=2, norm=norm) for c_in, c in zip(previous, channels))
        self.context = nn.ModuleList(nn.Conv2d(s, c, kernel_size=1) for s, c in zip(skip_channels, channels))
        self.mix = nn.ModuleList(ConvNormAct(c, c, norm=norm) for c in channels)
        self.to_skip = nn.ModuleList(nn.Conv2d(c, s, kernel_size=1) for c, s in zip(channels, skip_channels))
        self.join = ConvNormAct(channels[0] + decoder_channels, decoder_channels, norm=norm)
        self.to_output = nn.Conv2d(decoder_channels, num_classes * IMAGE_FOLD**2, kernel_size=1)
        for layer in (*self.to_skip, self.to_output):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self, prompt: Tensor, maps: list[Tensor], channels: Sequence[int] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Encode a prompt.

        Args:
            prompt: (B, 3K, H, W), or (B, C, H, W) without the channels that are 0 everywhere.
            maps: Skip maps at strides 2, 4, 8, 16; further ones are not used.
            channels: Which of the 3K channels the prompt holds; None for all of them.

        Returns:
            Additions to these maps, and the finest map of the pyramid (B, C, H/2, W/2), for `output`.
        """
        additions, finest, x = [], prompt, prompt
        for i, skip in enumerate(maps[: len(self.down)]):
            x = self.down[i](x) if i else self._first(prompt, channels)
            x = self.mix[i](x + self.context[i](skip))
            additions.append(self.to_skip[i](x))
            finest = x if i == 0 else finest
        return additions, finest

    def _first(self, prompt: Tensor, channels: Sequence[int] | None) -> Tensor:
        """Run the first stage on the given channels of a prompt. (B, C, H, W) -> (B, C', H/2, W/2)."""
        convolve, *others = (cast(Any, layer) for layer in self.down[0].children())
        weight = convolve.weight if channels is None else convolve.weight[:, list(channels)]
        x = F.conv2d(prompt, weight, stride=convolve.stride, padding=convolve.padding)
        for layer in others:
            x = layer(x)
        return x

    def output(self, finest: Tensor, decoded: Tensor) -> Tensor:
        """Addition to the decoder's folded logits. (B, C, h, w), (B, D, h, w) -> (B, 4K, h, w)."""
        added: Tensor = self.to_output(self.join(torch.cat([finest, decoded], dim=1)))
        return added
