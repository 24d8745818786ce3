"""The most that a correction around a click can do: a tool that knows the reference."""

from __future__ import annotations

import time
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


class WholeError:
    """Puts right the whole connected error, in 3D, in which a true click lies; a wrong click changes nothing.

    No tool that changes only what is connected with the click does better. It is a bound to read the other figures
    by, not a rival.

    Args:
        labelmap: (D, H, W), changed in place.
        reference: (D, H, W) labels as they should be.
        same_sign: Only what the click says is put right: a click that adds does not also remove.
        slice_axis: Only what is connected within the clicked slice is put right; the axis across which the slices are
            stacked. None for 3D.
    """

    def __init__(
        self,
        labelmap: NDArray[np.uint8],
        reference: NDArray[np.uint8],
        same_sign: bool = False,
        slice_axis: Optional[int] = None,
    ) -> None:
        self.labelmap = labelmap
        self.reference = reference
        self.same_sign = same_sign
        self.slice_axis = slice_axis

    def click(self, position: tuple[int, int, int], value: int, positive: bool) -> float:
        """Put the clicked error right; returns the seconds it took."""
        started = time.perf_counter()
        true = self.reference == value
        wrong = (self.labelmap == value) != true
        if wrong[position] and bool(true[position]) == positive:
            if self.same_sign:
                wrong &= true == positive
            if self.slice_axis is not None:
                elsewhere = np.arange(wrong.shape[self.slice_axis]) != position[self.slice_axis]
                np.moveaxis(wrong, self.slice_axis, 0)[elsewhere] = False
            numbered, _ = ndimage.label(wrong)
            error = numbered == numbered[position]
            self.labelmap[error & true] = value
            self.labelmap[error & ~true] = 0
        return time.perf_counter() - started
