"""Volumes as arrays with a place in the patient, and their canonical orientation.

Arrays are (D, H, W) = numpy KJI, as SimpleITK and Slicer give them: axis 0 is the slowest file axis K. Points and
directions are LPS in mm, as in DICOM and ITK.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError

ORTHONORMALITY_TOLERANCE = 1e-2
"""Largest deviation of the direction matrix's columns from orthonormality that scanners' rounding explains."""

COSINE_DECIMALS = 3
"""Direction cosines that agree to so many decimals count as equal, so that rounding in a header decides nothing."""

LEFT, POSTERIOR, SUPERIOR = 0, 1, 2
"""Components of an LPS vector."""


@dataclass(frozen=True)
class Volume:
    """A scalar volume on a regular grid.

    Attributes:
        array: (D, H, W) voxels.
        spacing_mm: Voxel size along the array axes (D, H, W), in mm.
        direction: (3, 3); column a is the LPS unit vector along which array axis a (D, H, W) advances.
        origin_mm: LPS position of the centre of voxel (0, 0, 0), in mm.
    """

    array: NDArray[np.generic]
    spacing_mm: tuple[float, float, float]
    direction: NDArray[np.float64]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Orientation:
    """A permutation and flips of array axes, without interpolation, so it can be undone voxel for voxel."""

    permutation: tuple[int, int, int]
    """Canonical axis i is source axis permutation[i]."""
    flips: tuple[bool, bool, bool]
    """Whether canonical axis i runs against its source axis."""

    def apply(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a view of a (D, H, W) array in canonical orientation."""
        steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)
        return array.transpose(self.permutation)[steps]

    def invert(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Undo `apply`; returns a view."""
        steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)
        return array[steps].transpose(np.argsort(self.permutation))

    def invert_box(self, box: tuple[slice, slice, slice], shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
        """Return where a box of the canonical array (of that canonical shape) lies in the source array."""
        source = [slice(0, 0)] * 3
        for axis, (piece, length, flip) in enumerate(zip(box, shape, self.flips)):
            low, high = (length - piece.stop, length - piece.start) if flip else (piece.start, piece.stop)
            source[self.permutation[axis]] = slice(low, high)
        return (source[0], source[1], source[2])


def check_geometry(volume: Volume) -> None:
    """Raise InvalidInputError unless spacing is positive and the direction matrix is orthonormal."""
    spacing = volume.spacing_mm
    if not all(np.isfinite(s) and s > 0 for s in spacing):
        raise InvalidInputError(
            f"The voxel spacing is {tuple(spacing)} mm (D, H, W), but must be positive. Correct the image header, "
            f"for example in Slicer's Volumes module under Volume Information."
        )
    direction = np.asarray(volume.direction, dtype=np.float64)
    if direction.shape != (3, 3) or not np.isfinite(direction).all():
        raise InvalidInputError("The direction matrix is not a finite 3x3 matrix. Correct the image header.")
    deviation = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if deviation > ORTHONORMALITY_TOLERANCE:
        raise InvalidInputError(
            f"The image axes are not orthonormal (deviation {deviation:.3f}): the volume is sheared, as after a gantry "
            f"tilt or a non-rigid transform. Resample it to a regular grid first (Slicer: Resample Scalar Volume)."
        )


def canonical_orientation(volume: Volume, slice_axis: str) -> Orientation:
    """Return the permutation and flips that bring a volume nearest to (superior, posterior, left) axes.

    Args:
        volume: The volume; its direction may be oblique.
        slice_axis: "axial": axis 0 becomes the axis nearest to superior. "acquisition": axis 0 becomes the axis of
            largest spacing (the nearest to superior, then to posterior, among equals).

    Returns:
        Orientation; afterwards axis 2 is the in-plane axis nearest to left (to posterior in sagittal slices), and the
        axes advance towards superior, posterior and left as closely as the flips allow. With "acquisition", where
        slices may lie in any plane, axes 0 and 1 advance along the positive direction of their nearest patient axis.
        The result depends on where the voxels lie, not on the order in which the array holds them, except between two
        axes that are equally near, turned by exactly 45 degrees.
    """
    direction = np.asarray(volume.direction, dtype=np.float64)
    cosines = np.abs(direction).round(COSINE_DECIMALS)
    axial = slice_axis == "axial"
    if axial:
        through = int(np.argmax(cosines[SUPERIOR]))
    else:
        spacing = np.asarray(volume.spacing_mm)
        thickest = np.flatnonzero(spacing >= 0.99 * spacing.max())
        through = int(max(thickest, key=lambda axis: (cosines[SUPERIOR, axis], cosines[POSTERIOR, axis])))
    in_plane = [axis for axis in range(3) if axis != through]
    columns = max(in_plane, key=lambda axis: (cosines[LEFT, axis], cosines[POSTERIOR, axis]))
    rows = next(axis for axis in in_plane if axis != columns)
    return Orientation(
        (through, rows, columns),
        (
            _runs_against(direction[:, through], SUPERIOR if axial else None),
            _runs_against(direction[:, rows], POSTERIOR if axial else None),
            _runs_against(direction[:, columns], LEFT),
        ),
    )


def _runs_against(axis: NDArray[np.float64], component: Optional[int]) -> bool:
    """Whether an axis has a negative LPS component; its largest one when the given one is None or practically 0."""
    if component is None or abs(axis[component]) < 10**-COSINE_DECIMALS:
        component = int(np.argmax(np.abs(axis).round(COSINE_DECIMALS)))
    return bool(axis[component] < 0)


def reorient(volume: Volume, orientation: Orientation) -> Volume:
    """Return the volume with its axes permuted and flipped; the voxels keep their places in the patient."""
    permutation, flips = list(orientation.permutation), orientation.flips
    direction = np.asarray(volume.direction, dtype=np.float64)[:, permutation]
    spacing = np.asarray(volume.spacing_mm)[permutation]
    shape = np.asarray(volume.array.shape)[permutation]
    origin = np.asarray(volume.origin_mm, dtype=np.float64)
    for axis, flip in enumerate(flips):
        if flip:
            origin = origin + direction[:, axis] * spacing[axis] * (shape[axis] - 1)
            direction[:, axis] *= -1
    return replace(
        volume,
        array=orientation.apply(volume.array),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        direction=direction,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
    )
