"""A stored segmentation as one labelmap for correction: the model's labels under its values, all else kept beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.labels import Label
from udfa.segmentation_reader import Segment, Segmentation

SPACING_TOLERANCE = 1e-3
"""Relative difference of spacings, and difference of direction cosines, that rounding in a header explains."""

OFFSET_TOLERANCE = 0.05
"""Shift between two grids, in voxels, that rounding in a header explains."""

LARGEST_VALUE = 255

LISTED_SEGMENTS = 10
"""At most so many segments are named in a message; an image taken for a labelmap has thousands of values."""


@dataclass(frozen=True)
class KeptLabel(Label):
    """The label of a stored segment, with its terminology exactly as it was stored.

    Attributes:
        stored_terminology: Slicer's serialised entry, or None.
    """

    stored_terminology: Optional[str] = None

    def terminology(self) -> Optional[str]:
        """Return the stored entry."""
        return self.stored_terminology


@dataclass(frozen=True)
class Composition:
    """A labelmap for a session, and what its values mean.

    Attributes:
        labelmap: (D, H, W) uint8 on the volume's grid: the model's values 1..K, above them the other segments.
        reference: The volume.
        labels: Value to label: as stored for the segments of the file, as in the model for its other labels.
    """

    labelmap: NDArray[np.uint8]
    reference: Volume
    labels: dict[int, Label]


def compose(segmentation: Segmentation, volume: Volume, labels: Sequence[Label]) -> Composition:
    """Map the segments to the model's labels by ID, terminology or name, and keep the others as they are.

    Args:
        segmentation: What was read.
        volume: The volume to which it should belong.
        labels: The model's labels 1..K.

    Raises:
        InvalidInputError: The grids do not fit, no segment is one of the model's labels, segments overlap, or there
            are more than 255.
    """
    check_grid(segmentation, volume)
    mapped = {value: segmentation.find(label) for value, label in enumerate(labels, start=1)}
    known = {value: segment for value, segment in mapped.items() if segment is not None}
    if segmentation.segments and not known:
        titles = ", ".join(repr(segment.title) for segment in segmentation.segments[:LISTED_SEGMENTS])
        more = len(segmentation.segments) - LISTED_SEGMENTS
        titles += f" and {more} more" if more > 0 else ""
        raise InvalidInputError(
            f"None of the segments ({titles}) is one of the model's labels ({', '.join(label.name for label in labels)}"
            f"). Name the segments so, or give a labelmap with the JSON that was written beside it."
        )
    taken = {segment.id for segment in known.values()}
    others = [segment for segment in segmentation.segments if segment.id not in taken]
    values = {**known, **dict(zip(_free_values(others, len(labels)), others))}
    names: dict[int, Label] = dict(enumerate(labels, start=1))
    names.update({value: kept_label(segment) for value, segment in values.items()})
    return Composition(_merged(segmentation, volume, values), volume, names)


def kept_label(segment: Segment) -> KeptLabel:
    """Return a stored segment as a label."""
    return KeptLabel(segment.id, segment.title, segment.color, stored_terminology=segment.terminology)


def _free_values(others: Sequence[Segment], last_known: int) -> list[int]:
    """Values for segments that the model does not know: above its own, those they have where possible."""
    own = [segment.value for segment in others]
    if all(last_known < value <= LARGEST_VALUE for value in own) and len(set(own)) == len(own):
        return own
    if last_known + len(others) > LARGEST_VALUE:
        raise InvalidInputError(
            f"The model's {last_known} labels and {len(others)} other segments are more than {LARGEST_VALUE}. "
            f"Remove segments that are not needed."
        )
    return list(range(last_known + 1, last_known + 1 + len(others)))


def _merged(segmentation: Segmentation, volume: Volume, values: dict[int, Segment]) -> NDArray[np.uint8]:
    """Put all segments into one labelmap on the volume's grid; none may overlap another."""
    labelmap = np.zeros(volume.array.shape, dtype=np.uint8)
    for value, segment in values.items():
        mask = segmentation.mask(segment, volume)
        stored = int(np.count_nonzero(segmentation.layers[segment.layer] == segment.value))
        if int(np.count_nonzero(mask)) != stored:
            raise InvalidInputError(
                f"The segment '{segment.title}' reaches beyond the volume ({np.count_nonzero(mask)} of {stored} voxels "
                f"lie inside). Give the volume that it was made on."
            )
        overlapped = np.unique(labelmap[mask])
        for other in overlapped[overlapped > 0]:
            raise InvalidInputError(
                f"The segments '{values[int(other)].title}' and '{segment.title}' overlap; a labelmap cannot hold "
                f"both. Separate them (Slicer: Segment Editor, Masking), or correct them in the module."
            )
        labelmap[mask] = value
    return labelmap


def check_grid(segmentation: Segmentation, volume: Volume) -> None:
    """Raise InvalidInputError unless the segmentation's voxels are voxels of the volume; it may cover a part of it."""
    stored = segmentation.geometry
    spacing = np.asarray(volume.spacing_mm)
    apart = np.abs(np.asarray(stored.spacing_mm) / spacing - 1).max()
    turned = np.abs(np.asarray(stored.direction) - np.asarray(volume.direction)).max()
    if apart > SPACING_TOLERANCE or turned > SPACING_TOLERANCE:
        raise InvalidInputError(
            f"Segmentation and volume lie on different grids: spacing {_numbers(stored.spacing_mm)} and "
            f"{_numbers(volume.spacing_mm)} mm (K, J, I), axes {'turned' if turned > SPACING_TOLERANCE else 'equal'}. "
            f"Give the volume that was segmented, or resample one of them."
        )
    shift = np.asarray(stored.origin_mm) - np.asarray(volume.origin_mm)
    offset = (np.asarray(volume.direction).T @ shift) / spacing
    if np.abs(offset - np.rint(offset)).max() > OFFSET_TOLERANCE:
        raise InvalidInputError(
            f"The segmentation's grid is shifted against the volume's by {_numbers(offset)} voxels (K, J, I), no whole "
            f"number. Give the volume that was segmented, or resample one of them."
        )


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in np.round(values, 4))
