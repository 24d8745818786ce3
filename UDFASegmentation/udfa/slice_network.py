"""What the network thinks of one slice of a volume, given clicks and the labels as they stand.

The encoder does not see the clicks, so its features are cached per slice; an answer costs one pass of the decoder. An
answer is brought back to the volume's own pixels only where it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from udfa.config import SIZE_MULTIPLE
from udfa.edit_rules import Region
from udfa.features import ByteCache, FeatureCache
from udfa.geometry import Volume
from udfa.inference import Segmenter
from udfa.masks import pixels
from udfa.networks.udfa import EncoderFeatures, joined
from udfa.preprocessing import intensity_rule, network_slices, plane_grid, tile_side
from udfa.prompts import PlaneClick, PromptPart, SparsePrompt, sparse_prompt
from udfa.resampling import AxisResampling

CONTEXT_PIXELS = 32
"""How much of the slice around the asked region the decoder sees, in network pixels; decoding less is quicker."""

CARRY_CONTEXT_MM = 32.0
"""The same for carried corrections, whose region has a margin of its own, but no more than CONTEXT_PIXELS."""

CARRY_VIEW_PIXELS = 112
"""A carried correction is seen in a part of the slice at least as large as this, in network pixels. With less around a
small correction the network confirmed it on fewer slices (a BTCV validation patient)."""

WINDOW_STEPS = 4
"""Windows of large slices start at multiples of this share of their side, so that nearby clicks share features."""

JOIN_PIXELS = 10_000
"""Decoding takes as long as that of so many more pixels, however few there are; measured with `mini` on a CPU."""

Window = tuple[int, int, int]
"""First row, first column and side of a tile, in network pixels."""

AUTOMATIC_BYTES = 2**27
"""Memory for automatic answers that are kept: 70 slices of 14 classes in tiles of 256 x 256 pixels."""


@dataclass(frozen=True)
class Question:
    """What the network is asked about a part of a slice.

    Attributes:
        z: Canonical slice.
        labels: (H, W) labels of the slice as they stand.
        clicks: Clicks on the slice, in pixels of the volume.
        region: Rows and columns to answer for; its centre decides which window of a large slice is looked at.
        neighbour: (H, W) labels of the slice above or below, if that was corrected.
        ahead: Slices that may be asked about next, the nearest first.
        context: How much around the region the decoder sees at least, in network pixels.
        view: Smallest side of what the decoder sees, in network pixels.
        automatic: Ask for the automatic answer: clicks and neighbour are not shown, the decoder sees the whole window.
    """

    z: int
    labels: NDArray[np.uint8]
    clicks: Sequence[PlaneClick]
    region: Region
    neighbour: Optional[NDArray[np.uint8]] = None
    ahead: Sequence[int] = ()
    context: int = CONTEXT_PIXELS
    view: int = 0
    automatic: bool = False


class SliceNetwork:
    """Asks the network about slices of one volume.

    Args:
        segmenter: Holds the network, with a prompt encoder, and where it runs.
        volume: The scalar volume in canonical orientation.
        cache_bytes: Memory for cached encoder features.

    Attributes:
        encoded: How often the encoder has run; all other answers came from the cache.
        carry_context: CARRY_CONTEXT_MM in network pixels.
    """

    def __init__(self, segmenter: Segmenter, volume: Volume, cache_bytes: int) -> None:
        self.segmenter = segmenter
        self.volume = volume
        self.num_classes = segmenter.config.network.num_classes
        self.cache = FeatureCache(cache_bytes)
        self.encoded = 0
        self._automatic: ByteCache[Tensor] = ByteCache(AUTOMATIC_BYTES, lambda answer: answer.nbytes)
        self._settings = segmenter.config.preprocessing
        self._grid = plane_grid(volume.array, volume.spacing_mm, self._settings)
        self._rule = intensity_rule(volume.array, self._settings)
        row, row_end, column, column_end = self._grid.crop
        height, width = self._grid.network_shape
        self._rows = AxisResampling(height, row, row_end)
        self._columns = AxisResampling(width, column, column_end)

        self._pixel_mm = [
            n * s / m for n, s, m in zip((row_end - row, column_end - column), volume.spacing_mm[1:], (height, width))
        ]
        self.carry_context = min(CONTEXT_PIXELS, pixels(CARRY_CONTEXT_MM, min(self._pixel_mm)))

    @property
    def detail_mm(self) -> float:
        """Size of the network's pixel, or of the volume's own if that is larger, in mm."""
        return max(*self._pixel_mm, *self.volume.spacing_mm[1:])

    def intensity(self, z: int, region: Region) -> NDArray[np.float32]:
        """Normalised intensities of a part of a slice, smoothed by a 3x3 mean. -> (h, w) of the region."""
        rows, columns = region
        height, width = self.volume.array.shape[1:]
        wide = (slice(max(0, rows.start - 1), rows.stop + 1), slice(max(0, columns.start - 1), columns.stop + 1))
        plane = self._rule.apply(self.volume.array[z][wide]).numpy()
        edges = (
            (int(rows.start == 0), int(rows.stop == height)),
            (int(columns.start == 0), int(columns.stop == width)),
        )
        padded = np.pad(plane, edges, mode="edge")
        h, w = rows.stop - rows.start, columns.stop - columns.start
        total = sum(padded[i : i + h, j : j + w] for i in range(3) for j in range(3))
        return np.asarray(total / 9, dtype=np.float32)

    def ask(self, questions: Sequence[Question]) -> list[NDArray[np.float32]]:
        """Return the class probabilities of parts of slices, given clicks; several are asked together.

        Returns:
            For each question (K, h, w) of its region. Outside the window around the region's centre: the labels as they
            stand; in the air that preprocessing crops: background. The encoder has seen the whole window, the decoder
            the region and its context, or more; for automatic answers all of it.
        """
        windows = [self._window(question.region) for question in questions]
        self._encode_together([(q, w) for q, w in zip(questions, windows) if not self._is_kept(q, w)])
        parts = [self._part(question, window) for question, window in zip(questions, windows)]
        alike = _alike(parts, windows) if len({question.automatic for question in questions}) == 1 else None
        if alike is not None:
            return self._answers(questions, windows, alike)
        single = (self._answers([q], [w], [p]) for q, w, p in zip(questions, windows, parts))
        return list(chain.from_iterable(single))

    def prepare(self, z: int, pixel: tuple[int, int]) -> None:
        """Compute and cache the encoder features that a click at a pixel of a slice will need."""
        self._features(z, self._window_at(pixel))

    def prepare_ahead(self, slices: Iterable[int], pixel: tuple[int, int], stopped: Callable[[], bool]) -> None:
        """Compute and cache features in idle moments, as far as the cache has room.

        Args:
            slices: Canonical slices, the most urgent first.
            pixel: Where clicks are expected.
            stopped: Asked before each batch; True ends the work.
        """
        window = self._window_at(pixel)
        missing = [(z, window) for z in slices if self._key(z, window) not in self.cache]
        while missing and not stopped():
            with self.segmenter.lock:
                size = self.segmenter.plan.batch_size
                batch, missing = missing[:size], missing[size:]
                if not self.cache.has_room(len(batch)):
                    return
                for key, features in zip(batch, self._encoded(batch)):
                    self.cache.put(self._key(*key), features)

    def forget(self) -> None:
        """Drop the cached features and the automatic answers."""
        self.cache.clear()
        self._automatic.clear()

    def _answers(
        self, questions: Sequence[Question], windows: Sequence[Window], parts: Sequence[Region]
    ) -> list[NDArray[np.float32]]:
        """Decode parts of equal size as one batch."""
        areas = [self._area(window, part) for window, part in zip(windows, parts)]
        places = [(question.z, window) for question, window in zip(questions, windows)]
        if questions[0].automatic:
            decoded = self._automatic_answers(places, parts)
        else:
            shown = [self._shown(question, area) for question, area in zip(questions, areas)]
            size = (_length(parts[0][0]), _length(parts[0][1]))
            decoded = list(self._decoded(places, parts, sparse_prompt(shown, self.num_classes, size)))
        return [self._at_region(q, d, area) for q, d, area in zip(questions, decoded, areas)]

    def _automatic_answers(self, places: Sequence[tuple[int, Window]], parts: Sequence[Region]) -> list[Tensor]:
        """Answers without clicks for whole windows, (K, S, S) each. They stay the same, so they are kept."""
        kept = [self._automatic.find(self._key(*place)) for place in places]
        missing = [i for i, answer in enumerate(kept) if answer is None]
        decoded = self._decoded([places[i] for i in missing], [parts[i] for i in missing], None) if missing else ()
        fresh = {i: answer.half() for i, answer in zip(missing, decoded)}
        for i, answer in fresh.items():
            self._automatic.put(self._key(*places[i]), answer)
        return [(fresh[i] if answer is None else answer).float() for i, answer in enumerate(kept)]

    def _decoded(
        self, places: Sequence[tuple[int, Window]], parts: Sequence[Region], prompt: Optional[SparsePrompt]
    ) -> Tensor:
        """Decode parts of equal size of windows of slices. -> (n, K, h, w)"""
        while True:
            try:
                features = joined([self._features(*place).cropped(*part) for place, part in zip(places, parts)])
                return self.segmenter.decode(features, prompt).cpu()
            except (RuntimeError, MemoryError) as error:
                self.forget()
                self.segmenter.lighten(error)

    def _area(self, window: Window, part: Region) -> Region:
        """Rows and columns of the network's grid that a part of a window covers; the rest of it is padding."""
        rows, columns = (
            slice(at + p.start, min(n, at + p.stop)) for at, p, n in zip(window, part, self._grid.network_shape)
        )
        return rows, columns

    def _shown(self, question: Question, area: Region) -> PromptPart:
        """What the network is shown of clicks and labels in an area of its grid."""
        clicks = [self._scaled(click, area) for click in question.clicks]
        neighbour = None if question.neighbour is None else self._nearest(question.neighbour, area)
        return PromptPart(clicks, self._nearest(question.labels, area), neighbour)

    def _nearest(self, labels: NDArray[np.uint8], area: Region) -> NDArray[np.uint8]:
        """Labels of a slice at the pixels of an area of the network's grid. (H, W) -> (h, w)."""
        return np.asarray(labels[self._rows.nearest[area[0], None], self._columns.nearest[None, area[1]]])

    def _scaled(self, click: PlaneClick, area: Region) -> PlaneClick:
        """The same click in network pixels of an area."""
        y = self._rows.to_network(click.row) - area[0].start
        x = self._columns.to_network(click.column) - area[1].start
        return PlaneClick(y, x, click.value, click.positive)

    def _window_at(self, pixel: tuple[int, int]) -> Window:
        """The tile around a pixel."""
        return self._window((slice(pixel[0], pixel[0] + 1), slice(pixel[1], pixel[1] + 1)))

    def _is_kept(self, question: Question, window: Window) -> bool:
        """Whether a question needs neither encoder nor decoder."""
        return question.automatic and self._key(question.z, window) in self._automatic

    def _window(self, region: Region) -> Window:
        """First row, first column and side, in network pixels, of the tile around a region's centre."""
        shape, crop = self._grid.network_shape, self._grid.crop
        side = tile_side(shape, self._settings.tile_size)
        starts = []
        for piece, start, end, length in zip(region, crop[::2], crop[1::2], shape):
            at = ((piece.start + piece.stop) / 2 - start) * length / (end - start)
            step = side // WINDOW_STEPS
            wanted = round((at - side / 2) / step) * step
            starts.append(int(min(max(0, wanted), max(0, length - side))))
        return starts[0], starts[1], side

    def _key(self, z: int, window: Window) -> tuple[object, ...]:
        # After a fall-back to another device or precision, old features are of no use.
        plan = self.segmenter.plan
        return (z, *window[:2], plan.device, plan.dtype)

    def _features(self, z: int, window: Window) -> EncoderFeatures:
        return self.cache.get(self._key(z, window), lambda: self._encoded([(z, window)])[0])

    def _encoded(self, wanted: Sequence[tuple[int, Window]]) -> list[EncoderFeatures]:
        """Run the encoder on windows of slices, as one batch."""
        tiles = []
        for z, (top, left, side) in wanted:
            array = self.volume.array
            image = network_slices(array, z, z + 1, self._grid, self._rule, self._settings.in_slices)
            tile = image[:, :, top : top + side, left : left + side]
            tiles.append(F.pad(tile, (0, side - tile.shape[-1], 0, side - tile.shape[-2]), mode="replicate"))
        self.encoded += len(tiles)
        return self.segmenter.encode(torch.cat(tiles)).split()

    def _encode_together(self, asked: Sequence[tuple[Question, Window]]) -> None:
        """Encode what is missing as one batch, filled up with what may be asked next: a batch is quicker."""
        missing = [(q, w) for q, w in asked if self._key(q.z, w) not in self.cache]
        coming = ([(z, w) for z in q.ahead if self._key(z, w) not in self.cache] for q, w in missing)
        in_turn = [pair for pairs in zip_longest(*coming) for pair in pairs if pair is not None]
        wanted = [*((q.z, w) for q, w in missing), *in_turn][: self.segmenter.plan.batch_size]
        if len(wanted) < 2:
            return
        try:
            encoded = self._encoded(wanted)
        except (RuntimeError, MemoryError) as error:
            self.forget()
            self.segmenter.lighten(error)
            return
        # What is needed first is the newest entry: a tight cache drops the others.
        for (z, window), features in reversed(list(zip(wanted, encoded))):
            self.cache.put(self._key(z, window), features)

    def _part(self, question: Question, window: Window) -> Region:
        """Rows and columns of a window to decode for a question: multiples of 32 that hold region and context."""
        *starts, side = window
        if question.automatic:
            # Normalisation averages over what the decoder sees: only the whole window gives the automatic result.
            return slice(0, side), slice(0, side)
        crop, parts = self._grid.crop, []
        for piece, start, end, length, at in zip(
            question.region, crop[::2], crop[1::2], self._grid.network_shape, starts
        ):
            first, last = ((edge - start) * length / (end - start) - at for edge in (piece.start, piece.stop))
            around = max(question.context, (question.view - (last - first)) / 2)
            low = math.floor((first - around) / SIZE_MULTIPLE) * SIZE_MULTIPLE
            high = math.ceil((last + around) / SIZE_MULTIPLE) * SIZE_MULTIPLE
            low = min(max(0, low), side - SIZE_MULTIPLE)
            parts.append(slice(low, min(side, max(high, low + SIZE_MULTIPLE))))
        return parts[0], parts[1]

    def _at_region(self, question: Question, decoded: Tensor, area: Region) -> NDArray[np.float32]:
        """Resample an answer for an area of the network's grid to the region's pixels. (K, h', w') -> (K, h, w)."""
        rows, columns = question.region
        inner_rows, inner_columns = self._rows.inside(rows), self._columns.inside(columns)
        result = np.zeros((self.num_classes, _length(rows), _length(columns)), np.float32)
        result[0] = 1.0
        if inner_rows is None or inner_columns is None:
            return result
        used = self._rows.used(inner_rows), self._columns.used(inner_columns)
        answer = self._covering(question, decoded, area, used)
        answer = self._rows.resampled(answer, inner_rows)
        answer = self._columns.resampled(answer.transpose(1, 2), inner_columns).transpose(1, 2)
        result[:, _moved(inner_rows, rows.start), _moved(inner_columns, columns.start)] = answer.numpy()
        return result

    def _covering(self, question: Question, decoded: Tensor, area: Region, used: Region) -> Tensor:
        """The answer for an area brought to what is used of the grid; the labels as they stand where it is silent."""
        common = [slice(max(a.start, u.start), min(a.stop, u.stop)) for a, u in zip(area, used)]
        part = decoded[(slice(None), *(_moved(c, a.start) for c, a in zip(common, area)))]
        if tuple(common) == used:
            return part
        labels = self._nearest(question.labels, used)
        known = torch.from_numpy(np.where(labels < self.num_classes, labels, 0)).long()
        answer = F.one_hot(known, self.num_classes).permute(2, 0, 1).to(torch.float32)
        answer[(slice(None), *(_moved(c, u.start) for c, u in zip(common, used)))] = part
        return answer


def _alike(parts: Sequence[Region], windows: Sequence[Window]) -> Optional[list[Region]]:
    """Parts enlarged to one size, to be decoded together; None where that would take longer."""
    size = [max(_length(part[axis]) for part in parts) for axis in (0, 1)]
    enlarged = sum(size[0] * size[1] - _length(part[0]) * _length(part[1]) for part in parts)
    if enlarged > JOIN_PIXELS * (len(parts) - 1):
        return None
    alike = []
    for part, (_, _, side) in zip(parts, windows):
        rows, columns = (slice(at, at + n) for n, at in ((n, min(p.start, side - n)) for n, p in zip(size, part)))
        alike.append((rows, columns))
    return alike


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)


def _moved(piece: slice, start: int) -> slice:
    """The same pixels, counted from `start`."""
    return slice(piece.start - start, piece.stop - start)
