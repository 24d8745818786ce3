"""Convolution blocks shared by the adapter, the decoder and the prompt encoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from udfa.config import Norm

GROUP_SIZE = 8
"""Channels per group of the group normalisation."""


class InstanceNorm(nn.GroupNorm):
    """Normalise each channel of each case by its own mean and spread, then scale and shift. Keeps the shape.

    It is group normalisation with one channel per group, by PyTorch's quicker routine for that case. PyTorch refuses
    maps of a single pixel, where only the shift is left.

    Args:
        channels: C of the maps (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] * x.shape[-1] == 1:
            return (x - x) * self.weight[:, None, None] + self.bias[:, None, None]
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Return the normalisation that NetworkConfig.norm names."""
    return InstanceNorm(channels) if norm == "instance" else nn.GroupNorm(max(1, channels // GROUP_SIZE), channels)


class ConvNormAct(nn.Sequential):
    """3x3 convolution, normalisation, ReLU. (B, C, H, W) -> (B, C', H/stride, W/stride).

    Both normalisations keep the cases of a batch independent of each other.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, norm: Norm = "instance") -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            make_norm(norm, out_channels),
            nn.ReLU(inplace=True),
        )
