"""How a correction carries from one slice to the next: while the image agrees, and never into another organ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from udfa.edit_rules import FALLBACK_RADIUS_MM, Aim, Answer, Piece, agreed_change, changeable, thin_radius
from udfa.masks import Mask, Point, SpacingMm, depth_mm, dilated, distance_mm, opened, touching

CARRY_MARGIN_MM = 10.0
"""How far a carried correction may grow beyond its outline on the slice before. With 4 mm, corrections of large
mistakes fell behind them (BTCV validation patients)."""

CARRY_TISSUE = 0.6
"""Share of the correction under which the image must look the same on the next slice."""

CARRY_AGREEMENT = 0.5
"""Share of that which the network must confirm."""

CARRY_TOLERANCE = 0.35
"""Largest change of normalised intensity from slice to slice for a pixel to count as the same tissue."""

CARRY_DEPTH = 3.0
"""How far a correction carries, in radii of the largest disc that fits into it: mistakes are about as deep as they are
wide. Farther away hardly any correction was confirmed (BTCV validation patients)."""


@dataclass(frozen=True)
class Carried:
    """A correction as it stands on the slice it comes from.

    Attributes:
        change: (H, W) pixels that changed there.
        piece: That slice before the change.
        partners: Labels that lost pixels to a positive click, or won them from a negative one, where the reader
            clicked. On other slices no other label may lose or win.
        followed: Whether the network followed the click. If not, the image alone decides.
    """

    change: Mask
    piece: Piece
    partners: frozenset[int]
    followed: bool


def slices_to_carry(change: Mask, spacing_mm: SpacingMm, slice_mm: float, limit: int) -> int:
    """Return to how many slices a correction may be carried in one direction.

    Args:
        change: (H, W) pixels that changed on the clicked slice.
        spacing_mm: Pixel size.
        slice_mm: Distance of the slices.
        limit: The user's limit.
    """
    radius_mm = float(depth_mm(change, spacing_mm).max())
    return min(limit, int(CARRY_DEPTH * radius_mm / slice_mm))


def hint(carried: Carried, piece: Piece, aim: Aim) -> Mask:
    """Return where the next slice needs the same correction and looks the same; empty where the carrying stops.

    Args:
        carried: The correction on the slice before.
        piece: The next slice, cut out at the same place.
        aim: What the click wants.
    """
    open_part = carried.change & _allowed(carried, piece, aim)
    same = open_part & (np.abs(piece.intensity - carried.piece.intensity) <= CARRY_TOLERANCE)
    if not same.any() or same.sum() < CARRY_TISSUE * open_part.sum():
        return np.zeros_like(same)
    return same


def carried_change(carried: Carried, piece: Piece, answer: Answer, wanted: Mask, aim: Aim) -> Mask:
    """Return the pixels that change on the next slice; empty where the network does not confirm the correction.

    Args:
        carried: The correction on the slice before.
        piece: The next slice.
        answer: The network's answer on it, asked with a click inside `wanted`.
        wanted: What `hint` returned.
        aim: What the click wants.
    """
    within = dilated(carried.change, CARRY_MARGIN_MM, piece.spacing_mm)
    agreed = agreed_change(piece, answer, aim) & _allowed(carried, piece, aim) & within
    # The outermost pixels of a tissue look like neither side, hence one pixel more.
    agreed &= dilated(wanted | _looks_like(piece, wanted), max(piece.spacing_mm), piece.spacing_mm)
    if (agreed & wanted).sum() < CARRY_AGREEMENT * wanted.sum():
        return np.zeros_like(agreed)
    solid = (agreed & wanted) | (opened(agreed, thin_radius(piece)) & agreed)
    return touching(solid, wanted)


def spread_change(carried: Carried, piece: Piece, wanted: Mask, same: Mask, known: bool, aim: Aim) -> Mask:
    """Return the pixels of the next slice that the shifted margin changes, connected with those of the slice before.

    Args:
        carried: The correction on the slice before.
        piece: The next slice.
        wanted: Pixels that should be as the click wants, by the shifted margin.
        same: What `hint` returned.
        known: The network had wanted the correction before the click. What is thinner than its own pixels is then an
            outline that disagrees with it, not the error that was clicked; and nothing fades with the distance, so
            that the image has to say where to stop.
        aim: What the click wants.
    """
    wanted = wanted & _allowed(carried, piece, aim)
    beside = dilated(carried.change, max(piece.spacing_mm), piece.spacing_mm)
    if not known:
        # A network that is unsure of a whole slice must not turn it over because of a border on the slice before.
        return touching(wanted & dilated(carried.change, CARRY_MARGIN_MM, piece.spacing_mm), beside)
    if same.any():
        wanted &= dilated(same | _looks_like(piece, same), max(piece.spacing_mm), piece.spacing_mm)
    change = touching((wanted & same) | (opened(wanted, thin_radius(piece)) & wanted), beside)
    return change if change.any() and _same_tissue(carried, piece, change) else np.zeros_like(change)


def _same_tissue(carried: Carried, piece: Piece, change: Mask) -> bool:
    """Whether a change looks, on the whole, like the change on the slice before."""
    before = carried.piece.intensity[carried.change]
    tolerance = max(CARRY_TOLERANCE, 2 * float(before.std()))
    return bool(abs(np.median(piece.intensity[change]) - np.median(before)) <= tolerance)


def fallback_change(wanted: Mask, points: Sequence[Point], offset_mm: float, piece: Piece) -> Mask:
    """Return the pixels that change on a slice `offset_mm` away when the network did not follow the clicks.

    The correction of the clicked slice is a disc cut out by image edges; together they make a ball.
    """
    if offset_mm >= FALLBACK_RADIUS_MM:
        return np.zeros_like(wanted)
    radius = (FALLBACK_RADIUS_MM**2 - offset_mm**2) ** 0.5
    height, width = wanted.shape
    inside = [(row, column) for row, column in points if 0 <= row < height and 0 <= column < width]
    return wanted & (distance_mm(wanted.shape, inside, piece.spacing_mm) <= radius)


def partners(before: Piece, after: NDArray[np.uint8], change: Mask, aim: Aim) -> frozenset[int]:
    """Return the labels that lost (positive click) or won (negative click) pixels."""
    touched = before.labels[change] if aim.positive else after[change]
    return frozenset(int(value) for value in np.unique(touched))


def limited_to(piece: Piece, allowed: frozenset[int]) -> Piece:
    """Return the piece with fewer classes that may receive pixels; background always may."""
    keep = np.zeros_like(piece.givable)
    keep[[0, *allowed]] = True
    return replace(piece, givable=piece.givable & keep)


def _allowed(carried: Carried, piece: Piece, aim: Aim) -> Mask:
    allowed = changeable(piece, aim)
    if aim.positive:
        allowed &= np.isin(piece.labels, sorted(carried.partners))
    return allowed


def _looks_like(piece: Piece, sample: Mask) -> Mask:
    """Pixels whose intensity is about that of the sample."""
    values = piece.intensity[sample]
    tolerance = max(CARRY_TOLERANCE, 2 * float(values.std()))
    return np.asarray(np.abs(piece.intensity - np.median(values)) <= tolerance)
