"""What the network thinks of one slice of a volume, given clicks and the labels as they stand.

The encoder does not see the clicks, so its features are cached per slice; an answer costs one pass of the decoder. An
answer is brought back to the volume's own pixels only where it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from udfa.config import SIZE_MULTIPLE
from udfa.edit_rules import Region
from udfa.features import FeatureCache
from udfa.geometry import Volume
from udfa.inference import Segmenter
from udfa.networks.udfa import EncoderFeatures
from udfa.preprocessing import intensity_rule, network_slices, plane_grid, tile_side
from udfa.prompts import PlaneClick, click_maps, one_hot_labels, prompt_tensor, resize_labels

CONTEXT_PIXELS = 32
"""How much of the slice around the asked region the decoder sees, in network pixels; decoding less is quicker."""

WINDOW_STEPS = 4
"""Windows of large slices start at multiples of this share of their side, so that nearby clicks share features."""


class SliceNetwork:
    """Asks the network about slices of one volume.

    Args:
        segmenter: Holds the network, with a prompt encoder, and where it runs.
        volume: The scalar volume in canonical orientation.
        cache_bytes: Memory for cached encoder features.

    Attributes:
        encoded: How often the encoder has run; all other answers came from the cache.
    """

    def __init__(self, segmenter: Segmenter, volume: Volume, cache_bytes: int) -> None:
        self.segmenter = segmenter
        self.volume = volume
        self.num_classes = segmenter.config.network.num_classes
        self.cache = FeatureCache(cache_bytes)
        self.encoded = 0
        self._settings = segmenter.config.preprocessing
        self._grid = plane_grid(volume.array, volume.spacing_mm, self._settings)
        self._rule = intensity_rule(volume.array, self._settings)
        row, row_end, column, column_end = self._grid.crop
        self._to_rows = resampling_weights(self._grid.network_shape[0], row_end - row)
        self._to_columns = resampling_weights(self._grid.network_shape[1], column_end - column)

    @property
    def detail_mm(self) -> float:
        """Size of the network's pixel, or of the volume's own if that is larger, in mm."""
        row, row_end, column, column_end = self._grid.crop
        sizes = (row_end - row, column_end - column)
        pixels = [n * s / m for n, s, m in zip(sizes, self.volume.spacing_mm[1:], self._grid.network_shape)]
        return max(*pixels, *self.volume.spacing_mm[1:])

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

    def ask(
        self,
        z: int,
        labels: NDArray[np.uint8],
        clicks: Iterable[PlaneClick],
        region: Region,
        neighbour: Optional[NDArray[np.uint8]] = None,
    ) -> NDArray[np.float32]:
        """Return the class probabilities of a part of a slice, given clicks.

        Args:
            z: Canonical slice.
            labels: (H, W) labels of the slice as they stand.
            clicks: Clicks on the slice, in pixels of the volume.
            region: Rows and columns to answer for; its centre decides which window of a large slice is looked at.
            neighbour: (H, W) labels of the slice above or below, if that was corrected.

        Returns:
            (K, h, w) of the region. Outside the window around the region's centre: the labels as they stand; in the
            air that preprocessing crops: background. The encoder has seen the whole window, the decoder the region
            and CONTEXT_PIXELS around it.
        """
        shape = self._grid.network_shape
        current = self._one_hot(labels)
        maps = click_maps([self._scaled(click) for click in clicks], self.num_classes, shape)
        window = self._window(region)
        part = self._part(region, window)
        rows, columns = (slice(at + p.start, min(n, at + p.stop)) for at, p, n in zip(window, part, shape))
        area = (slice(None), rows, columns)
        beside = None if neighbour is None else self._one_hot(neighbour)[area]
        prompt = prompt_tensor(maps[area], current[area], beside, (_length(part[0]), _length(part[1])))
        answer = current.clone()
        decoded = self._decode(z, window, part, prompt)
        answer[area] = decoded[:, : _length(rows), : _length(columns)]
        return self._at_region(answer, region)

    def prepare(self, z: int, pixel: tuple[int, int]) -> None:
        """Compute and cache the encoder features that a click at a pixel of a slice will need."""
        region = (slice(pixel[0], pixel[0] + 1), slice(pixel[1], pixel[1] + 1))
        self._features(z, *self._window(region))

    def _one_hot(self, labels: NDArray[np.uint8]) -> Tensor:
        """Labels of a slice on the network's grid. (H, W) -> (K, h, w) float32."""
        row, row_end, column, column_end = self._grid.crop
        plane = torch.from_numpy(np.array(labels[row:row_end, column:column_end], order="C"))
        return one_hot_labels(resize_labels(plane, self._grid.network_shape), self.num_classes)

    def _scaled(self, click: PlaneClick) -> PlaneClick:
        """The same click in network pixels of the cropped slice."""
        row, row_end, column, column_end = self._grid.crop
        height, width = self._grid.network_shape
        y = (click.row - row + 0.5) * height / (row_end - row) - 0.5
        x = (click.column - column + 0.5) * width / (column_end - column) - 0.5
        return PlaneClick(y, x, click.value, click.positive)

    def _window(self, region: Region) -> tuple[int, int, int]:
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

    def _features(self, z: int, top: int, left: int, side: int) -> EncoderFeatures:
        def encode() -> EncoderFeatures:
            array = self.volume.array
            image = network_slices(array, z, z + 1, self._grid, self._rule, self._settings.in_slices)
            tile = image[:, :, top : top + side, left : left + side]
            pad = (0, side - tile.shape[-1], 0, side - tile.shape[-2])
            self.encoded += 1
            return self.segmenter.encode(F.pad(tile, pad, mode="replicate"))

        # After a fall-back to another device or precision, old features are of no use.
        plan = self.segmenter.plan
        return self.cache.get((z, top, left, plan.device, plan.dtype), encode)

    def _part(self, region: Region, window: tuple[int, int, int]) -> tuple[slice, slice]:
        """Rows and columns of a window to decode for a region: multiples of 32 that hold it and its surroundings."""
        *starts, side = window
        crop, parts = self._grid.crop, []
        for piece, start, end, length, at in zip(region, crop[::2], crop[1::2], self._grid.network_shape, starts):
            first, last = ((edge - start) * length / (end - start) - at for edge in (piece.start, piece.stop))
            low = math.floor((first - CONTEXT_PIXELS) / SIZE_MULTIPLE) * SIZE_MULTIPLE
            high = math.ceil((last + CONTEXT_PIXELS) / SIZE_MULTIPLE) * SIZE_MULTIPLE
            low = min(max(0, low), side - SIZE_MULTIPLE)
            parts.append(slice(low, min(side, max(high, low + SIZE_MULTIPLE))))
        return parts[0], parts[1]

    def _decode(self, z: int, window: tuple[int, int, int], part: tuple[slice, slice], prompt: Tensor) -> Tensor:
        """(K, h, w) float32 probabilities of a part of a window, on the CPU; on a lighter plan when memory runs out."""
        while True:
            try:
                features = self._features(z, *window).cropped(*part)
                return self.segmenter.decode(features, prompt)[0].cpu()
            except (RuntimeError, MemoryError) as error:
                self.cache.clear()
                self.segmenter.lighten(error)

    def _at_region(self, answer: Tensor, region: Region) -> NDArray[np.float32]:
        """Resample an answer on the network's grid to the pixels of a region. (K, h', w') -> (K, h, w)."""
        row, row_end, column, column_end = self._grid.crop
        rows, columns = region
        result = np.zeros((self.num_classes, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        result[0] = 1.0
        inner = _overlap(rows, row, row_end), _overlap(columns, column, column_end)
        if inner[0] is None or inner[1] is None:
            return result
        answer = _resampled(answer, self._to_rows, inner[0], row)
        answer = _resampled(answer.transpose(1, 2), self._to_columns, inner[1], column).transpose(1, 2)
        place = tuple(slice(i.start - r.start, i.stop - r.start) for i, r in zip(inner, region) if i is not None)
        result[(slice(None), *place)] = answer.numpy()
        return result


def resampling_weights(source: int, target: int) -> Optional[Tensor]:
    """Weights by which `resize_planes` resamples an axis, (target, source); None when the lengths are equal."""
    if source == target:
        return None
    identity = torch.eye(source)[None, None]
    return F.interpolate(identity, size=(target, source), mode="bilinear", antialias=True)[0, 0]


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)


def _overlap(piece: slice, start: int, end: int) -> Optional[slice]:
    first, last = max(piece.start, start), min(piece.stop, end)
    return slice(first, last) if first < last else None


def _resampled(answer: Tensor, weights: Optional[Tensor], piece: slice, start: int) -> Tensor:
    """Resample rows to those of `piece`, which counts from `start`. (K, h', w) -> (K, h, w)."""
    wanted = slice(piece.start - start, piece.stop - start)
    if weights is None:
        return answer[:, wanted]
    part = weights[wanted]
    used = part.any(dim=0).nonzero()[:, 0]
    low, high = int(used[0]), int(used[-1]) + 1
    return torch.matmul(part[:, low:high], answer[:, low:high])
