"""Prompt tensors: clicks and labelmaps on the network's pixel grid. Used by correction and by training alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CLICK_RADIUS = 2.5
"""Radius of a click's disc in network pixels."""


@dataclass(frozen=True)
class PlaneClick:
    """A click on a slice in network pixels.

    Attributes:
        row: Row, 0 at the centre of the first pixel.
        column: Column, likewise.
        value: Label value.
        positive: Belongs to the label, or does not.
    """

    row: float
    column: float
    value: int
    positive: bool


def click_maps(clicks: Iterable[PlaneClick], num_classes: int, shape: tuple[int, int]) -> Tensor:
    """Return signed click maps, later clicks over earlier ones. -> (K, h, w) float32."""
    maps = torch.zeros((num_classes, *shape))
    rows = torch.arange(shape[0], dtype=torch.float32)[:, None]
    columns = torch.arange(shape[1], dtype=torch.float32)[None, :]
    for click in clicks:
        disc = (rows - click.row) ** 2 + (columns - click.column) ** 2 <= CLICK_RADIUS**2
        if click.positive:
            # "This is liver" also takes back an earlier "this is spleen" at the same place.
            maps[:, disc] = maps[:, disc].clamp(max=0)
            maps[click.value][disc] = 1.0
        else:
            maps[click.value][disc] = -1.0
    return maps


def region_maps(region: Tensor, value: int, num_classes: int) -> Tensor:
    """Return maps in which a whole region says "this class". (h, w) bool -> (K, h, w) float32."""
    maps = torch.zeros((num_classes, *region.shape))
    maps[value][region] = 1.0
    return maps


def one_hot_labels(plane: Tensor, num_classes: int) -> Tensor:
    """(h, w) integer labels -> (K, h, w) float32."""
    return F.one_hot(plane.to(torch.int64), num_classes).movedim(-1, 0).to(torch.float32)


def resize_labels(plane: Tensor, shape: tuple[int, int]) -> Tensor:
    """Nearest-neighbour resampling of labels or masks. (H, W) -> (h, w)."""
    if tuple(plane.shape) == shape:
        return plane
    resized = F.interpolate(plane[None, None].to(torch.float32), size=shape, mode="nearest-exact")
    return resized[0, 0].to(plane.dtype)


def prompt_tensor(maps: Sequence[Tensor], labels: Tensor, side: int) -> Tensor:
    """Join click maps and one-hot labels and pad them to the tile.

    Args:
        maps: Click and region maps (K, h, w); they are added and limited to [-1, 1].
        labels: (K, h, w) one-hot current labelmap.
        side: Side S of the square tile.

    Returns:
        (1, 2K, S, S) float32.
    """
    total = torch.stack(list(maps)).sum(dim=0).clamp(-1, 1)
    height, width = total.shape[-2:]
    pad = (0, side - width, 0, side - height)
    return torch.cat([F.pad(total, pad), F.pad(labels, pad)])[None]
