"""What both ways to draw the overview share: the panels, what they show, and their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfa.geometry import Volume
from udfa.labels import Label
from udfa.statistics import LabelStatistics

SLICE_SIZE, SPACE_SIZE = (620, 520), (620, 400)
"""(width, height) of the slices above and of the 3D views below, in pixels."""

WINDOW_HU = (-160.0, 240.0)
"""HU shown as black and as white: the usual abdominal window."""

SLICE_WIDTH_MM = 370.0


@dataclass(frozen=True)
class Panel:
    """One picture of the overview."""

    picture: NDArray[np.uint8]
    """(H, W, 3)."""
    caption: str
    sides: tuple[str, str] = ("R", "L")
    """What lies on the left and on the right of the picture."""


@dataclass(frozen=True)
class Overview:
    """What the picture shows.

    Attributes:
        volume: Volume node.
        segmentation: Segmentation node with closed surfaces.
        labelmap: (D, H, W) on the volume's grid.
        image: The volume as arrays.
        labels: Label value to label.
        statistics: One row per label.
        title: First line of the legend.
        subtitle: Second line.
    """

    volume: Any
    segmentation: Any
    labelmap: NDArray[np.uint8]
    image: Volume
    labels: dict[int, Label]
    statistics: Sequence[LabelStatistics]
    title: str
    subtitle: str


def richest(labels: NDArray[np.uint8]) -> int:
    """Index of the slice along axis 0 with the most labels; of several, the one with most labelled voxels."""
    scores = [(len(np.unique(plane)), int(np.count_nonzero(plane))) for plane in labels]
    return max(range(len(scores)), key=scores.__getitem__)
