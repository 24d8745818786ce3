"""Prompt tensors: clicks and labelmaps on the network's pixel grid. Used by correction and by training alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

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
    """Return signed click maps, later clicks over earlier ones. -> (K, h, w) float32.

    Clicks off the grid leave no trace, except for the part of their disc that reaches into it.
    """
    maps = torch.zeros((num_classes, *shape))
    for click in clicks:
        first_row, last_row = _reach(click.row, shape[0])
        first_column, last_column = _reach(click.column, shape[1])
        rows = torch.arange(first_row, last_row, dtype=torch.float32)[:, None]
        columns = torch.arange(first_column, last_column, dtype=torch.float32)[None, :]
        disc = (rows - click.row) ** 2 + (columns - click.column) ** 2 <= CLICK_RADIUS**2
        patch = maps[:, first_row:last_row, first_column:last_column]
        if click.positive:
            # "This is liver" also takes back an earlier "this is spleen" at the same place.
            patch[:, disc] = patch[:, disc].clamp(max=0)
            patch[click.value][disc] = 1.0
        else:
            patch[click.value][disc] = -1.0
    return maps


def _reach(centre: float, length: int) -> tuple[int, int]:
    """First and one past the last pixel that a disc around `centre` can touch, within 0..length."""
    first = min(max(0, int(centre - CLICK_RADIUS)), length)
    return first, min(max(first, int(centre + CLICK_RADIUS) + 2), length)


def one_hot_labels(plane: Tensor, num_classes: int) -> Tensor:
    """(h, w) integer labels -> (K, h, w) float32; values that the model does not know count as background."""
    known = torch.where(plane < num_classes, plane, torch.zeros_like(plane))
    classes = torch.arange(num_classes, dtype=plane.dtype)[:, None, None]
    return (known[None] == classes).to(torch.float32)


def resize_labels(plane: Tensor, shape: tuple[int, int]) -> Tensor:
    """Nearest-neighbour resampling of labels or masks. (H, W) -> (h, w)."""
    if tuple(plane.shape) == shape:
        return plane
    rows, columns = (((torch.arange(n) + 0.5) * (size / n)).long() for n, size in zip(shape, plane.shape))
    return plane[rows[:, None], columns[None, :]]


def prompt_tensor(maps: Tensor, labels: Tensor, neighbour: Optional[Tensor], shape: tuple[int, int]) -> Tensor:
    """Join click maps and one-hot labels and pad them to the size of the features.

    Args:
        maps: (K, h, w) click maps.
        labels: (K, h, w) one-hot labels of the slice.
        neighbour: (K, h, w) one-hot labels of a corrected neighbouring slice; None without one.
        shape: (H, W) to pad to.

    Returns:
        (1, 3K, H, W) float32.
    """
    height, width = maps.shape[-2:]
    joined = torch.cat([maps, labels, torch.zeros_like(labels) if neighbour is None else neighbour])
    return F.pad(joined, (0, shape[1] - width, 0, shape[0] - height))[None]
