"""Prompt encoder: clicks and the current labelmap guide the decoder without touching the encoder.

Its outputs are added to the decoder's skip maps through 1x1 convolutions that start at zero (the idea of ControlNet,
arXiv 2302.05543), so that an untrained prompt encoder changes nothing. Without clicks it is not run at all, and the
automatic result stays what it was, bit for bit.
"""

from __future__ import annotations

from torch import Tensor, nn

from udfa.layers.conv import ConvNormAct


class PromptEncoder(nn.Module):
    """Small CNN pyramid. (B, 2K, H, W) -> additions to the skip maps at strides 2, 4, 8, 16.

    The first K channels are signed click maps per class (+1 disc: this class is here; -1 disc: it is not), the other
    K the current labelmap as one-hot.

    Args:
        num_classes: K, background included.
        channels: Widths of the pyramid at strides 2, 4, 8, 16.
        skip_channels: Channels of the skip maps at these strides.
    """

    def __init__(
        self, num_classes: int, channels: tuple[int, int, int, int], skip_channels: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        previous = (2 * num_classes, *channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNormAct(c_in, c_out, stride=2), ConvNormAct(c_out, c_out))
            for c_in, c_out in zip(previous, channels)
        )
        self.to_skip = nn.ModuleList(nn.Conv2d(c, c_skip, kernel_size=1) for c, c_skip in zip(channels, skip_channels))
        for layer in self.to_skip:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, prompt: Tensor) -> list[Tensor]:
        additions = []
        x = prompt
        for stage, to_skip in zip(self.stages, self.to_skip):
            x = stage(x)
            additions.append(to_skip(x))
        return additions
