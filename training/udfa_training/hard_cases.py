"""Mistakes to learn from: on its own training cases a network hardly makes any that a reader would correct.

Corrupted features make the network wrong in places, with the fine maps still showing the true edges. Renamed structures
make it wrong about whole structures: only the click can tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from udfa.networks.udfa import EncoderFeatures

CORRUPT_SHARE = 0.7
"""Share of the samples whose features are corrupted."""

PATCH_RADIUS = (12.0, 40.0)
"""Radii of corrupted ellipses, in pixels."""

KEPT_MAPS = 2
"""The finest maps, strides 2 and 4, which stay as they are: they hold the edges."""

RENAME_SHARE = 0.25
"""Share of the samples in which a structure gets another name."""

RENAME_BACKGROUND_SHARE = 0.4
"""Share of the renamed structures that become background."""

SMALLEST_RENAMED = 30
"""Fewest pixels of a structure to be renamed."""


def corrupted(features: EncoderFeatures, random: np.random.Generator) -> EncoderFeatures:
    """Return features that, within random ellipses, come from elsewhere: from another place or another sample.

    Args:
        features: Of a batch (B, ...).
        random: Source of randomness.
    """
    batch, _, height, width = features.image.shape
    masks = np.zeros((batch, height, width), dtype=bool)
    for plane in masks:
        if random.random() < CORRUPT_SHARE:
            for _ in range(int(random.integers(1, 4))):
                plane |= _ellipse((height, width), random)
    mask = torch.from_numpy(masks)[:, None].to(features.image.device)
    partner = int(random.integers(batch))
    shift = random.uniform(-0.4, 0.4, size=2)

    def mixed(source: Tensor) -> Tensor:
        # Of strided pixels the one at the centre of each block decides.
        size = (int(source.shape[-2]), int(source.shape[-1]))
        inside = F.interpolate(mask.float(), size=size, mode="nearest-exact") > 0.5
        offset = [int(share * n) for share, n in zip(shift, size)]
        other = source.roll(shifts=(partner, *offset), dims=(0, 2, 3))
        return torch.where(inside, other, source)

    maps = [*features.maps[:KEPT_MAPS], *(mixed(source) for source in features.maps[KEPT_MAPS:])]
    return EncoderFeatures(features.image, maps, mixed(features.tokens))


def _ellipse(shape: tuple[int, int], random: np.random.Generator) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    centre = random.uniform(0, shape)
    radii = random.uniform(*PATCH_RADIUS, size=2)
    return np.asarray(((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1)


@dataclass(frozen=True)
class Renamed:
    """A reference in which a structure may have another name.

    Attributes:
        labels: (H, W) labels to learn.
        region: (H, W) pixels of the renamed structure; empty when there is none.
        value: Its value before; 0 when there is none.
        name: Its value now.
    """

    labels: NDArray[np.integer]
    region: NDArray[np.bool_]
    value: int = 0
    name: int = 0

    def likewise(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return the labels of another slice with the structure renamed there, too."""
        return np.where(labels == self.value, self.name, labels) if self.value else labels


def renamed(reference: NDArray[np.integer], num_classes: int, random: np.random.Generator) -> Renamed:
    """Return the reference, with a random structure renamed in RENAME_SHARE of all cases.

    Args:
        reference: (H, W) labels.
        num_classes: Classes, background included.
        random: Source of randomness.
    """
    nothing = Renamed(reference, np.zeros(reference.shape, dtype=bool))
    if random.random() >= RENAME_SHARE:
        return nothing
    counts = np.bincount(reference.ravel(), minlength=num_classes)
    large = [value for value in range(1, num_classes) if counts[value] >= SMALLEST_RENAMED]
    if not large:
        return nothing
    value = int(random.choice(large))
    names = [name for name in range(1, num_classes) if name != value]
    name = 0 if random.random() < RENAME_BACKGROUND_SHARE or not names else int(random.choice(names))
    region = np.asarray(reference == value)
    return Renamed(np.where(region, name, reference), region, value, name)
