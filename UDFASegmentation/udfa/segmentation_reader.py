"""Reading segmentations back: `.seg.nrrd` of Slicer or of this package, and labelmaps with or without a JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.labels import Label, describe
from udfa.output_names import LABELMAP_SUFFIXES, labels_file
from udfa.segmentation_file import PROVENANCE_KEY
from udfa.volume_io import image_from_array, read_image, volume_from_image

GREY = (128, 128, 128)
"""Colour of segments whose file gives none, as in Slicer."""

GRID_TOLERANCE_MM = 1e-3
"""Two grids whose corners lie closer than this are the same."""


@dataclass(frozen=True)
class Segment:
    """One segment of a stored segmentation."""

    id: str
    """Identifier in the file; the label's name when this package wrote it."""
    title: str
    """Name that people read."""
    color: tuple[int, int, int]
    """Red, green, blue, each 0 to 255."""
    value: int
    """Its voxels' value in its layer."""
    layer: int = 0
    """Segments of the same layer cannot overlap."""
    terminology: Optional[str] = None
    """Slicer's serialised terminology entry, or None."""


@dataclass(frozen=True)
class Segmentation:
    """A segmentation as a file holds it."""

    layers: NDArray[np.integer]
    """(L, D, H, W); segments of different layers may overlap."""
    geometry: Volume
    """Grid of the layers; Slicer may store less than the source image's grid. Its array is layer 0."""
    segments: tuple[Segment, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from, when this package wrote it; else empty."""

    def find(self, label: Label) -> Segment | None:
        """Return the segment of a label: by its ID, else by terminology, else by its title; None if there is none."""
        codes = _codes(label.terminology())
        title = label.title.casefold()
        tests = (
            lambda segment: segment.id == label.name,
            lambda segment: codes is not None and _codes(segment.terminology) == codes,
            lambda segment: segment.title.casefold() in (title, label.name),
        )
        return next((segment for test in tests for segment in self.segments if test(segment)), None)

    def mask(self, segment: Segment, reference: Volume | None = None) -> NDArray[np.bool_]:
        """Return a segment's voxels.

        Args:
            segment: One of `segments`.
            reference: Grid to put the mask on, by nearest neighbour; None keeps the file's grid.

        Returns:
            (D, H, W) on the reference's grid; False outside the stored part.
        """
        mask = self.layers[segment.layer] == segment.value
        if reference is None or _same_grid(self.geometry, reference):
            return np.asarray(mask)
        resampled = sitk.Resample(
            image_from_array(mask.astype(np.uint8), self.geometry),
            image_from_array(np.zeros(reference.array.shape, np.uint8), reference),
            sitk.Transform(),
            sitk.sitkNearestNeighbor,
            0.0,
        )
        return np.asarray(sitk.GetArrayFromImage(resampled) > 0)


def _codes(terminology: str | None) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Scheme and value of type and modifier (the side) in a terminology entry; None if it is not one."""
    parts = (terminology or "").split("~")
    if len(parts) < 4:
        return None
    return tuple(parts[2].split("^")[:2]), tuple(parts[3].split("^")[:2])


def _same_grid(first: Volume, second: Volume) -> bool:
    if first.array.shape != second.array.shape:
        return False
    return bool(np.abs(_corners(first) - _corners(second)).max() < GRID_TOLERANCE_MM)


def _corners(volume: Volume) -> NDArray[np.float64]:
    """LPS positions of the first voxel and of the last one along each axis. (4, 3) in mm."""
    lengths = (np.asarray(volume.array.shape) - 1) * np.asarray(volume.spacing_mm)
    ends = (np.asarray(volume.direction) * lengths).T
    return np.asarray(volume.origin_mm) + np.vstack([np.zeros(3), ends])


def read_segmentation(path: Path) -> Segmentation:
    """Read a segmentation.

    Accepts `.seg.nrrd` written by Slicer (one or several layers, whole or cropped) or by this package, and a labelmap.
    The values that occur in a labelmap are named by the JSON beside it, or else `label_<value>`.

    Raises:
        InvalidInputError: Not found, damaged, not a labelmap, or in Slicer's format from before version 4.11.
    """
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder. Give a segmentation file (.seg.nrrd, .nii.gz, .nrrd).")
    image = read_image(path)
    if image.GetDimension() != 3 or image.HasMetaDataKey("Segmentation_Extent"):
        raise InvalidInputError(
            f"{path} is not a 3D labelmap, or a segmentation in Slicer's old format. Save it again with Slicer 5."
        )
    layers = _integers(_layer_arrays(image), path)
    first = image if image.GetNumberOfComponentsPerPixel() == 1 else sitk.VectorIndexSelectionCast(image, 0)
    geometry = volume_from_image(first, str(path))
    if image.HasMetaDataKey("Segmentation_MasterRepresentation") or image.HasMetaDataKey("Segment0_ID"):
        header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
        segments = _segments_of_header(header, len(layers), path)
        return Segmentation(layers, geometry, segments, _provenance(header.get(PROVENANCE_KEY), path))
    if len(layers) > 1:
        raise InvalidInputError(f"{path} has {len(layers)} components per voxel: it is an image, not a labelmap.")
    beside = labels_file(path) if path.name.lower().endswith(LABELMAP_SUFFIXES) else path.with_suffix(".json")
    named, provenance = _read_labels(beside) if beside.is_file() else ({}, {})
    values = [value for value in np.unique(layers).tolist() if value != 0]
    return Segmentation(layers, geometry, tuple(named.get(v) or _unnamed(v) for v in values), provenance)


def _layer_arrays(image: sitk.Image) -> NDArray[Any]:
    """(L, D, H, W) from an image with L components per voxel."""
    array = sitk.GetArrayFromImage(image)
    return np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]


