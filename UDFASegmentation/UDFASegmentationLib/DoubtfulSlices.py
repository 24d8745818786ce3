"""Which slices a reader should look at first: those on which the network is least sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from udfa.geometry import Volume, canonical_orientation

if TYPE_CHECKING:
    from numpy.typing import NDArray

DOUBT_THRESHOLD = 64
"""Uncertainty (0 to 255) below this is the ordinary doubt along borders and does not count."""

NEIGHBOUR_MM = 5.0
"""Slices nearer than this to a listed one show the same place and are not listed again."""

LONGEST_LIST = 20


@dataclass(frozen=True)
class DoubtfulSlice:
    """A slice worth checking.

    Attributes:
        index: (D, H, W) index of the voxel around which the doubt lies.
        doubt: Summed uncertainty of the slice, for the order only.
    """

    index: tuple[int, int, int]
    doubt: float


def rankSlices(uncertainty: Volume, sliceAxis: str = "axial") -> list[DoubtfulSlice]:
    """Return the slices with the most doubt, most doubtful first.

    Args:
        uncertainty: (D, H, W) uint8, 0 certain to 255 undecided.
        sliceAxis: axial or acquisition, as in the checkpoint's preprocessing.

    Returns:
        At most LONGEST_LIST slices along that axis, at least NEIGHBOUR_MM apart; empty when there is no doubt.
    """
    orientation = canonical_orientation(uncertainty, sliceAxis)
    array = orientation.apply(uncertainty.array)
    scores = np.array([_doubt(plane) for plane in array])
    thickness = uncertainty.spacing_mm[orientation.permutation[0]]
    reach = max(1, round(NEIGHBOUR_MM / thickness))
    found: list[DoubtfulSlice] = []
    while len(found) < LONGEST_LIST and scores.max(initial=0.0) > 0:
        z = int(scores.argmax())
        found.append(DoubtfulSlice(_sourceIndex(array, z, orientation.permutation, orientation.flips), scores[z]))
        scores[max(0, z - reach + 1) : z + reach] = 0
    return found


def _doubt(plane: NDArray[np.generic]) -> float:
    return float(np.sum(plane, where=plane >= DOUBT_THRESHOLD, dtype=np.float64))


def _sourceIndex(
    array: NDArray[np.generic], z: int, permutation: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> tuple[int, int, int]:
    """Index in the source array of the doubt's centre on canonical slice z."""
    plane = np.where(array[z] >= DOUBT_THRESHOLD, array[z], 0).astype(np.float64)
    rows, columns = plane.sum(axis=1), plane.sum(axis=0)
    total = rows.sum()
    canonical = (
        z,
        round(float(rows @ np.arange(len(rows))) / total),
        round(float(columns @ np.arange(len(columns))) / total),
    )
    index = [0, 0, 0]
    for axis, (position, flip) in enumerate(zip(canonical, flips)):
        index[permutation[axis]] = array.shape[axis] - 1 - position if flip else position
    return (index[0], index[1], index[2])
