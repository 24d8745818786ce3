"""Prompt tensors: clicks and labelmaps on the network's pixel grid. Used by correction and by training alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
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


@dataclass(frozen=True)
class PromptPart:
    """What a prompt shows of a part of a slice.

    Attributes:
        clicks: Clicks in network pixels of the part.
        labels: (h, w) labels as they stand, on the network's grid.
        neighbour: (h, w) labels of a corrected neighbouring slice; None without one.
    """

    clicks: Sequence[PlaneClick]
    labels: NDArray[np.uint8]
    neighbour: Optional[NDArray[np.uint8]]


@dataclass(frozen=True)
class SparsePrompt:
    """A prompt without the channels that are 0 everywhere, which are most: quicker to make and to convolve.

    Attributes:
        values: (B, C, H, W) float32, channels last in memory.
        channels: Which of the 3K channels these are, in ascending order.
    """

    values: Tensor
    channels: tuple[int, ...]


def sparse_prompt(parts: Sequence[PromptPart], num_classes: int, shape: tuple[int, int]) -> SparsePrompt:
    """Return the prompt of parts of slices, padded to `shape` (H, W); otherwise what `prompt_tensor` returns."""
    clicked = sorted({click.value for part in parts for click in part.clicks})
    planes = [[part.labels, part.neighbour] for part in parts]
    shown = [sorted(set().union(*(_values(each[i], num_classes) for each in planes))) for i in (0, 1)]
    channels = (*clicked, *(num_classes + v for v in shown[0]), *(2 * num_classes + v for v in shown[1]))
    values = np.zeros((len(parts), *shape, len(channels)), dtype=np.float32)
    for place, part, each in zip(values, parts, planes):
        height, width = part.labels.shape
        clicks = [replace(click, value=clicked.index(click.value)) for click in part.clicks]
        maps = click_maps(clicks, len(clicked), (height, width))
        place[:height, :width, : len(clicked)] = maps.permute(1, 2, 0).numpy()
        at = len(clicked)
        for plane, listed in zip(each, shown):
            for value in listed:
                if plane is not None:
                    place[:height, :width, at] = _is_value(plane, value, num_classes)
                at += 1
    return SparsePrompt(torch.from_numpy(values).permute(0, 3, 1, 2), channels)


def _values(plane: Optional[NDArray[np.uint8]], num_classes: int) -> set[int]:
    """Classes that occur in labels; values that the model does not know count as background."""
    if plane is None:
        return set()
    found = np.flatnonzero(np.bincount(plane.ravel()))
    return {int(value) if value < num_classes else 0 for value in found}


def _is_value(plane: NDArray[np.uint8], value: int, num_classes: int) -> NDArray[np.bool_]:
    return plane == value if value else (plane == 0) | (plane >= num_classes)
