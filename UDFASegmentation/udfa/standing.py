"""What a click finds: the labels as they stand, what must not change, and what earlier clicks have said and done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from udfa.edit_rules import Aim, Region
from udfa.masks import Mask, Point, SpacingMm, distance_mm, seeds_at, touching
from udfa.prompts import PlaneClick

REPLACE_PIXELS = 3.0
"""A click so near to an earlier one, in pixels of the network, replaces it if they contradict each other."""


@dataclass(frozen=True)
class PlaneMask:
    """Pixels of a part of a slice."""

    region: Region
    mask: Mask

    def within(self, region: Region) -> Mask:
        """Cut out another part of the same slice. -> (h, w) of that region, False outside the own part."""
        result = np.zeros(tuple(part.stop - part.start for part in region), dtype=bool)
        common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.region, region)]
        if all(low < high for low, high in common):
            there, here = (
                tuple(slice(low - part.start, high - part.start) for (low, high), part in zip(common, parts))
                for parts in (region, self.region)
            )
            result[there] = self.mask[here]
        return result

    def contains(self, point: Point) -> bool:
        """Whether a pixel of the slice is one of these."""
        return is_inside(point, self.region) and bool(self.mask[in_region(point, self.region)])


@dataclass(frozen=True)
class SliceClick:
    """A click on a canonical slice.

    Attributes:
        z: Slice.
        row: Row in pixels of the volume.
        column: Column, likewise.
        value: Label value.
        positive: Belongs to the label, or does not.
        strength: By how much it shifted the margin of its label there, in logits; 0 if it had no effect.
        made: The pixels that it changed, by slice: its own, and those where the network confirmed it.
    """

    z: int
    row: int
    column: int
    value: int
    positive: bool
    strength: float = 0.0
    made: Mapping[int, PlaneMask] = field(default_factory=dict, compare=False, repr=False)

    def on_plane(self) -> PlaneClick:
        """Return the click without its slice."""
        return PlaneClick(self.row, self.column, self.value, self.positive)

    def contradicts(self, aim: Aim) -> bool:
        """Whether this click and a new one cannot both hold at the same place."""
        if self.value == aim.value:
            return self.positive != aim.positive
        return self.positive and aim.positive


@dataclass(frozen=True)
class Standing:
    """What a click finds. All arrays are in canonical orientation.

    Attributes:
        labels: (D, H, W) labels.
        locked: Values that must neither lose nor gain voxels.
        editable: (D, H, W) voxels that may change; None for all.
        painted: (D, H, W) voxels painted by hand; None for none.
        clicks: Earlier clicks.
        spacing_mm: Pixel size (rows, columns).
        detail_mm: Size of the network's pixel.
    """

    labels: NDArray[np.uint8]
    locked: frozenset[int]
    editable: Optional[NDArray[np.bool_]]
    painted: Optional[NDArray[np.bool_]]
    clicks: Sequence[SliceClick]
    spacing_mm: SpacingMm
    detail_mm: float

    def earlier(self, z: int) -> list[SliceClick]:
        """Earlier clicks on a slice that the labels still honour; of the others the reader has thought better."""
        return [click for click in self.clicks if click.z == z and self._holds(click)]

    def still_said(self, z: int, aim: Aim, points: Sequence[Point]) -> list[SliceClick]:
        """Those of the earlier clicks on a slice that new ones there, `points` in its pixels, do not replace."""
        return [c for c in self.earlier(z) if not (c.contradicts(aim) and self._near(c, points))]

    def taken_back(self, aim: Aim, points: Mapping[int, Sequence[Point]]) -> Standing:
        """Return what new clicks find: what they take back on one slice no longer holds on those it was carried to.

        Args:
            aim: What the new clicks want.
            points: Where they are, in pixels of the slice, by slice.
        """

        def is_met(click: SliceClick) -> bool:
            if not click.contradicts(aim):
                return False
            met = any(made.contains(point) for z, made in click.made.items() for point in points.get(z, ()))
            return met or self._near(click, points.get(click.z, ()))

        def at_home(click: SliceClick) -> SliceClick:
            return replace(click, made={z: made for z, made in click.made.items() if z == click.z})

        return replace(self, clicks=[at_home(click) if is_met(click) else click for click in self.clicks])

    def may_not_change(self, z: int, region: Region, aim: Aim, points: Sequence[Point]) -> Mask:
        """Pixels of a part of a slice that must stay whatever the network says: what others than the aim have decided.

        Those outside the mask; those painted by hand; those of earlier clicks on the slice that say otherwise than the
        new ones, unless these replace them, and those that such clicks made as they are, here or carried from another
        slice, for the reader has left them so. Who clicks on what was painted, or on what a click made, means just
        that. But what has been turned there and back already is shared out between the clicks: each pixel is the nearer
        one's.

        Args:
            z: Slice.
            region: Its part.
            aim: What the new clicks want.
            points: Where they are, in pixels of the slice.

        Returns:
            (h, w) of the region.
        """
        shape = tuple(part.stop - part.start for part in region)
        seeds = seeds_at(shape, [in_region(point, region) for point in points])
        fixed = np.zeros(shape, dtype=bool)
        if self.editable is not None:
            fixed |= ~self.editable[z][region]
        if self.painted is not None:
            painted = np.ascontiguousarray(self.painted[z][region])
            fixed |= painted & ~touching(painted, seeds)
        return fixed | self._held(z, region, aim, points, seeds)

    def _held(self, z: int, region: Region, aim: Aim, points: Sequence[Point], seeds: Mask) -> Mask:
        """What earlier clicks that contradict the aim have said and made of a part of a slice. -> (h, w)"""
        held, labels = np.zeros_like(seeds), self.labels[z][region]
        # The same for all earlier clicks, of which strokes bring hundreds: found out once, if it is needed.
        shared: Optional[tuple[Mask, NDArray[np.float64]]] = None
        for click in self.clicks:
            if not (click.z == z or z in click.made) or not click.contradicts(aim) or not self._holds(click):
                continue
            own, replaced = in_region((click.row, click.column), region), click.z == z and self._near(click, points)
            if click.z == z and not replaced and is_inside((click.row, click.column), region):
                held[own] = True
            if z in click.made:
                made = click.made[z].within(region) & ((labels == click.value) == click.positive)
                if replaced or (made & seeds).any():
                    if shared is None:
                        local = [in_region(point, region) for point in points]
                        shared = self._turned(z, region, aim), distance_mm(seeds.shape, local, self.spacing_mm)
                    turned, distance = shared
                    made &= turned & (distance_mm(seeds.shape, [own], self.spacing_mm) < distance)
                held |= made
        return held

    def _turned(self, z: int, region: Region, aim: Aim) -> Mask:
        """Pixels of a part of a slice that clicks with the same aim have already made as it wants."""
        turned = np.zeros(tuple(part.stop - part.start for part in region), dtype=bool)
        for click in self.clicks:
            if z in click.made and (click.value, click.positive) == (aim.value, aim.positive):
                turned |= click.made[z].within(region)
        return turned

    def _holds(self, click: SliceClick) -> bool:
        """Whether the labels still honour a click."""
        return (int(self.labels[click.z, click.row, click.column]) == click.value) == click.positive

    def _near(self, click: SliceClick, points: Sequence[Point]) -> bool:
        """Whether new clicks on its slice are so near that, where they contradict a click, they replace it."""
        rows_mm, columns_mm = self.spacing_mm
        squared = ((click.row - r) ** 2 * rows_mm**2 + (click.column - c) ** 2 * columns_mm**2 for r, c in points)
        return min(squared, default=np.inf) <= (REPLACE_PIXELS * self.detail_mm) ** 2


def in_region(point: Point, region: Region) -> Point:
    """Return a pixel of a slice in pixels of its part."""
    return point[0] - region[0].start, point[1] - region[1].start


def is_inside(point: Point, region: Region) -> bool:
    """Whether a pixel of a slice lies in its part."""
    return all(part.start <= place < part.stop for place, part in zip(point, region))
