"""The rules by which a proposal of the network may change a slice of a labelmap. Pure numpy, one slice at a time.

Only the clicked label takes or gives voxels, only near the click or connected with it, and never at the cost of a
locked label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

FALLBACK_RADIUS_MM = 6.0
"""Radius around a click within which image edges decide when the network disagrees with the click."""

FALLBACK_TOLERANCE = 0.3
"""Largest difference in normalised intensity (27 HU for abdominal CT) that still counts as the same tissue."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Slice:
    """What the rules know of one slice.

    Attributes:
        labels: (H, W) current labels, uint8.
        probabilities: (K, H, W) the network's answer to the clicks.
        intensity: (H, W) normalised intensities.
        locked: Label values that must neither lose nor gain voxels.
        spacing_mm: Pixel size (rows, columns).
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    intensity: NDArray[np.float32]
    locked: frozenset[int]
    spacing_mm: tuple[float, float]


def changeable(piece: Slice, value: int, positive: bool) -> Mask:
    """Pixels that a click about `value` may change: not of a locked label, and not already as the click wants."""
    if value in piece.locked:
        return np.zeros(piece.labels.shape, dtype=bool)
    if not positive:
        return np.asarray(piece.labels == value)
    return np.asarray((piece.labels != value) & ~np.isin(piece.labels, sorted(piece.locked)))


def proposed_change(piece: Slice, value: int, positive: bool) -> Mask:
    """Pixels where the network, given the clicks, agrees with a change in the clicked direction."""
    winner = piece.probabilities.argmax(axis=0)
    agrees = winner == value if positive else winner != value
    return changeable(piece, value, positive) & agrees


def change_for_clicks(
    piece: Slice, points: Sequence[tuple[int, int]], value: int, positive: bool, reach_mm: float
) -> Mask:
    """Return the pixels that change on the clicked slice.

    The connected parts of the proposed change that touch a click, within `reach_mm` of it. Where the network does not
    follow a click, the region of like intensity around it. A clicked pixel that may change always changes.

    Args:
        piece: The slice.
        points: Clicked pixels (row, column).
        value: Label value.
        positive: Add to the label, or remove from it.
        reach_mm: Largest distance from a click.
    """
    allowed = changeable(piece, value, positive)
    wanted = [point for point in points if allowed[point]]
    if not wanted:
        return np.zeros_like(allowed)
    near = distance_mm(piece.labels.shape, wanted, piece.spacing_mm) <= reach_mm
    change = touching(proposed_change(piece, value, positive) & near, wanted)
    for point in wanted:
        if not change[point]:
            change |= like_tissue(piece, point, allowed)
    return change


def distance_mm(
    shape: tuple[int, ...], points: Sequence[tuple[int, int]], spacing_mm: tuple[float, float]
) -> NDArray[np.float64]:
    """Distance of each pixel from the nearest point, in mm. -> (H, W)."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    squared = np.full(shape, np.inf)
    for row, column in points:
        candidate = ((rows - row) * spacing_mm[0]) ** 2 + ((columns - column) * spacing_mm[1]) ** 2
        np.minimum(squared, candidate, out=squared)
    return np.sqrt(squared)


def touching(mask: Mask, points: Sequence[tuple[int, int]]) -> Mask:
    """Return the 8-connected parts of a mask that contain a point or one of its eight neighbours."""
    if not mask.any():
        return mask
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))
    wanted: set[int] = set()
    for row, column in points:
        around = parts[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        wanted.update(int(part) for part in np.unique(around) if part)
    return np.isin(parts, sorted(wanted))


def like_tissue(piece: Slice, point: tuple[int, int], allowed: Mask) -> Mask:
    """Return the region around a click that looks like the clicked place: the smallest sensible correction.

    Connected with the click, within FALLBACK_RADIUS_MM, of like (3x3 smoothed) intensity, and allowed to change.
    Always contains the clicked pixel.
    """
    smooth = box_mean(piece.intensity)
    near = distance_mm(piece.labels.shape, [point], piece.spacing_mm) <= FALLBACK_RADIUS_MM
    like = np.abs(smooth - smooth[point]) <= FALLBACK_TOLERANCE
    region = near & like & allowed
    region[point] = True
    image = sitk.GetImageFromArray(region.astype(np.uint8))
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, False))
    return np.asarray(parts == parts[point])


def box_mean(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """3x3 mean with repeated edges. (H, W) -> (H, W)."""
    padded = np.pad(plane, 1, mode="edge")
    height, width = plane.shape
    total = sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3))
    return np.asarray(total / 9, dtype=np.float32)


def apply_change(piece: Slice, change: Mask, value: int, positive: bool) -> NDArray[np.uint8]:
    """Return the new labels of a slice. Pixels that `value` gives up go to the likeliest other unlocked class."""
    labels = piece.labels.copy()
    if positive:
        labels[change] = value
        return labels
    others = piece.probabilities[:, change].copy()
    others[[value, *sorted(piece.locked - {0})]] = -1.0
    labels[change] = others.argmax(axis=0).astype(np.uint8)
    return labels
