"""Segments as one labelmap, also where they overlap: what the session believes stands as long as the segments allow it.

A voxel may lie in several segments, a labelmap has one value. Were it chosen afresh at each look, every overlap would
look like an edit by hand, and the clicks would not follow an undo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from UDFASegmentationLib.ClickGrid import ClickGrid
from UDFASegmentationLib.ClickLabels import LabelMatch
from UDFASegmentationLib.SegmentationWriter import LABELMAP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from udfa.history import Box


@dataclass(frozen=True)
class Layer:
    """Segments that share one image, so that they do not overlap.

    Attributes:
        box: Where the image lies on the volume's grid.
        voxels: (d, h, w) of the box, with voxels of its own.
        values: Model value, or the one that stands for other segments, by value in the image.
    """

    box: Box
    voxels: NDArray[np.generic]
    values: dict[int, int]

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(d, h, w) model values, 0 where there is no segment."""
        labels = np.zeros(self.voxels.shape, dtype=np.uint8)
        for key, value in self.values.items():
            labels[self.voxels == key] = value
        return labels


@dataclass(frozen=True)
class SegmentLayers:
    """All segments of a segmentation, as they were at one moment.

    Attributes:
        layers: The images.
        shape: (D, H, W) of the volume's grid.
        otherValue: Stands for all segments that the model does not know.
        firstValue: Wins where segments overlap and nothing else is known: that of the selected segment.
    """

    layers: tuple[Layer, ...]
    shape: tuple[int, int, int]
    otherValue: int
    firstValue: int


def readLayers(grid: ClickGrid, match: LabelMatch, segmentID: str) -> SegmentLayers:
    """Copy the segments from the scene. Call it on the main thread.

    Args:
        grid: Grid of the source volume.
        match: Segments of the labels.
        segmentID: The selected segment.

    Raises:
        InvalidInputError: A segment is not on the volume's grid.
    """
    segmentation = grid.segmentationNode.GetSegmentation()
    values = {**dict.fromkeys(match.others, match.otherValue), **match.values}
    images: dict[str, tuple[Any, dict[int, int]]] = {}
    for one, value in values.items():
        segment = segmentation.GetSegment(one)
        image = segment.GetRepresentation(LABELMAP)
        if image is not None and not image.IsEmpty():
            images.setdefault(image.GetAddressAsString(""), (image, {}))[1][segment.GetLabelValue()] = value
    found = []
    for image, named in images.values():
        part = grid.partOf(image)
        if part is not None:
            found.append(Layer(part[0], part[1].copy(), named))
    return SegmentLayers(tuple(found), grid.shape, match.otherValue, match.values.get(segmentID, 0))


class LayerReader:
    """Turns layers into the labelmap of a session."""

    def __init__(self) -> None:
        self._others: Optional[NDArray[np.bool_]] = None
        self._last: Optional[SegmentLayers] = None
        """As they were at the last look; None if the session has edited since, or if what it has says as much."""
        self._apart = False
        """Whether no segments overlapped at the last look, and the session has not edited since."""

    def noteEdit(self) -> None:
        """The session changes segments by itself: what they gain from now on is not somebody else's doing."""
        self._last, self._apart = None, False

    def labelmap(self, segments: SegmentLayers, belief: Optional[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the segments as one labelmap.

        Args:
            segments: As they are now.
            belief: (D, H, W) what the session has; None at its beginning.

        Returns:
            (D, H, W) uint8.
        """
        labelmap = np.zeros(segments.shape, dtype=np.uint8)
        others = np.zeros(segments.shape, dtype=bool)
        known = sorted({value for layer in segments.layers for value in layer.values.values()})
        last = [value for value in known if value == segments.firstValue]
        order = [value for value in known if value == segments.otherValue]
        order += [value for value in known if value not in (segments.otherValue, segments.firstValue)] + last
        if len(segments.layers) == 1:
            # The usual case. Nothing overlaps.
            (layer,) = segments.layers
            labelmap[layer.box] = layer.labels
        for value in order if len(segments.layers) > 1 else ():
            for layer, mask in _masks(segments.layers, value):
                labelmap[layer.box][mask] = value
        for layer, mask in _masks(segments.layers, segments.otherValue):
            others[layer.box] |= mask
        if belief is not None:
            # Within one layer nothing overlaps.
            several = known if len(segments.layers) > 1 else []
            for value in several:
                for layer, mask in _masks(segments.layers, value):
                    if value != segments.otherValue:
                        labelmap[layer.box][mask & (belief[layer.box] == value)] = value
            for value in several:
                # What a segment has gained since the last look was just redone or painted, over whatever is there.
                for layer, mask in [] if value == segments.otherValue else _masks(segments.layers, value):
                    labelmap[layer.box][mask & self._lacked(layer.box, value, belief)] = value
            if self._others is not None:
                # A label was taken off what another segment covers as well: for the session it is background.
                seen = (labelmap == segments.otherValue) & self._others
                labelmap[seen & (belief != segments.otherValue)] = 0
        self._others = others
        self._apart = len(segments.layers) < 2
        self._last = None if self._apart else segments
        return labelmap

    def _lacked(self, box: Box, value: int, belief: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Where in a box a segment was not at the last look; nowhere if nobody knows."""
        if self._apart:
            return np.asarray(belief[box] != value)
        had = np.full(belief.shape, self._last is None)
        for layer, mask in () if self._last is None else _masks(self._last.layers, value):
            had[layer.box] |= mask
        return np.asarray(~had[box])


def _masks(layers: Sequence[Layer], value: int) -> list[tuple[Layer, NDArray[np.bool_]]]:
    """The voxels of a value in the layers that have it."""
    return [(layer, layer.labels == value) for layer in layers if value in layer.values.values()]
