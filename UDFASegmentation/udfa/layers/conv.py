"""Convolution blocks shared by the adapter and the decoder."""

from __future__ import annotations

from torch import Tensor, nn

GROUP_SIZE = 8
"""Channels per group of the group normalisation, which keeps the cases of a batch independent of each other."""


class ConvNormAct(nn.Sequential):
    """3x3 convolution, group normalisation, ReLU. (B, C, H, W) -> (B, C', H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(max(1, out_channels // GROUP_SIZE), out_channels),
            nn.ReLU(inplace=True),
        )


class ResidualConv(nn.Module):
    """Two 3x3 convolutions around a skip connection. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm = nn.GroupNorm(max(1, channels // GROUP_SIZE), channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.norm(self.second(self.first(x))))
