"""Classical corrections that take the same clicks: region growing, a GrowCut-like watershed, a brush."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Position = tuple[int, int, int]
Box = tuple[slice, slice, slice]


class Tool(Protocol):
    """Something that corrects a labelmap by clicks."""

    labelmap: NDArray[np.uint8]

    def click(self, position: Position, value: int, positive: bool) -> float:
        """Correct around a voxel and return the seconds it took."""
        ...


@dataclass
class ClassicalTool:
    """What the classical tools share: image, labelmap, and the box around a click that they work in.

    Attributes:
        image: (D, H, W) intensities.
        spacing_mm: Voxel size.
        labelmap: (D, H, W), changed in place.
        reach_mm: Half side of the box, within a slice and across slices.
    """

    image: NDArray[np.generic]
    spacing_mm: tuple[float, float, float]
    labelmap: NDArray[np.uint8]
    reach_mm: float = 60.0

    def click(self, position: Position, value: int, positive: bool) -> float:
        """Correct around a voxel: the region that the tool finds gets the label, or loses it."""
        started = time.perf_counter()
        box = self.box(position)
        local = tuple(p - piece.start for p, piece in zip(position, box))
        region = self.region(box, (local[0], local[1], local[2]), value, positive)
        labels = self.labelmap[box]
        labels[region if positive else region & (labels == value)] = value if positive else 0
        return time.perf_counter() - started

    def region(self, box: Box, seed: Position, value: int, positive: bool) -> NDArray[np.bool_]:
        """Return the region to change, as a mask of the box that contains the seed."""
        raise NotImplementedError

    def box(self, position: Position) -> Box:
        """The part of the volume within reach of a click."""
        ranges = []
        for p, length, spacing in zip(position, self.labelmap.shape, self.spacing_mm):
            half = round(self.reach_mm / spacing)
            ranges.append(slice(max(0, p - half), min(length, p + half + 1)))
        return ranges[0], ranges[1], ranges[2]

    def distance_mm(self, shape: tuple[int, ...], seed: Position) -> NDArray[np.float64]:
        """Distance of each voxel of a box from a seed."""
        axes = np.ogrid[tuple(slice(0, n) for n in shape)]
        return np.sqrt(sum(((axis - s) * mm) ** 2 for axis, s, mm in zip(axes, seed, self.spacing_mm)))

    def as_image(self, array: NDArray[np.generic]) -> sitk.Image:
        """A SimpleITK image with the volume's spacing."""
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(tuple(reversed(self.spacing_mm)))
        return image


@dataclass
class Brush(ClassicalTool):
    """A sphere brush of 5 mm radius."""

    radius_mm: float = 5.0

    def region(self, box: Box, seed: Position, value: int, positive: bool) -> NDArray[np.bool_]:
        """Return the voxels under the brush."""
        shape = tuple(piece.stop - piece.start for piece in box)
        return np.asarray(self.distance_mm(shape, seed) <= self.radius_mm)


@dataclass
class RegionGrowing(ClassicalTool):
    """Confidence-connected region growing from the click, in a smoothed image; the brush where it finds nothing.

    Growth is limited to the label's complement (adding) or the label (removing), as Slicer's tools do with masking.
    """

    multiplier: float = 2.0
    radius_mm: float = 5.0

    def region(self, box: Box, seed: Position, value: int, positive: bool) -> NDArray[np.bool_]:
        """Return the grown region and the brush's sphere that makes sure of the click."""
        allowed = (self.labelmap[box] == value) != positive
        smooth = sitk.CurvatureFlow(self.as_image(self.image[box].astype(np.float32)), 0.0625, 3)
        masked = sitk.GetArrayFromImage(smooth)
        masked[~allowed] = masked.min() - 1000
        index = tuple(int(s) for s in reversed(seed))
        grown = sitk.ConfidenceConnected(self.as_image(masked), [index], 2, self.multiplier, 2, 1)
        sphere = self.distance_mm(allowed.shape, seed) <= self.radius_mm
        return np.asarray(((sitk.GetArrayFromImage(grown) > 0) & allowed) | sphere)


@dataclass
class SeededWatershed(ClassicalTool):
    """What GrowCut does, by a watershed of the gradient from the same kinds of seeds.

    Seeds of the wanted side: a ball around the click and, where that side is labelled already, its inside. Seeds of the
    other side: its inside away from the click, and the shell of the box.
    """

    reach_mm: float = 30.0
    radius_mm: float = 3.0
    inside_mm: float = 6.0
    free_mm: float = 20.0

    def region(self, box: Box, seed: Position, value: int, positive: bool) -> NDArray[np.bool_]:
        """Return the basin of the wanted side, limited to what it lacks."""
        wanted = (self.labelmap[box] == value) == positive
        distance = self.distance_mm(wanted.shape, seed)
        markers = np.zeros(wanted.shape, dtype=np.uint8)
        markers[self.inner(~wanted) & (distance > self.free_mm)] = 2
        shell = np.ones(wanted.shape, bool)
        shell[tuple(slice(1, -1) if n > 2 else slice(None) for n in wanted.shape)] = False
        markers[shell & ~wanted] = 2
        markers[self.inner(wanted)] = 1
        markers[distance <= self.radius_mm] = 1
        gradient = sitk.GradientMagnitudeRecursiveGaussian(self.as_image(self.image[box].astype(np.float32)), 1.5)
        basins = sitk.MorphologicalWatershedFromMarkers(gradient, self.as_image(markers), markWatershedLine=False)
        return np.asarray((sitk.GetArrayFromImage(basins) == 1) & ~wanted)

    def inner(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Voxels deeper inside a mask than `inside_mm`."""
        if not mask.any() or mask.all():
            return mask & False
        depth = sitk.SignedMaurerDistanceMap(
            self.as_image(mask.astype(np.uint8)), insideIsPositive=True, squaredDistance=False, useImageSpacing=True
        )
        return np.asarray(sitk.GetArrayFromImage(depth) > self.inside_mm)


CLASSICAL_TOOLS: dict[str, type[ClassicalTool]] = {
    "region growing": RegionGrowing,
    "seeded watershed": SeededWatershed,
    "brush": Brush,
}
