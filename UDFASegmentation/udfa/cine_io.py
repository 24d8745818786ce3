"""Cine series: reading 4D files and Slicer's sequences, writing labelmaps of all frames on the same grid.

A sequence of Slicer (`.seq.nrrd`) has an axis of kind "list", which SimpleITK reads as components of a 3D image. Other
files are 4D images, whose last axis is the time. Files and frames are checked where those of one volume are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import ORTHONORMALITY_TOLERANCE, Volume
from udfa.volume_io import VOLUME_SUFFIXES, image_from_array, read_image, volume_from_image

SEQUENCE_SUFFIX = ".seq.nrrd"
"""Slicer's sequences."""

FRAME_KIND = "list"
"""Kind of an NRRD axis that holds frames; others hold colours or the components of vectors."""


@dataclass(frozen=True)
class CineSeries:
    """The frames of a series, all on one grid.

    Attributes:
        frames: In the order of time, at least two.
        index_values: Where a frame lies in the series, such as "end-systole" or "33.5"; empty when the file does not
            say.
        index_name: What the index values are, such as "phase"; may be empty.
        start: Place of the first frame on the file's time axis, in the file's unit.
        step: Distance of two frames there.
    """

    frames: tuple[Volume, ...]
    index_values: tuple[str, ...] = ()
    index_name: str = ""
    start: float = 0.0
    step: float = 1.0

    def index_value(self, frame: int) -> str:
        """Return the index value of a frame (from 0); empty when it is not known."""
        return self.index_values[frame] if self.index_values else ""

    def title(self, frame: int) -> str:
        """Return what people read, counted from 1: "frame 2 (phase end-systole)"."""
        value = f"{self.index_name} {self.index_value(frame)}".strip() if self.index_values else ""
        return f"frame {frame + 1} ({value})" if value else f"frame {frame + 1}"


def series_name(path: Path) -> str:
    """Return the file name of a series without its ending: "heart" of "heart.seq.nrrd"."""
    endings = (s for s in (SEQUENCE_SUFFIX, *VOLUME_SUFFIXES) if path.name.lower().endswith(s))
    return path.name[: len(path.name) - len(max(endings, key=len, default=""))]


def read_cine(path: Path) -> CineSeries:
    """Read all frames of a series from a 4D NIfTI, NRRD or MetaImage file, or from a sequence of Slicer.

    Raises:
        InvalidInputError: Not found, unreadable, truncated, without frames, or with an unusable geometry.
    """
    if path.is_dir():
        raise InvalidInputError(
            f"{path} is a folder, but a file with all frames is needed. Load a DICOM series in Slicer as a sequence "
            f"and save that as {SEQUENCE_SUFFIX}."
        )
    return series_from_image(read_image(path), str(path))


def series_from_image(image: sitk.Image, name: str) -> CineSeries:
    """Convert a SimpleITK image to a series of checked volumes; `name` is used in messages.

    Args:
        image: 4D with one component per voxel, or 3D with the frames as components.
        name: The file.

    Raises:
        InvalidInputError: It is not of that kind, or has an unusable geometry.
    """
    components, size = image.GetNumberOfComponentsPerPixel(), image.GetSize()
    if image.GetDimension() == 3 and components > 1:
        _check_frame_axis(image, name)
        frames = [sitk.VectorIndexSelectionCast(image, index) for index in range(components)]
        values = _index_values(image)
        return CineSeries(
            tuple(volume_from_image(frame, name) for frame in frames),
            values if len(values) == components else (),
            _entry(image, "NRRD_labels[pixel]"),
        )
    if image.GetDimension() < 4 or (image.GetDimension() == 4 and size[3] == 1):
        raise InvalidInputError(f"{name} is one volume, not a series of frames. Segment it with 'udfa segment'.")
    if image.GetDimension() != 4 or components > 1:
        raise InvalidInputError(
            f"{name} is {image.GetDimension()}D with {components} value(s) per voxel, but a series of scalar volumes "
            f"(4D) is needed. Save one such series."
        )
    _check_time_axis(image, name)
    frames = [image[:, :, :, index] for index in range(size[3])]
    return CineSeries(
        tuple(volume_from_image(frame, name) for frame in frames),
        start=image.GetOrigin()[3],
        step=image.GetSpacing()[3],
    )


def image_of_frames(labelmap: NDArray[np.uint8], series: CineSeries) -> sitk.Image:
    """Return a (T, D, H, W) labelmap as a 4D image on the grid of a series, its time axis too."""
    frames = [image_from_array(labels, series.frames[0]) for labels in labelmap]
    return sitk.JoinSeries(frames, series.start, series.step)


def _check_frame_axis(image: sitk.Image, name: str) -> None:
    """Raise InvalidInputError unless the components of an image are said to be the frames of a sequence."""
    if image.HasMetaDataKey("Segmentation_MasterRepresentation") or image.HasMetaDataKey("Segment0_ID"):
        raise InvalidInputError(f"{name} is a segmentation. Give the series of images that shall be segmented.")
    kind = _entry(image, "NRRD_kinds[pixel]")
    if kind != FRAME_KIND:
        raise InvalidInputError(
            f"{name} has {image.GetNumberOfComponentsPerPixel()} components per voxel"
            f"{f' of kind {kind!r}' if kind else ''}: it is a colour or vector image. Give a 4D file, or a sequence of "
            f"Slicer ({SEQUENCE_SUFFIX})."
        )


def _check_time_axis(image: sitk.Image, name: str) -> None:
    """Raise InvalidInputError if the frames of a 4D image do not lie at the same place."""
    direction = np.asarray(image.GetDirection(), dtype=np.float64).reshape(4, 4)
    if not np.abs([direction[3, :3], direction[:3, 3]]).max() <= ORTHONORMALITY_TOLERANCE:
        raise InvalidInputError(
            f"{name} has a fourth axis that is not the time alone: its frames lie at different places. Correct the "
            f"header, or save the series again."
        )


def _entry(image: sitk.Image, key: str) -> str:
    return str(image.GetMetaData(key)) if image.HasMetaDataKey(key) else ""


def _index_values(image: sitk.Image) -> tuple[str, ...]:
    """Index values in the header of a sequence, which Slicer writes separated by spaces, with %20 for a space."""
    keys = [key for key in image.GetMetaDataKeys() if re.fullmatch(r"axis \d index values", key)]
    return tuple(unquote(value) for value in _entry(image, keys[0]).split()) if keys else ()
