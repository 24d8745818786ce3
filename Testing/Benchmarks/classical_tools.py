"""Classical corrections that take the same clicks: region growing, Slicer's GrowCut, a watershed, a brush.

Reach, multiplier and seeds are those that did best of several on the bundled CT (mean Dice of 7 organs after 5 clicks),
which is none of the cases that the benchmark is run on. Where another reach is better from scratch, the tools that
start with an empty labelmap take that one.
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from typing import Any, Optional, Protocol

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

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
        scratch_reach_mm: The same for tools that start with an empty labelmap; None for `reach_mm`.
    """

    image: NDArray[np.generic]
    spacing_mm: tuple[float, float, float]
    labelmap: NDArray[np.uint8]
    reach_mm: float = 60.0
    scratch_reach_mm: Optional[float] = None

    def __post_init__(self) -> None:
        if self.scratch_reach_mm is not None and not self.labelmap.any():
            self.reach_mm = self.scratch_reach_mm

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
    """Confidence-connected region growing from the click in a smoothed image, and the brush's ball around the click.

    It grows through voxels that lack the label (adding) or have it (removing), as Slicer's tools do with masking, and
    its statistics are of such voxels only: neighbours beyond the border of the label do not blur them.
    """

    reach_mm: float = 20.0
    multiplier: float = 2.5
    radius_mm: float = 5.0
    rounds: int = 3
    least_deviation: float = 5.0
    """Grey values; a flat neighbourhood must not keep the region from growing."""

    def region(self, box: Box, seed: Position, value: int, positive: bool) -> NDArray[np.bool_]:
        """Return the grown region and the brush's ball that makes sure of the click."""
        allowed = (self.labelmap[box] == value) != positive
        smooth = sitk.GetArrayFromImage(
            sitk.CurvatureFlow(self.as_image(self.image[box].astype(np.float32)), 0.0625, 3)
        )
        distance = self.distance_mm(allowed.shape, seed)
        ball = distance <= self.radius_mm
        grown = ball & allowed
        for _ in range(self.rounds):
            if not grown.any():
                break
            known = smooth[grown]
            spread = self.multiplier * max(float(known.std()), self.least_deviation)
            alike = allowed & (np.abs(smooth - known.mean()) <= spread)
            parts, _ = ndimage.label(alike | (ball & allowed))
            touched = np.unique(parts[ball & allowed])
            grown = np.isin(parts, touched[touched > 0])
        return np.asarray(grown | ball)


@dataclass
class SeededTool(ClassicalTool):
    """What tools have in common that split the box between two kinds of seeds.

    Seeds of the wanted side: a ball around the click and, where that side is labelled already, its inside. Seeds of the
    other side: its inside away from the click, and the shell of the box.
    """

    reach_mm: float = 30.0
    scratch_reach_mm: Optional[float] = 45.0
    radius_mm: float = 3.0
    inside_mm: float = 6.0
    free_mm: float = 20.0

    def region(self, box: Box, seed: Position, value: int, positive: bool) -> NDArray[np.bool_]:
        """Return what the wanted side wins, limited to what it lacks."""
        wanted = (self.labelmap[box] == value) == positive
        distance = self.distance_mm(wanted.shape, seed)
        markers = np.zeros(wanted.shape, dtype=np.uint8)
        markers[self.inner(~wanted) & (distance > self.free_mm)] = 2
        shell = np.ones(wanted.shape, bool)
        shell[tuple(slice(2, -2) if n > 4 else slice(None) for n in wanted.shape)] = False
        markers[shell & ~wanted] = 2
        markers[self.inner(wanted)] = 1
        markers[distance <= self.radius_mm] = 1
        return np.asarray((self.split(box, markers) == 1) & ~wanted)

    def split(self, box: Box, markers: NDArray[np.uint8]) -> NDArray[np.generic]:
        """Return which side each voxel of a box belongs to, 1 or 2, given seeds of both."""
        raise NotImplementedError

    def inner(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Voxels deeper inside a mask than `inside_mm`."""
        if not mask.any() or mask.all():
            return mask & False
        depth = sitk.SignedMaurerDistanceMap(
            self.as_image(mask.astype(np.uint8)), insideIsPositive=True, squaredDistance=False, useImageSpacing=True
        )
        return np.asarray(sitk.GetArrayFromImage(depth) > self.inside_mm)


@dataclass
class SeededWatershed(SeededTool):
    """A watershed of the gradient."""

    sigma_mm: float = 1.5

    def split(self, box: Box, markers: NDArray[np.uint8]) -> NDArray[np.generic]:
        """Return the basins."""
        image = self.as_image(self.image[box].astype(np.float32))
        gradient = sitk.GradientMagnitudeRecursiveGaussian(image, self.sigma_mm)
        basins = sitk.MorphologicalWatershedFromMarkers(gradient, self.as_image(markers), markWatershedLine=False)
        return np.asarray(sitk.GetArrayFromImage(basins))


@dataclass
class GrowCut(SeededTool):
    """GrowCut as Slicer's effect "Grow from seeds" has it: Slicer's own filter."""

    inside_mm: float = 3.0
    distance_penalty: float = 0.0

    def split(self, box: Box, markers: NDArray[np.uint8]) -> NDArray[np.generic]:
        """Return the regions that the seeds have won."""
        import slicer

        grow = slicer.vtkImageGrowCutSegment()
        grow.SetDistancePenalty(self.distance_penalty)
        grow.SetIntensityVolume(self.as_vtk(self.image[box].astype(np.int16)))
        grow.SetSeedLabelVolume(self.as_vtk(markers))
        grow.Update()
        scalars = grow.GetOutput().GetPointData().GetScalars()
        return np.asarray(numpy_support.vtk_to_numpy(scalars).reshape(markers.shape))

    def as_vtk(self, array: NDArray[np.generic]) -> Any:
        """A VTK image with the volume's spacing."""
        image = vtk.vtkImageData()
        image.SetDimensions(*reversed(array.shape))
        image.SetSpacing(*reversed(self.spacing_mm))
        image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True))
        return image


CLASSICAL_TOOLS: dict[str, type[ClassicalTool]] = {
    "region growing": RegionGrowing,
    "seeded watershed": SeededWatershed,
    "brush": Brush,
}

try:
    import vtk
    from vtk.util import numpy_support
except ImportError:
    # Without slicer-core there is no GrowCut to compare with.
    pass
else:
    if importlib.util.find_spec("slicer") is not None:
        CLASSICAL_TOOLS["GrowCut"] = GrowCut
