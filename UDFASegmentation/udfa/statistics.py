"""Volumes and intensities per label. Slab by slab, so that no array of the size of the volume is made."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.labels import Label

LABEL_VALUES = 256
"""Values that a uint8 labelmap can hold."""

SLAB_VOXELS = 1 << 22
"""About this many voxels are worked on at a time."""

CSV_COLUMNS = ("label", "title", "value", "voxels", "volume_ml", "mean_intensity", "sd_intensity")


@dataclass(frozen=True)
class LabelStatistics:
    """Size and intensity of one label."""

    value: int
    """Value in the labelmap."""
    name: str
    title: str
    voxels: int
    volume_ml: float
    mean_intensity: float
    """Mean of the image inside the label (HU for CT); NaN when the label is empty."""
    sd_intensity: float
    """Standard deviation inside the label, with divisor n; NaN when the label is empty."""


def slab_slices(shape: tuple[int, ...]) -> list[slice]:
    """Return slices along axis 0 that cut a (D, H, W) array into slabs of about SLAB_VOXELS voxels."""
    depth, plane = shape[0], max(1, math.prod(shape[1:]))
    step = max(1, SLAB_VOXELS // plane)
    return [slice(start, min(depth, start + step)) for start in range(0, depth, step)]


def voxel_counts(labelmap: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the voxels of every value. (D, H, W) uint8 -> (256,)."""
    counts = np.zeros(LABEL_VALUES, dtype=np.int64)
    for slab in slab_slices(labelmap.shape):
        counts += np.bincount(labelmap[slab].ravel(), minlength=LABEL_VALUES)
    return counts


def label_statistics(labelmap: NDArray[np.uint8], image: Volume, labels: dict[int, Label]) -> list[LabelStatistics]:
    """Measure labels.

    Args:
        labelmap: (D, H, W) on the image's grid.
        image: The image that was segmented.
        labels: Label value to label; one row is returned for each, also for those that are empty.

    Raises:
        InvalidInputError: Labelmap and image have different shapes, or the labelmap is not of type uint8.
    """
    if labelmap.shape != image.array.shape:
        raise InvalidInputError(
            f"The labelmap has shape {labelmap.shape}, the image {image.array.shape}; they must lie on the same grid."
        )
    if labelmap.dtype != np.uint8:
        raise InvalidInputError(f"The labelmap is of type {labelmap.dtype}, but uint8 is needed. Convert it first.")
    counts, means, squares = _moments(labelmap, image.array)
    voxel_ml = math.prod(image.spacing_mm) / 1000
    rows = []
    for value, label in labels.items():
        voxels = int(counts[value])
        mean = float(means[value]) if voxels else math.nan
        deviation = math.sqrt(float(squares[value]) / voxels) if voxels else math.nan
        rows.append(LabelStatistics(value, label.name, label.title, voxels, voxels * voxel_ml, mean, deviation))
    return rows


def _moments(
    labelmap: NDArray[np.uint8], array: NDArray[np.generic]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Voxel count, mean and summed squared deviation per value; each (256,).

    Slabs are merged by the parallel form of Welford's method, which does not lose digits when the mean is large.
    """
    counts = np.zeros(LABEL_VALUES, dtype=np.int64)
    means = np.zeros(LABEL_VALUES)
    squares = np.zeros(LABEL_VALUES)
    for slab in slab_slices(labelmap.shape):
        values = labelmap[slab].ravel()
        intensities = array[slab].astype(np.float64).ravel()
        slab_counts = np.bincount(values, minlength=LABEL_VALUES)
        sums = np.bincount(values, weights=intensities, minlength=LABEL_VALUES)
        slab_means = sums / np.maximum(slab_counts, 1)
        intensities -= slab_means[values]
        slab_squares = np.bincount(values, weights=intensities**2, minlength=LABEL_VALUES)
        total = np.maximum(counts + slab_counts, 1)
        gap = slab_means - means
        squares += slab_squares + gap**2 * counts * slab_counts / total
        means += gap * slab_counts / total
        counts += slab_counts
    return counts, means, squares


def write_csv(path: Path, rows: Sequence[LabelStatistics]) -> None:
    """Write one line per label, empty intensities for empty labels. Written aside, never half."""
    from udfa.volume_io import written_aside

    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        format_csv(file, rows)


def format_csv(file: IO[str], rows: Sequence[LabelStatistics]) -> None:
    """Write the CSV lines to an open text file (opened with newline="")."""
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow(
            (
                row.name,
                row.title,
                row.value,
                row.voxels,
                f"{row.volume_ml:.3f}",
                "" if math.isnan(row.mean_intensity) else f"{row.mean_intensity:.3f}",
                "" if math.isnan(row.sd_intensity) else f"{row.sd_intensity:.3f}",
            )
        )
