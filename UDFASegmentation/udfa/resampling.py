"""One axis of a slice on two grids: the pixels of the volume, and those of the network, which sees a crop of it."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class AxisResampling:
    """Goes to and fro between an axis of the volume and the network's.

    Args:
        length: Pixels of the network.
        start: First pixel of the volume that the network sees.
        end: One past the last one.

    Attributes:
        nearest: For each pixel of the network, the volume's pixel at its centre.
    """

    def __init__(self, length: int, start: int, end: int) -> None:
        self._length, self._start, self._end = length, start, end
        self.nearest = start + ((np.arange(length) + 0.5) * ((end - start) / length)).astype(np.intp)
        self._weights = resampling_weights(length, end - start)
        if self._weights is not None:
            involved = self._weights != 0
            self._first = involved.int().argmax(dim=1).tolist()
            self._last = (length - 1 - involved.flip(1).int().argmax(dim=1)).tolist()

    def to_network(self, position: float) -> float:
        """Position in the volume's pixels -> in the network's; 0 is the centre of the first pixel."""
        return (position - self._start + 0.5) * self._length / (self._end - self._start) - 0.5

    def inside(self, piece: slice) -> Optional[slice]:
        """The part of a piece of the volume's axis that the network sees; None if it sees nothing of it."""
        first, last = max(piece.start, self._start), min(piece.stop, self._end)
        return slice(first, last) if first < last else None

    def used(self, piece: slice) -> slice:
        """The network's pixels from which those of a piece are made; the piece lies inside what the network sees."""
        low, high = piece.start - self._start, piece.stop - self._start
        return slice(low, high) if self._weights is None else slice(self._first[low], self._last[high - 1] + 1)

    def resampled(self, answer: Tensor, piece: slice) -> Tensor:
        """Resample rows of the network, those that are `used`, to the volume's rows. (K, h', w) -> (K, h, w)."""
        if self._weights is None:
            return answer
        used = self.used(piece)
        weights = self._weights[piece.start - self._start : piece.stop - self._start, used.start : used.stop]
        return torch.matmul(weights, answer)


def resampling_weights(source: int, target: int) -> Optional[Tensor]:
    """Weights by which `resize_planes` resamples an axis, (target, source); None when the lengths are equal."""
    if source == target:
        return None
    identity = torch.eye(source)[None, None]
    return F.interpolate(identity, size=(target, source), mode="bilinear", antialias=True)[0, 0]
