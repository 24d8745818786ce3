"""One correction, slice by slice: what clicks change where they are made, and on the slices they carry to."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from udfa.carry_rules import (
    CARRY_MARGIN_MM,
    Carried,
    carried_change,
    fallback_change,
    hint,
    limited_to,
    partners,
    slices_to_carry,
    spread_change,
)
from udfa.edit_rules import (
    Aim,
    Answer,
    Piece,
    Region,
    apply_change,
    change_for_clicks,
    changeable,
    connected_change,
    whole_part,
)
from udfa.margin_rules import Spread, joined_change
from udfa.masks import Mask, Point, bounding_box, depth_mm, pixels, seeds_at
from udfa.prompts import PlaneClick
from udfa.slice_network import CARRY_VIEW_PIXELS, CONTEXT_PIXELS, Question, SliceNetwork
from udfa.standing import PlaneMask, SliceClick, Standing, in_region, is_inside

SPREAD_MARGIN_PIXELS = 10
"""How far a correction may grow from slice to slice where the margin spreads it, in pixels of the network."""

THICK_PIXELS = 2
"""A correction whose depth is less than so many pixels of the network is a border that moved. The network, shown only
the labels of the slice before, does not tell whether it goes on."""

REACH_FACTOR_NEW_LABEL = 2.0
"""How much farther a click reaches on a slice that does not have its label yet: there is no outline to correct."""


@dataclass(frozen=True)
class PlaneChange:
    """New labels of a part of a slice."""

    region: Region
    labels: NDArray[np.uint8]


Planes = dict[int, PlaneChange]
"""Changed parts by slice."""

Walk = Generator[Question, Answer, None]
"""The carrying of a correction in one direction: asks the network slice by slice."""


class SliceEditor:
    """Works out one correction; changes nothing itself.

    Args:
        network: Answers for the volume's slices.
        standing: What the clicks find.
        aim: What they want.

    Attributes:
        strengths: After `change`, by how much each clicked voxel (slice, row, column) shifted its label's margin.
        made: After `change`, by slice, what changed where clicks were made, and what the network confirmed elsewhere.
    """

    def __init__(self, network: SliceNetwork, standing: Standing, aim: Aim) -> None:
        self.network = network
        self.standing = standing
        self.aim = aim
        self._spacing_mm = standing.spacing_mm
        self._slice_mm = network.volume.spacing_mm[0]
        self._plane_shape = standing.labels.shape[1:]
        same = [c for z in {c.z for c in standing.clicks} for c in standing.earlier(z) if c.value == aim.value]
        self._spread = Spread(aim, same, self._spacing_mm, network.detail_mm)
        self.strengths = self._spread.strengths
        self.made: dict[int, PlaneMask] = {}

    def change(self, points: Mapping[int, Sequence[Point]], carry_slices: int) -> Planes:
        """Return the slices that clicks change.

        Args:
            points: Clicked pixels (row, column) by slice.
            carry_slices: How many slices beyond the clicked ones the correction may be carried, at most.
        """
        planes: Planes = {}
        ends = (min(points), max(points))
        carried: dict[int, tuple[Region, Carried]] = {}
        for z, here in sorted(points.items()):
            found = self._clicked_slice(z, here)
            if found is None:
                continue
            planes[z], state = found
            self.made[z] = PlaneMask(planes[z].region, planes[z].labels != state.piece.labels)
            if z in ends:
                carried[z] = (planes[z].region, state)
        walks = []
        for start, step in ((ends[1], 1), (ends[0], -1)):
            if start in carried:
                slices = self._slices_from(start, step, carry_slices)
                region, state = carried[start]
                ball = self._carry_ball(planes, slices, points[start], region, state)
                walks.append(self._carry(planes, slices, region, state) if state.followed else ball)
        self._in_step(walks)
        return planes

    def _shown_limit(self, state: Carried, limit: int) -> int:
        """To how many slices the network is asked to confirm a correction; to the others the margin spreads it."""
        if self._spread.agreed:
            return 0
        thick = depth_mm(state.change, self._spacing_mm).max() >= THICK_PIXELS * self.network.detail_mm
        return slices_to_carry(state.change, self._spacing_mm, self._slice_mm, limit) if thick else 0

    def _slices_from(self, start: int, step: int, limit: int) -> range:
        """The slices after `start` in one direction, the nearest first."""
        end = min(start + limit + 1, len(self.standing.labels)) if step > 0 else max(start - limit - 1, -1)
        return range(start + step, end, step)

    def _in_step(self, walks: Sequence[Walk]) -> None:
        """Take walks to their ends, a slice each at a time: the network answers all together more quickly."""
        asking = [(walk, next(walk, None)) for walk in walks]
        while under_way := [(walk, question) for walk, question in asking if question is not None]:
            answers = self.network.ask([question for _, question in under_way])
            asking = [(walk, _told(walk, answer)) for (walk, _), answer in zip(under_way, answers)]

    def _clicked_slice(self, z: int, points: Sequence[Point]) -> Optional[tuple[PlaneChange, Carried]]:
        """Correct a slice where it was clicked; None when nothing changes."""
        aim = self.aim
        if aim.positive and not (self.standing.labels[z] == aim.value).any():
            aim = replace(aim, reach_mm=aim.reach_mm * REACH_FACTOR_NEW_LABEL)
        region = self._region_around(points, aim.reach_mm)
        local = [in_region(point, region) for point in points]
        piece = self._piece(z, region, points)
        open_points = [point for point in local if changeable(piece, aim)[point]]
        if not open_points:
            return None
        earlier = self.standing.still_said(z, aim, points)
        (answer,) = self.network.ask([self._unprompted(z, region)])
        self._remind(answer, region, earlier)
        agreed, followed = self._spread.take(z, open_points, region, answer), True
        wanted = self._spread.wanted(z, region, answer)
        if agreed:
            change = connected_change(piece, wanted & changeable(piece, aim), open_points, aim)
        else:
            plausible = self._spread.plausible(z, region, answer)
            clicks = [PlaneClick(*point, aim.value, aim.positive) for point in points]
            question = self._question(z, region, earlier, clicks, self._corrected_neighbour(z))
            (answer,) = self.network.ask([question])
            self._remind(answer, region, earlier)
            shown, followed = change_for_clicks(piece, answer, local, aim)
            wanted = wanted if followed else wanted & shown
            change = joined_change(piece, wanted, shown & plausible, open_points, aim)
        whole = change.copy()
        if followed and not aim.positive and len(local) == 1:
            whole |= self._whole_part(z, region, change, points[0], earlier)
        labels = apply_change(piece, answer, whole, aim)
        state = Carried(change, piece, partners(piece, labels, change, aim), followed)
        return PlaneChange(region, labels), state

    def _whole_part(self, z: int, region: Region, change: Mask, point: Point, earlier: Sequence[SliceClick]) -> Mask:
        """What goes with all of the part that a removal means; the part may run out of the region. -> (h, w) of it.

        Nothing, if an earlier click has said that something of the part does belong to the label.
        """
        height, width = self._plane_shape
        said = seeds_at((height, width), [(c.row, c.column) for c in earlier if c.value == self.aim.value])
        piece = self._piece(z, (slice(0, height), slice(0, width)), [point])
        on_slice = np.zeros((height, width), dtype=bool)
        on_slice[region] = change
        return whole_part(piece, on_slice, point, said, self.aim)[region]

    def _carry(self, planes: Planes, slices: range, region: Region, state: Carried) -> Walk:
        """Carry what the network followed from slice to slice in one direction, until image or network say no."""
        shown_limit = self._shown_limit(state, len(slices))
        for i, z in enumerate(slices):
            shown, reached = i < shown_limit, self._spread.reaches(z)
            if not (shown or reached):
                return
            region, state, piece = self._next(z, slices.step, region, state)
            same = hint(state, piece, self.aim)
            if not (reached or same.any()):
                return
            change = np.zeros_like(same)
            if reached:
                answer = yield self._unprompted(z, region, slices[i + 1 :])
                self._remind(answer, region, self.standing.earlier(z))
                wanted = self._spread.wanted(z, region, answer)
                change = spread_change(state, piece, wanted, same, self._spread.agreed, self.aim)
            if shown and same.any():
                neighbour = self._labels_with(planes, z - slices.step)
                answer = yield self._question(z, region, self.standing.earlier(z), (), neighbour, slices[i + 1 :])
                self._remind(answer, region, self.standing.earlier(z))
                confirmed = carried_change(state, piece, answer, same, self.aim)
                if confirmed.any():
                    self.made[z] = PlaneMask(region, confirmed)
                change |= confirmed
            if not change.any():
                return
            planes[z] = PlaneChange(region, apply_change(piece, answer, change, self.aim))
            state = replace(state, change=change, piece=piece)

    def _carry_ball(
        self, planes: Planes, slices: range, points: Sequence[Point], region: Region, state: Carried
    ) -> Walk:
        """Carry what the network did not follow: a ball, cut out by image edges, where it was not sure of itself."""
        start = slices.start - slices.step
        for i, z in enumerate(slices):
            if not self._spread.reaches(z):
                return
            region, state, piece = self._next(z, slices.step, region, state)
            same = hint(state, piece, self.aim)
            if not same.any():
                return
            answer = yield self._unprompted(z, region, slices[i + 1 :])
            self._remind(answer, region, self.standing.earlier(z))
            local = [in_region(point, region) for point in points]
            ball = fallback_change(same, local, abs(z - start) * self._slice_mm, piece)
            change = ball & self._spread.plausible(z, region, answer)
            if not change.any():
                return
            planes[z] = PlaneChange(region, apply_change(piece, answer, change, self.aim))
            state = replace(state, change=change, piece=piece)

    def _next(self, z: int, step: int, region: Region, state: Carried) -> tuple[Region, Carried, Piece]:
        """Cut out what a correction of the slice before z can reach on z; describe both slices there."""
        region, state = self._cut_anew(z - step, region, state)
        return region, state, limited_to(self._piece(z, region, ()), state.partners | {self.aim.value})

    def _cut_anew(self, z: int, region: Region, state: Carried) -> tuple[Region, Carried]:
        """Cut out what a correction of slice z can reach on the next slice, instead of `region`."""
        box = bounding_box(state.change) or (slice(0, 0), slice(0, 0))
        reach_mm = max(CARRY_MARGIN_MM, SPREAD_MARGIN_PIXELS * self.network.detail_mm)
        reach = [pixels(reach_mm, spacing) + 1 for spacing in self._spacing_mm]
        rows, columns = (
            slice(max(0, old.start + b.start - r), min(n, old.start + b.stop + r))
            for old, b, r, n in zip(region, box, reach, self._plane_shape)
        )
        change = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        first = (region[0].start + box[0].start - rows.start, region[1].start + box[1].start - columns.start)
        inner = state.change[box]
        change[first[0] : first[0] + inner.shape[0], first[1] : first[1] + inner.shape[1]] = inner
        return (rows, columns), replace(state, change=change, piece=self._piece(z, (rows, columns), ()))

    def _region_around(self, points: Sequence[Point], reach_mm: float) -> Region:
        """Rows and columns that hold all pixels within `reach_mm` of the points."""
        ranges = []
        for axis, spacing in enumerate(self._spacing_mm):
            along = [point[axis] for point in points]
            reach = pixels(reach_mm, spacing) + 1
            ranges.append(slice(max(0, min(along) - reach), min(self._plane_shape[axis], max(along) + 1 + reach)))
        return ranges[0], ranges[1]

    def _piece(self, z: int, region: Region, points: Sequence[Point]) -> Piece:
        """Describe a part of a slice on which `points` are clicked."""
        standing = self.standing
        labels = np.ascontiguousarray(standing.labels[z][region])
        known = np.arange(256) < self.network.num_classes
        known[[value for value in standing.locked if value < len(known)]] = False
        fixed = ~known[labels] | standing.may_not_change(z, region, self.aim, points)
        givable = np.ones(self.network.num_classes, dtype=bool)
        givable[[value for value in standing.locked if value < len(givable)]] = False
        intensity = self.network.intensity(z, region)
        return Piece(labels, intensity, fixed, givable, self._spacing_mm, self.network.detail_mm)

    def _corrected_neighbour(self, z: int) -> Optional[NDArray[np.uint8]]:
        """Labels of the slice above or below if somebody has clicked there; None otherwise."""
        clicked = [click.z for click in self.standing.clicks if abs(click.z - z) == 1]
        return np.asarray(self.standing.labels[clicked[-1]]) if clicked else None

    def _labels_with(self, planes: Planes, z: int) -> NDArray[np.uint8]:
        """Labels of a slice as this correction leaves them."""
        labels = np.array(self.standing.labels[z])
        if z in planes:
            labels[planes[z].region] = planes[z].labels
        return labels

    def _question(
        self,
        z: int,
        region: Region,
        earlier: Sequence[SliceClick],
        clicks: Sequence[PlaneClick],
        neighbour: Optional[NDArray[np.uint8]],
        ahead: Sequence[int] = (),
    ) -> Question:
        """A question about a part of a slice, given earlier clicks, new ones, and a corrected neighbour."""
        prompts = [click.on_plane() for click in earlier] + list(clicks)
        seen = (CONTEXT_PIXELS, 0) if clicks else (self.network.carry_context, CARRY_VIEW_PIXELS)
        return Question(z, np.asarray(self.standing.labels[z]), prompts, region, neighbour, ahead, *seen)

    def _unprompted(self, z: int, region: Region, ahead: Sequence[int] = ()) -> Question:
        """A question about a part of a slice without any clicks: what is the automatic result?"""
        return Question(z, np.asarray(self.standing.labels[z]), (), region, ahead=ahead, automatic=True)

    def _remind(self, answer: Answer, region: Region, earlier: Sequence[SliceClick]) -> None:
        """Put what the reader has said into an answer, whatever the network makes of it."""
        for click in earlier:
            if is_inside((click.row, click.column), region):
                row, column = in_region((click.row, click.column), region)
                answer[:, row, column] *= not click.positive
                answer[click.value, row, column] = float(click.positive)


def _told(walk: Walk, answer: Answer) -> Optional[Question]:
    """Give a walk its answer; returns its next question, None at its end."""
    try:
        return walk.send(answer)
    except StopIteration:
        return None
