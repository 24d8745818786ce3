"""Simulated users: where does somebody click next to correct a label?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from udfa.postprocessing import label_box

Position = tuple[int, int, int]
"""Voxel (D, H, W)."""


@dataclass(frozen=True)
class RobotClick:
    """A click and whether it tells the truth about its voxel."""

    position: Position
    positive: bool
    truthful: bool


@dataclass(frozen=True)
class Robot:
    """How a simulated user clicks.

    Attributes:
        name: Name in tables.
        jitter_mm: Standard deviation, within the slice, of the distance from the ideal place; the click stays within
            the error.
        wrong_share: Share of clicks with the wrong sign.
    """

    name: str
    jitter_mm: float = 0.0
    wrong_share: float = 0.0


ROBOTS = (Robot("centre"), Robot("jittered", jitter_mm=4.0), Robot("wrong10", jitter_mm=4.0, wrong_share=0.1))
"""Largest-error centre, the same with jitter, and with jitter and every tenth click wrong."""


def next_click(
    current: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    robot: Robot,
    random: np.random.Generator,
    slice_axis: int = 0,
) -> Optional[RobotClick]:
    """Return a click into the largest connected error in 3D, at its place of greatest depth; None without an error.

    The depth is measured within slices, for that is where a reader sees the middle of an error. Across them it would be
    a matter of how thick the slices are: of an error on one slice every pixel would be equally deep. Of several places
    of the same depth the one in their middle is taken.

    Args:
        current: (D, H, W) mask of the label as it stands.
        reference: (D, H, W) mask as it should be.
        spacing_mm: Voxel size.
        robot: How it clicks.
        random: Source of randomness.
        slice_axis: Axis across which the slices are stacked; depth and jitter stay within a slice.
    """
    wrong = current != reference
    box = label_box(wrong.view(np.uint8), 1)
    if box is None:
        return None
    numbered, count = ndimage.label(wrong[box])
    sizes = np.bincount(numbered.ravel())
    error = numbered == 1 + int(np.argmax(sizes[1:])) if count > 1 else wrong[box]
    slices = np.moveaxis(error, slice_axis, 0)
    pixel_mm = np.delete(spacing_mm, slice_axis)
    deep = [ndimage.distance_transform_edt(np.pad(one, 1), sampling=pixel_mm)[1:-1, 1:-1] for one in slices]
    depth = np.moveaxis(np.stack(deep), 0, slice_axis)
    deepest = np.argwhere(depth == depth.max())
    place = deepest[((deepest - deepest.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    place = _jittered(place, error, spacing_mm, robot, random, slice_axis)
    d, h, w = (int(p) + piece.start for p, piece in zip(place, box))
    truth = bool(reference[d, h, w])
    lie = bool(random.random() < robot.wrong_share)
    return RobotClick((d, h, w), truth != lie, not lie)


def _jittered(
    place: NDArray[np.integer],
    error: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    robot: Robot,
    random: np.random.Generator,
    slice_axis: int,
) -> NDArray[np.integer]:
    if robot.jitter_mm == 0:
        return place
    for _ in range(10):
        shift = random.normal(0, robot.jitter_mm, 3) / spacing_mm
        shift[slice_axis] = 0
        moved = np.rint(place + shift).astype(int)
        if all(0 <= p < n for p, n in zip(moved, error.shape)) and error[tuple(moved)]:
            return moved
    return place
