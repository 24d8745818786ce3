"""Makes the sample data that the module ships, from the data sets beside the repository. Run once; results are kept.

    python Testing/make_sample_data.py [--data ../shared/data]

abdomen_ct.nii.gz        TotalSegmentator's example CT, the same voxels stored as 16 instead of 32 bit.
cardiac_cine.seq.nrrd    Patient SC-HF-I-40 of the Sunnybrook Cardiac Data, two phases of 9 short-axis slices.
*.png                    Pictures for the Sample Data module.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "UDFASegmentation" / "Resources" / "SampleData"
PATIENT = "SC-HF-I-40"
PHASES = {"end-diastole": 20, "end-systole": 8}
"""Index value in the sequence, and the number of the phase in the series of 20 per slice."""

SLICES = range(9, 0, -1)
"""Slices of the series from apex to base: then the patient's axes can be right-handed."""

NOMINAL_SPACING_MM = (1.3, 1.3, 8.0)
THUMBNAIL_SIZE = (320, 240)


def main() -> int:
    """Make all files and print their hashes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    data = parser.parse_args().data
    TARGET.mkdir(parents=True, exist_ok=True)
    make_ct(data / "totalsegmentator" / "example_ct.nii.gz", TARGET / "abdomen_ct.nii.gz")
    make_cine(data / "sunnybrook" / "train" / "Images", TARGET / "cardiac_cine.seq.nrrd")
    for path in sorted(TARGET.glob("*.n*")):
        print(f"{path.name}  {path.stat().st_size} bytes  SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    return 0


def make_ct(source: Path, target: Path) -> None:
    """Store the CT as 16-bit integers; the voxels must be the same."""
    image = sitk.ReadImage(str(source))
    stored = sitk.Cast(image, sitk.sitkInt16)
    array = sitk.GetArrayFromImage(image)
    if not np.array_equal(sitk.GetArrayFromImage(stored), array):
        sys.exit(f"{source} does not fit into 16 bit.")
    sitk.WriteImage(stored, str(target), useCompression=True, compressionLevel=9)
    # Columns run to the patient's right in this file; pictures show it on the left.
    coronal = array[::-1, array.shape[1] // 2, ::-1]
    write_thumbnail(np.clip((coronal + 160) / 400, 0, 1), target.parent / "AbdomenCT.png")


def make_cine(images: Path, target: Path) -> None:
    """Write the two phases as an image sequence with Slicer's own storage node."""
    import slicer

    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "CardiacCine")
    sequence.SetIndexName("phase")
    sequence.SetIndexUnit("")
    sequence.SetIndexTypeFromString("text")
    for name, phase in PHASES.items():
        sequence.SetDataNodeAtValue(volume_node(read_stack(images, phase)), name)
    storage = slicer.vtkMRMLVolumeSequenceStorageNode()
    storage.SetFileName(str(target))
    if not storage.WriteData(sequence):
        sys.exit(f"Slicer could not write {target}.")
    middle = np.hstack([read_stack(images, phase)[4, 60:220, 40:220] for phase in PHASES.values()])
    write_thumbnail(np.clip(middle / 160, 0, 1), target.parent / "CardiacCine.png")


def read_stack(images: Path, phase: int) -> NDArray[np.uint8]:
    """(9, 256, 256) slices of one phase, from apex to base."""
    planes = []
    for index in SLICES:
        name = f"{PATIENT}-IM-0001-{index * 20 + phase:04d}.dcm.png"
        (path,) = images.glob(f"*/{name}")
        planes.append(np.asarray(Image.open(path).convert("L")))
    return np.stack(planes)


def volume_node(stack: NDArray[np.uint8]) -> object:
    """A volume with nominal geometry: columns to the left, rows to posterior, slices to superior, centred."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    node = slicer.vtkMRMLScalarVolumeNode()
    image = vtk.vtkImageData()
    image.SetDimensions(stack.shape[2], stack.shape[1], stack.shape[0])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(stack).ravel(), deep=True))
    node.SetAndObserveImageData(image)
    matrix = vtk.vtkMatrix4x4()
    for axis, (spacing, sign) in enumerate(zip(NOMINAL_SPACING_MM, (-1, -1, 1))):
        matrix.SetElement(axis, axis, sign * spacing)
        matrix.SetElement(axis, 3, -sign * spacing * (stack.shape[2 - axis] - 1) / 2)
    node.SetIJKToRASMatrix(matrix)
    return node


def write_thumbnail(picture: NDArray[np.floating], target: Path) -> None:
    """Write a picture with values 0 to 1, fitted into the thumbnail with black edges."""
    image = Image.fromarray((picture * 255).astype(np.uint8))
    image.thumbnail(THUMBNAIL_SIZE)
    image = image.resize([round(n * min(w / s for w, s in zip(THUMBNAIL_SIZE, image.size))) for n in image.size])
    canvas = Image.new("L", THUMBNAIL_SIZE)
    canvas.paste(image, [(c - i) // 2 for c, i in zip(THUMBNAIL_SIZE, image.size)])
    canvas.save(target, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
