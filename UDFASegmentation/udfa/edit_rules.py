"""The rules by which the network's answer to a click may change a slice of a labelmap. Pure numpy, one slice at a time.

Only the clicked label takes or gives voxels, only near the click or connected with it, and never at the cost of what
is fixed: locked labels, voxels outside the editor's mask, voxels painted by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfa.masks import (
    Mask,
    Point,
    SpacingMm,
    depth_mm,
    distance_mm,
    opened,
    part_with,
    parts,
    pixels,
    seeds_at,
    touching,
)

Region = tuple[slice, slice]
"""Rows and columns of a slice."""

Answer = NDArray[np.float32]
"""(K, H, W) class probabilities, the network's answer to clicks."""

FALLBACK_RADIUS_MM = 6.0
"""Radius around a click within which image edges decide when the network disagrees with the click."""

FALLBACK_TOLERANCE = 0.3
"""Largest difference in normalised intensity (27 HU for abdominal CT) that still counts as the same tissue."""

NEAR_MM = 10.0
"""Nearer to a click than this, the finest differences count; farther away, thin ones do not."""

MIDDLE_DEPTH = 0.8
"""A click at least so deep in a part, compared with its deepest place, lies in its middle."""

MIDDLE_SHARE = 0.3
"""Share of a part that the disc around its middle must fill: it is one blob, not a wall, a ring, or several things."""

MIDDLE_GIVEN_UP = 0.2
"""Share of the part that must be given up anyway: who clicks on a vessel inside the liver means the vessel."""

SPECK_MM2 = 30.0
"""A removed part smaller than this goes to a neighbour only where it touches that neighbour."""

SPECK_SHARE = 0.2
"""So does a part that is a smaller share than this of all that is removed; a larger one may be an organ of its own."""


@dataclass(frozen=True)
class Piece:
    """A part of a slice, as it stands.

    Attributes:
        labels: (H, W) labels, uint8.
        intensity: (H, W) normalised, slightly smoothed intensities.
        fixed: (H, W) pixels that must stay as they are.
        givable: (K,) classes that may receive pixels; locked ones may not. Background, class 0, always may.
        spacing_mm: Pixel size.
        detail_mm: Finest detail that the network can tell: the size of its own pixels.
    """

    labels: NDArray[np.uint8]
    intensity: NDArray[np.float32]
    fixed: Mask
    givable: NDArray[np.bool_]
    spacing_mm: SpacingMm
    detail_mm: float


@dataclass(frozen=True)
class Aim:
    """What a click wants.

    Attributes:
        value: Label value.
        positive: Add to the label, or remove from it.
        reach_mm: Largest distance of a change from a click.
    """

    value: int
    positive: bool
    reach_mm: float


def changeable(piece: Piece, aim: Aim) -> Mask:
    """Pixels that a click may change: not fixed, and not already as the click wants."""
    has = piece.labels == aim.value
    return np.asarray((~has if aim.positive else has) & ~piece.fixed)


def agreed_change(piece: Piece, answer: Answer, aim: Aim) -> Mask:
    """Pixels that may change and where the network agrees with a change in the clicked direction."""
    winner = answer.argmax(axis=0)
    agrees = winner == aim.value if aim.positive else winner != aim.value
    return changeable(piece, aim) & agrees


def change_for_clicks(piece: Piece, answer: Answer, points: Sequence[Point], aim: Aim) -> tuple[Mask, bool]:
    """Return the pixels that clicks change on their slice.

    The connected parts of the agreed change that touch a click. Far from the click, differences that are thinner than
    the network's own pixels are left alone: they are two outlines that disagree, not the error that was clicked.
    Where the network does not follow a click, the region of like intensity around it. A clicked pixel that may change
    always changes.

    Args:
        piece: The slice as it stands.
        answer: The network's answer to the clicks.
        points: Clicked pixels (row, column).
        aim: What the clicks want.

    Returns:
        The pixels, and whether the network followed at least one of the clicks.
    """
    allowed = changeable(piece, aim)
    wanted = [point for point in points if allowed[point]]
    if not wanted:
        return np.zeros_like(allowed), False
    change = connected_change(piece, agreed_change(piece, answer, aim), wanted, aim)
    followed = bool(any(change[point] for point in wanted))
    for point in wanted:
        if not change[point]:
            change |= like_tissue(piece, point, allowed)
    return change, followed


