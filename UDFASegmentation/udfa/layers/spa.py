"""Spatial Pattern Adapter (SPA): the convolutional branch that sees fine local structure.

"A CNN module" that yields spatial features is all that the abstract of arXiv 2510.00585 says; the pyramid below is
our choice. Its strides 8, 16 and 32 are those of ViT-Adapter's spatial prior module (arXiv 2205.08534); strides 2
and 4 serve the decoder's skips.
"""

from __future__ import annotations

from torch import Tensor, nn

from udfa.config import Norm
from udfa.layers.conv import ConvNormAct


class SpatialPatternAdapter(nn.Module):
    """Convolutional pyramid. (B, 3, H, W) -> five maps (B, C_i, H/s, W/s) for s = 2, 4, 8, 16, 32.

    Args:
        in_channels: Channels of the image, 3 for 2.5D input.
        channels: C_i of the five maps, finest first.
        norm: Normalisation after the convolutions.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], norm: Norm = "instance") -> None:
        super().__init__()
        previous = (in_channels, *channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNormAct(c_in, c_out, stride=2, norm=norm), ConvNormAct(c_out, c_out, norm=norm))
            for c_in, c_out in zip(previous, channels)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = []
        x = image
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
