"""Segments of a stored segmentation as one labelmap on the grid of a volume."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.segmentation_reader import Segment, Segmentation

EDGE_VOXELS = 0.6
"""How far, in voxels, the centre of a segment's voxel may lie beyond the centres of the volume's outermost ones."""


def labelmap_on(
    volume: Volume, segmentation: Segmentation, segments: Mapping[int, Segment], ordered: bool
) -> NDArray[np.uint8]:
    """Return the segments as one labelmap on the volume's grid.

    Segmentations may cover a part of the volume, as Slicer stores them. Those on another grid, such as one with
    smaller voxels, are sampled at the centres of the volume's voxels.

    Args:
        volume: The grid.
        segmentation: What was read.
        segments: Label value -> segment, in the order of the labels.
        ordered: Where segments overlap, the later label wins; otherwise overlaps are refused.

    Returns:
        (D, H, W).

    Raises:
        InvalidInputError: A segment reaches beyond the volume, or segments overlap.
    """
    labelmap = np.zeros(volume.array.shape, dtype=np.uint8)
    for value, segment in segments.items():
        stored = segmentation.mask(segment)
        if not stored.any():
            continue
        beyond = _beyond(stored, segmentation.geometry, volume)
        if beyond > EDGE_VOXELS:
            raise InvalidInputError(
                f"the segment '{segment.title}' reaches {beyond:.0f} voxels beyond the volume. Give the volume that it "
                f"was made on."
            )
        mask = segmentation.mask(segment, volume)
        if not ordered:
            _refuse_overlap(segment, labelmap[mask], segments)
        labelmap[mask] = value
    return labelmap


def _beyond(mask: NDArray[np.bool_], stored: Volume, volume: Volume) -> float:
    """How far the bounding box of a mask reaches beyond a volume, in the volume's voxels; 0 if it lies within."""
    ranges = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    corners = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (corners * np.asarray(stored.spacing_mm)) @ np.asarray(stored.direction).T + np.asarray(stored.origin_mm)
    indices = (points - np.asarray(volume.origin_mm)) @ np.asarray(volume.direction) / np.asarray(volume.spacing_mm)
    last = np.asarray(volume.array.shape) - 1
    return float(max(0.0, (-indices).max(), (indices - last).max()))


def _refuse_overlap(segment: Segment, others: NDArray[np.uint8], segments: Mapping[int, Segment]) -> None:
    counts = np.bincount(others, minlength=1)
    for value in np.flatnonzero(counts[1:]) + 1:
        raise InvalidInputError(
            f"the segments '{segments[int(value)].title}' and '{segment.title}' overlap in {counts[value]} voxels. "
            f"Separate them, or give the labels in an order in which the later ones win: --labels OUTER,INNER."
        )
