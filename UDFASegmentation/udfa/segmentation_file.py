"""Segmentations as files: Slicer's `.seg.nrrd`, and labelmaps with a JSON beside them.

`.seg.nrrd` follows what vtkMRMLSegmentationStorageNode of 3D Slicer writes and reads: an NRRD labelmap whose header
has `Segment<N>_...` entries. Names, colours and terminology travel inside it. A plain labelmap (`.nii.gz`, `.nrrd`)
has no room for them; they go into `<stem>.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.labels import Label
from udfa.output_names import LABELMAP_SUFFIXES, SEGMENTATION_SUFFIX, labels_file, split_name
from udfa.statistics import voxel_counts
from udfa.volume_io import image_from_array, write_image, written_aside

LABELS_FORMAT = "udfa-labelmap"
LABELS_VERSION = 1
PROVENANCE_KEY = "UDFA_Provenance"
"""Header entry of `.seg.nrrd` with the provenance as JSON; Slicer passes over it."""

_REPRESENTATION = "Binary labelmap"


class Labelled(Protocol):
    """A labelmap, of a volume or of all frames of a series, with the meaning of its values."""

    @property
    def labelmap(self) -> NDArray[np.uint8]:
        """Labels of the voxels; 0 is background."""

    @property
    def labels(self) -> Mapping[int, Label]:
        """Value to label, for all labels that were asked for, found or not."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the segmentation comes from, in JSON types."""


@dataclass(frozen=True)
class LabelledVolume:
    """A labelmap of a volume with the meaning of its values."""

    labelmap: NDArray[np.uint8]
    """(D, H, W); 0 is background."""
    reference: Volume
    """The image on whose grid the labelmap lies; only its geometry is used."""
    labels: Mapping[int, Label]
    """Value to label, for all labels that were asked for, found or not."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the segmentation comes from, in JSON types."""

    def __post_init__(self) -> None:
        if self.labelmap.shape != self.reference.array.shape:
            raise InvalidInputError(
                f"The labelmap has shape {self.labelmap.shape}, the image {self.reference.array.shape}; they must lie "
                f"on the same grid."
            )

    def found(self) -> dict[int, Label]:
        """Return the labels that have at least one voxel."""
        counts = voxel_counts(self.labelmap)
        return {value: label for value, label in self.labels.items() if counts[value] > 0}


def write_segmentation(path: Path, content: LabelledVolume) -> None:
    """Write a segmentation, in the format that the name says. Written aside, never half.

    Only labels with voxels become segments of a `.seg.nrrd`; the JSON of a plain labelmap lists all labels.

    Raises:
        InvalidInputError: The name ends in none of OUTPUT_SUFFIXES.
    """
    with ExitStack() as stack:
        stage_segmentation(stack, path, content)


def stage_segmentation(stack: ExitStack, path: Path, content: LabelledVolume) -> None:
    """Write a segmentation aside; its files get their names when `stack` closes without an error."""
    _, suffix = split_name(path)
    image = image_from_array(content.labelmap, content.reference)
    if suffix == SEGMENTATION_SUFFIX:
        for key, value in segmentation_header(content).items():
            image.SetMetaData(key, value)
    else:
        stage_labels(stack, path, content)
    write_image(image, stack.enter_context(written_aside(path)))


def stage_labels(stack: ExitStack, path: Path, content: Labelled) -> None:
    """Write the JSON of the labelmap `path` aside; it gets its name when `stack` closes without an error."""
    aside = stack.enter_context(written_aside(labels_file(path)))
    document = json.dumps(labels_document(path.name, content), indent=2, ensure_ascii=False)
    aside.write_bytes(document.encode() + b"\n")


def segmentation_header(content: LabelledVolume) -> dict[str, str]:
    """Return the header entries that make a labelmap a Slicer segmentation.

    All segments share layer 0, and each names the whole image as its extent: Slicer clips a layer to the extent of
    the layer's first segment.
    """
    depth, height, width = content.labelmap.shape
    extent = f"0 {width - 1} 0 {height - 1} 0 {depth - 1}"
    header = {
        "Segmentation_MasterRepresentation": _REPRESENTATION,
        "Segmentation_ContainedRepresentationNames": f"{_REPRESENTATION}|",
        "Segmentation_ConversionParameters": _reference_geometry(content.reference),
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for index, (value, label) in enumerate(content.found().items()):
        entry = {
            "ID": label.name,
            "Name": label.title,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{component:.6g}" for component in label.color01),
            "ColorAutoGenerated": "0",
            "Extent": extent,
            "LabelValue": str(value),
            "Layer": "0",
        }
        terminology = label.terminology()
        if terminology is not None:
            entry["Tags"] = f"TerminologyEntry:{terminology}|"
        header.update({f"Segment{index}_{key}": text for key, text in entry.items()})
    if content.provenance:
        header[PROVENANCE_KEY] = json.dumps(dict(content.provenance))
    return header


def _reference_geometry(reference: Volume) -> str:
    """Serialise the grid as Slicer's conversion parameter: IJK-to-RAS matrix by rows, then the extent."""
    columns = np.asarray(reference.direction)[:, ::-1] * np.asarray(reference.spacing_mm)[::-1]
    matrix = np.eye(4)
    matrix[:3, :3] = columns
    matrix[:3, 3] = reference.origin_mm
    matrix[:2] *= -1  # LPS to RAS
    depth, height, width = reference.array.shape
    numbers = [f"{number:.17g}" for number in matrix.ravel() + 0.0]
    numbers += [str(number) for number in (0, width - 1, 0, height - 1, 0, depth - 1)]
    return f"Reference image geometry|{';'.join(numbers)};|&"


def labels_document(name: str, content: Labelled) -> dict[str, Any]:
    """Return the JSON document that goes beside the labelmap file `name`."""
    counts = voxel_counts(content.labelmap)
    rows = [
        {
            "value": value,
            "name": label.name,
            "title": label.title,
            "color": list(label.color),
            "terminology": label.terminology(),
            "voxels": int(counts[value]),
        }
        for value, label in content.labels.items()
    ]
    return {
        "format": LABELS_FORMAT,
        "format_version": LABELS_VERSION,
        "labelmap": name,
        "labels": rows,
        "provenance": dict(content.provenance),
    }


def check_labels_file(output: Path) -> None:
    """Raise InvalidInputError if the JSON of a labelmap would overwrite one that is about something else."""
    if split_name(output)[1] not in LABELMAP_SUFFIXES or not labels_file(output).is_file():
        return
    path = labels_file(output)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        ours, other = document["format"] == LABELS_FORMAT, path.with_name(str(document["labelmap"]))
    except (ValueError, KeyError, TypeError):
        ours, other = False, output
    # A labelmap of the same stem and another ending shares the name of its JSON with this one.
    names = (path.with_name(path.stem + suffix) for suffix in LABELMAP_SUFFIXES)
    if not ours or (other.name != output.name and other in names and other.is_file()):
        what = f"the labels of {other.name}" if ours else "something else"
        raise InvalidInputError(
            f"{path} describes {what} and would be overwritten by the labels of {output.name}. Choose another name for "
            f"the output, or move that file away."
        )