def connected_change(piece: Piece, agreed: Mask, points: Sequence[Point], aim: Aim) -> Mask:
    """Return the parts of an agreed change that touch a click; far from it, without what is thin."""
    distance = distance_mm(piece.labels.shape, points, piece.spacing_mm)
    agreed = agreed & (distance <= aim.reach_mm)
    solid = (agreed & (distance <= NEAR_MM)) | (opened(agreed, thin_radius(piece)) & agreed)
    return touching(solid, seeds_at(agreed.shape, points, ring=True))


def whole_part(piece: Piece, change: Mask, point: Point, said: Mask, aim: Aim) -> Mask:
    """Return all of the label's part on the slice around a negative click, if the click seems to mean all of it.

    A reader clicks in the middle of what is wrong. If that is the middle of a whole part, of which a good deal is given
    up already, then the part is what is wrong. Of 73 clicks by a simulated reader for which this held and something was
    left (ACDC and BTCV validation patients), none was meant for less than most of what was left.

    Args:
        piece: The slice as it stands.
        change: What the click changes so far.
        point: The clicked pixel.
        said: Pixels of which earlier clicks have said whether they belong to the label.
        aim: What the click wants: less of a label.

    Returns:
        The pixels of the part that may change; empty if the click means less than all of it.
    """
    nothing = np.zeros_like(change)
    part = touching(piece.labels == aim.value, seeds_at(change.shape, [point]))
    if not part.any() or part[said].any() or (part & change).sum() < MIDDLE_GIVEN_UP * part.sum():
        return nothing
    depth = depth_mm(part, piece.spacing_mm)
    disc = math.pi * depth[point] ** 2 / (piece.spacing_mm[0] * piece.spacing_mm[1])
    if depth[point] < MIDDLE_DEPTH * depth.max() or disc < MIDDLE_SHARE * part.sum():
        return nothing
    whole = touching(part & ~piece.fixed, seeds_at(change.shape, [point]))
    return whole & (distance_mm(change.shape, [point], piece.spacing_mm) <= aim.reach_mm)


def thin_radius(piece: Piece) -> tuple[int, int]:
    """Radius in pixels of what must fit into a difference for it to be more than two outlines that disagree."""
    rows, columns = (pixels(piece.detail_mm / 2, spacing) for spacing in piece.spacing_mm)
    return rows, columns


def like_tissue(piece: Piece, point: Point, allowed: Mask) -> Mask:
    """Return the region around a click that looks like the clicked place: the smallest sensible correction.

    Connected with the click, within FALLBACK_RADIUS_MM, of like intensity, of the same label as the clicked pixel,
    and allowed to change. Contains the clicked pixel, which must be allowed to change.
    """
    near = distance_mm(piece.labels.shape, [point], piece.spacing_mm) <= FALLBACK_RADIUS_MM
    like = np.abs(piece.intensity - piece.intensity[point]) <= FALLBACK_TOLERANCE
    same = piece.labels == piece.labels[point]
    return part_with(near & like & same & allowed, point)


def apply_change(piece: Piece, answer: Answer, change: Mask, aim: Aim) -> NDArray[np.uint8]:
    """Return the new labels. Pixels that the label gives up go to the likeliest class that may receive them.

    A small part that would go to a neighbour it does not touch becomes background: no specks of a distant organ.
    """
    labels = piece.labels.copy()
    if aim.positive:
        labels[change] = aim.value
        return labels
    others = answer[:, change].copy()
    others[~piece.givable] = -1.0
    others[aim.value] = -1.0
    labels[change] = others.argmax(axis=0).astype(np.uint8)
    for value in np.unique(labels[change]):
        if value != 0:
            given = change & (labels == value)
            labels[given & ~_joins_its_label(piece, given, int(value), change)] = 0
    return labels


def _joins_its_label(piece: Piece, given: Mask, value: int, change: Mask) -> Mask:
    """The parts of `given`, which is part of a change, that are large or touch pixels that have the label already."""
    speck = SPECK_MM2 / (piece.spacing_mm[0] * piece.spacing_mm[1])
    smallest = max(speck, SPECK_SHARE * np.count_nonzero(change))
    numbered = parts(given)
    sizes = np.bincount(numbered.ravel())
    large = np.flatnonzero(sizes >= smallest)
    joined = touching(given | (piece.labels == value), piece.labels == value)
    return given & (joined | np.isin(numbered, large[large > 0]))