def _integers(layers: NDArray[Any], path: Path) -> NDArray[np.integer]:
    if np.issubdtype(layers.dtype, np.integer):
        return layers
    if not np.array_equal(layers, np.rint(layers)):
        raise InvalidInputError(f"{path} has voxels that are no whole numbers: it is an image, not a labelmap.")
    return layers.astype(np.int32)


def _segments_of_header(header: Mapping[str, str], layers: int, path: Path) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    while f"Segment{len(segments)}_ID" in header:
        index = len(segments)
        entry = {key.split("_", 1)[1]: text for key, text in header.items() if key.startswith(f"Segment{index}_")}
        tags = dict(tag.split(":", 1) for tag in entry.get("Tags", "").split("|") if ":" in tag)
        try:
            color = entry.get("Color") or entry.get("DefaultColor")
            segment = Segment(
                id=entry["ID"],
                title=entry.get("Name") or entry["ID"],
                color=GREY if not color else _color255(color),
                value=int(entry.get("LabelValue", 1)),
                layer=int(entry.get("Layer", index)),
                terminology=tags.get("TerminologyEntry"),
            )
        except ValueError as error:
            raise InvalidInputError(f"{path}: the entries of segment {index} are damaged ({error}).") from error
        if not 0 <= segment.layer < layers:
            raise InvalidInputError(
                f"{path}: segment '{segment.title}' is said to be in layer {segment.layer}, but there are {layers}."
            )
        segments.append(segment)
    return tuple(segments)


def _color255(text: str) -> tuple[int, int, int]:
    red, green, blue = (round(float(part) * 255) for part in text.split())
    return (red, green, blue)


def _provenance(text: str | None, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(text)) if text else {}
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{path}: the entry {PROVENANCE_KEY} is damaged ({error}).") from error


def _read_labels(path: Path) -> tuple[dict[int, Segment], dict[str, Any]]:
    """Segments by value, and provenance, from the JSON beside a labelmap."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        segments = {}
        for row in document["labels"]:
            red, green, blue = (int(component) for component in row["color"])
            value = int(row["value"])
            segments[value] = Segment(row["name"], row["title"], (red, green, blue), value, 0, row["terminology"])
        return segments, dict(document["provenance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{path} does not describe the labels of a labelmap ({type(error).__name__}: {error}). Move it away, or "
            f"write the segmentation again."
        ) from error


def _unnamed(value: int) -> Segment:
    label = describe(f"label_{value}")
    return Segment(label.name, label.title, label.color, value)
