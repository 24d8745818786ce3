"""Augmentation of training slices with MONAI's transforms, seeded per sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udfa.errors import InvalidInputError
from udfa_training.bounds import check_at_least, check_shares


@dataclass(frozen=True)
class AugmentConfig:
    """Strength of the augmentation."""

    rotation_degrees: float = 15.0
    """Rotation in plane, plus or minus."""
    scale: float = 0.25
    """Zoom in plane: 1 plus or minus this share, per axis."""
    shift_share: float = 0.3
    """How far, as a share of S, the crop may lie from its centre of interest."""
    flip_probability: float = 0.0
    """Chance of a turn by 0 to 3 quarters; each in-plane flip has half of it. For images of unknown orientation."""
    intensity_probability: float = 0.2
    """Chance of each intensity change: noise, blur, low resolution, gamma, contrast, brightness."""

    def __post_init__(self) -> None:
        if not 0 <= self.scale < 1:
            raise InvalidInputError(f"scale is {self.scale}, but must be at least 0 and below 1.")
        check_at_least(0, self, ("rotation_degrees", "shift_share"))
        check_shares(self, ("flip_probability", "intensity_probability"))


class Augmentation:
    """Random crop, affine map and intensity changes. (3, H, W), (1, H, W) -> (3, S, S), (1, S, S).

    Args:
        size: S, side of the square that training sees.
        config: Strengths.
    """

    def __init__(self, size: int, config: AugmentConfig) -> None:
        # MONAI takes seconds to import; settings alone do not need it.
        from monai.transforms import (
            Compose,
            RandAdjustContrast,
            RandAffine,
            RandGaussianNoise,
            RandGaussianSmooth,
            RandScaleIntensity,
            RandShiftIntensity,
            RandSimulateLowResolution,
        )

        self.size = size
        self.config = config
        self.reach = round(size * (1 + config.scale) * _turned_side(config.rotation_degrees))
        low, high = -config.scale, config.scale
        self.affine = RandAffine(
            prob=1.0,
            rotate_range=float(np.deg2rad(config.rotation_degrees)),
            scale_range=((low, high), (low, high)),
            spatial_size=(size, size),
            padding_mode="border",
        )
        p = config.intensity_probability
        self.intensity = Compose(
            [
                RandGaussianNoise(prob=p, std=0.15, sample_std=True),
                RandGaussianSmooth(prob=p, sigma_x=(0.4, 1.2), sigma_y=(0.4, 1.2)),
                # Plain "nearest" would shift the image by half a pixel and more against its labels.
                RandSimulateLowResolution(
                    prob=p, zoom_range=(0.5, 1.0), downsample_mode="nearest-exact", upsample_mode="bilinear"
                ),
                RandAdjustContrast(prob=p, gamma=(0.7, 1.5)),
                RandScaleIntensity(prob=p, factors=0.25),
                RandShiftIntensity(prob=p, offsets=0.3, safe=False),
            ]
        )

    def __call__(
        self, image: Tensor, label: Tensor, centre: tuple[float, float], random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw one augmented sample.

        Args:
            image: (3, H, W) float32.
            label: (1, H, W) float32 label values.
            centre: Row and column around which to crop.
            random: Source of all randomness of this sample.

        Returns:
            Image (3, S, S) float32 and label (1, S, S) int64.
        """
        shift = self.config.shift_share * self.size
        row, column = (c + float(random.uniform(-shift, shift)) for c in centre)
        image, label = (_crop(x, row, column, self.reach, self.size) for x in (image, label))
        seed = int(random.integers(2**31))
        image = _plain(self.affine.set_random_state(seed)(image, mode="bilinear"))
        label = _plain(self.affine.set_random_state(seed)(label, mode="nearest"))
        if self.config.flip_probability:
            turns = int(random.integers(4)) if random.random() < self.config.flip_probability else 0
            flips = [axis for axis in (1, 2) if random.random() < self.config.flip_probability / 2]
            image, label = (torch.flip(torch.rot90(x, turns, (1, 2)), flips) for x in (image, label))
        self.intensity.set_random_state(seed)
        return _plain(self.intensity(image)).contiguous(), label.to(torch.int64).contiguous()


def _turned_side(degrees: float) -> float:
    """Side of the upright square that holds a unit square turned by up to so many degrees; at least 1.25."""
    angle = math.radians(min(degrees, 45.0))
    return max(1.25, math.cos(angle) + math.sin(angle))


def _crop(x: Tensor, row: float, column: float, size: int, seen: int) -> Tensor:
    """Cut (C, size, size) around a point, beyond the slice with its outermost pixels.

    It is moved so that the middle square of side `seen`, which is what remains, lies within the slice, or shows all of
    one that is smaller: a crop around a label at the edge of the slice has to show it.
    """
    for axis, centre in ((1, row), (2, column)):
        length = x.shape[axis]
        within = min(max(centre, seen / 2), length - seen / 2) if length > seen else length / 2
        places = torch.arange(size) + round(within - size / 2)
        x = x.index_select(axis, places.clamp(0, length - 1))
    return x


def _plain(x: Tensor) -> Tensor:
    """A plain tensor from MONAI's MetaTensor."""
    return x.as_subclass(torch.Tensor)
