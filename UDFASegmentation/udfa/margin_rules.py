"""How far what a click says holds elsewhere, too: the network's own uncertainty spreads a correction.

The automatic answer has a margin everywhere: by how much the clicked label wins or loses against the likeliest other
one. A click says that the margin is wrong by at least so much at the clicked voxel. Nearby the network is wrong in the
same sense, but less surely with the distance: what it was less sure of than the shift that is left there changes with
the click, as far as it is connected. So a click on an error one pixel thick moves the border along that error.

The rule is ours. It is the posterior mean of a Gaussian process for the error of the margin, given the clicks, with
three short cuts: fixed widths, the strongest shift instead of their joint solution, and a cap. Gaussian processes that
spread clicks are known (GPCIS, arXiv 2302.14578, learns the kernel with the network). The values were chosen on half of
the ACDC validation patients and left as they were for all else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from udfa.edit_rules import Aim, Answer, Piece, Region, changeable
from udfa.masks import Mask, Point, SpacingMm, distance_mm, seeds_at, touching
from udfa.standing import SliceClick

SPREAD_PIXELS = 14.0
"""Standard deviation of the spread within a slice, in pixels of the network."""

SPREAD_SLICES = 1.5
"""Standard deviation across slices: outlines are drawn slice by slice, and so are their errors."""

EXCESS = 0.5
"""By how much a click shifts the margin beyond what is needed to change the clicked voxel."""

STRONGEST = 4.0
"""A voxel that needs a larger shift than this changes, but moves its surroundings by no more."""

FAINTEST = 0.05
"""Share of the shift under which a place counts as out of reach."""

AGREEMENT = 2.0
"""Where the network, shown the click, agrees with a change, its automatic margin may have been against it by so much
more than the shift that arrives there."""

SMALLEST_PROBABILITY = 1e-6


def margin(answer: Answer, value: int) -> NDArray[np.float32]:
    """By how much a class wins (above 0) or loses against the likeliest other one, in logits. (K, H, W) -> (H, W)."""
    others = np.delete(answer, value, axis=0).max(axis=0)
    own, others = (np.log(np.maximum(p, SMALLEST_PROBABILITY)) for p in (answer[value], others))
    return np.asarray(own - others, dtype=np.float32)


class Spread:
    """The shifts of the margin of one label: those of earlier clicks, and those of the clicks being made.

    Args:
        aim: What the new clicks want.
        earlier: Earlier clicks for the same label.
        spacing_mm: Pixel size.
        detail_mm: Size of the network's pixel.

    Attributes:
        strengths: Strength of each new shift by (slice, row, column).
        agreed: Whether the network, as shifted before, agreed with every new click.
    """

    def __init__(self, aim: Aim, earlier: Iterable[SliceClick], spacing_mm: SpacingMm, detail_mm: float) -> None:
        self.strengths: dict[tuple[int, int, int], float] = {}
        self.agreed = True
        self._aim = aim
        self._earlier = [shift for shift in earlier if shift.strength > 0]
        self._new: list[SliceClick] = []
        self._needed: list[SliceClick] = []
        self._spacing_mm = spacing_mm
        self._sigma_mm = SPREAD_PIXELS * detail_mm

    def take(self, z: int, points: Sequence[Point], region: Region, answer: Answer) -> bool:
        """Take new clicks on a slice; returns whether the network, as shifted before, agrees with all of them.

        Args:
            z: Slice.
            points: Clicked pixels (row, column) of the region.
            region: Rows and columns of the answer.
            answer: (K, h, w) automatic answer.
        """
        sign = 1 if self._aim.positive else -1
        against = self._field(self._earlier, not self._aim.positive, z, region)
        before = sign * margin(answer, self._aim.value) - against
        with_earlier = before + self._field(self._earlier, self._aim.positive, z, region)
        for point in points:
            needed = max(0.0, -float(before[point]))
            row, column = point[0] + region[0].start, point[1] + region[1].start
            strength = min(needed, STRONGEST) + EXCESS
            click = SliceClick(z, row, column, self._aim.value, self._aim.positive, strength)
            self._new.append(click)
            self._needed.append(replace(click, strength=needed + EXCESS))
            self.strengths[(z, row, column)] = strength
        agreed = all(with_earlier[point] > 0 for point in points)
        self.agreed &= agreed
        return agreed

    def reaches(self, z: int) -> bool:
        """Whether more than a faint part of a new shift arrives at a slice, or the network agreed all along."""
        return self.agreed or any(_across(shift, z) > FAINTEST for shift in self._new)

    def wanted(self, z: int, region: Region, answer: Answer) -> Mask:
        """Pixels of a slice that should be as the clicks want, by the shifted margin. -> (h, w) of the region."""
        return self._shifted(self._new, z, region, answer) > 0 if self.agreed else self._near(z, region, answer)

    def plausible(self, z: int, region: Region, answer: Answer) -> Mask:
        """Pixels that may change where the network, shown the clicks, agrees. -> (h, w) of the region."""
        return self._shifted(self._needed, z, region, answer) > -AGREEMENT

    def _near(self, z: int, region: Region, answer: Answer) -> Mask:
        whole = [replace(click, strength=1.0) for click in self._new]
        near = self._field(whole, self._aim.positive, z, region) > FAINTEST
        return near & (self._shifted(self._new, z, region, answer) > 0)

    def _shifted(self, new: Sequence[SliceClick], z: int, region: Region, answer: Answer) -> NDArray[np.float32]:
        """Margin in the sense of the clicks, with all shifts."""
        sign = 1 if self._aim.positive else -1
        shifts = [*self._earlier, *new]
        helping = self._field(shifts, self._aim.positive, z, region)
        against = self._field(shifts, not self._aim.positive, z, region)
        return sign * margin(answer, self._aim.value) + helping - against

    def _field(self, shifts: Sequence[SliceClick], positive: bool, z: int, region: Region) -> NDArray[np.float32]:
        """The strongest of the shifts of one sign that arrives at each pixel of a region."""
        rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in region)
        field = np.zeros((len(rows), len(columns)), dtype=np.float32)
        for shift in shifts:
            strength = shift.strength * _across(shift, z)
            if shift.positive == positive and strength > FAINTEST**2:
                down = np.exp(-0.5 * ((rows - shift.row) * (self._spacing_mm[0] / self._sigma_mm)) ** 2)
                along = np.exp(-0.5 * ((columns - shift.column) * (self._spacing_mm[1] / self._sigma_mm)) ** 2)
                np.maximum(field, strength * down[:, None] * along[None, :], out=field)
        return field


def _across(shift: SliceClick, z: int) -> float:
    """Share of a shift that arrives at a slice."""
    return float(np.exp(-0.5 * ((z - shift.z) / SPREAD_SLICES) ** 2))


def joined_change(piece: Piece, wanted: Mask, shown: Mask, points: Sequence[Point], aim: Aim) -> Mask:
    """Return the pixels that clicks change on their slice: what is connected with them of two answers.

    Args:
        piece: The slice as it stands.
        wanted: What should change by the shifted margin.
        shown: What the network changes when it is shown the clicks, as far as it is plausible.
        points: Clicked pixels (row, column), all of which may change.
        aim: What the clicks want.
    """
    near = distance_mm(wanted.shape, points, piece.spacing_mm) <= aim.reach_mm
    clicked = seeds_at(wanted.shape, points)
    return touching((wanted & changeable(piece, aim) & near) | shown | clicked, clicked)
