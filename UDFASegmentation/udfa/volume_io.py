"""Reading volumes and writing labelmaps with SimpleITK. All checks of files live here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from udfa.errors import InvalidInputError, UDFAError
from udfa.geometry import ORTHONORMALITY_TOLERANCE, Volume, check_geometry
from udfa.metaimage_header import check_metaimage
from udfa.nifti_header import check_nifti

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""File names that `read_volume` accepts; a folder is read as a DICOM series."""

ARRAY_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
"""File names that `write_array` accepts: formats that keep header and voxels in one file."""

UNEVEN_SLICES = 0.1
"""Deviation of the slices' distances, as a share of the smallest one, that rounding in DICOM headers explains."""

SAME_PLACE_MM = 1e-3
"""Slices less apart than this lie at the same place."""


def read_volume(path: Path) -> Volume:
    """Read a scalar 3D volume from a NIfTI, NRRD or MetaImage file, or from a folder with one DICOM series.

    Returns:
        Volume with axes (D, H, W); intensities as stored after rescaling (HU for CT).

    Raises:
        InvalidInputError: Not found, unreadable, truncated, not 3D, not scalar, or with an unusable geometry.
    """
    return volume_from_image(read_image(path), str(path))


def read_image(path: Path) -> sitk.Image:
    """Read any supported file or DICOM folder as a SimpleITK image, with our own messages on failure."""
    if not path.exists():
        raise InvalidInputError(f"{path} does not exist. Check the path.")
    if path.is_dir():
        return _read_dicom_folder(path)
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        raise InvalidInputError(
            f"{path} is of an unknown file type. Give {', '.join(VOLUME_SUFFIXES)}, or a folder with a DICOM series."
        )
    if path.stat().st_size == 0:
        raise InvalidInputError(f"{path} is empty (0 bytes). Copy or export it again.")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be opened ({error.strerror}). Check its permissions.") from error
    if path.name.lower().endswith((".nii", ".nii.gz")):
        check_nifti(path)
    reader = ""
    if path.name.lower().endswith((".mha", ".mhd")):
        check_metaimage(path)
        # ITK does not look for it itself where the suffix is in capitals.
        reader = "MetaImageIO"
    try:
        return sitk.ReadImage(str(path), imageIO=reader)
    except RuntimeError as error:
        raise InvalidInputError(f"{path} cannot be read: {_explain(str(error))}") from error


def _explain(text: str) -> str:
    """What an error message of ITK means for the user."""
    lowered = text.lower()
    if "refusing to change spacing" in lowered or "zero-valued spacing" in lowered:
        return "the voxel spacing in its header is zero or no number. Correct the header."
    if "orthonormal" in lowered or "determinant" in lowered:
        return (
            "its axes are not orthonormal (sheared, or without volume). Correct the header, or resample it to a "
            "regular grid (Slicer: Resample Scalar Volume)."
        )
    if "number of domain axes" in lowered:
        return (
            "it has more axes than its space has dimensions, and none of kind 'list', as a sequence has. Convert it to "
            "NIfTI, or load it in Slicer as a sequence and save that as .seq.nrrd."
        )
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("Reason:")]
    reason = lines[-1] if lines else "no reason given"
    return f"it is truncated, damaged or not of the type that its name says. Copy or export it again. ({reason})"


def _read_dicom_folder(folder: Path) -> sitk.Image:
    series = _dicom_series(folder)
    if not series:
        raise InvalidInputError(f"{folder} holds no DICOM image series. Give the folder that contains the slice files.")
    files = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series}
    if len(files) > 1:
        listing = "; ".join(f"{uid}: {len(names)} files" for uid, names in files.items())
        raise InvalidInputError(f"{folder} holds {len(files)} DICOM series ({listing}). Give a folder with one series.")
    names = next(iter(files.values()))
    damaged = _unlisted_dicom_files(folder, names)
    if damaged:
        raise InvalidInputError(
            f"{len(damaged)} DICOM files in {folder} cannot be read, such as {damaged[0]}. Copy the folder again."
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    try:
        image: sitk.Image = reader.Execute()
    except RuntimeError as error:
        raise InvalidInputError(f"The DICOM series in {folder} cannot be read: {_explain(str(error))}") from error
    if len(names) > 1:
        _check_slice_places(names, folder)
    return image


def _dicom_series(folder: Path) -> tuple[str, ...]:
    """UIDs of the image series in a folder, without ITK's own warning when there are none."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return tuple(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _unlisted_dicom_files(folder: Path, listed: Sequence[str]) -> list[str]:
    """Names of damaged slices: files that begin as DICOM images of the listed kind, but that the reader passed over.

    Other objects in the folder, such as structure sets, segmentations and reports, are no slices and are left alone.
    """
    known = {Path(name).name for name in listed} | {"DICOMDIR"}
    kind = _dicom_class(Path(listed[0]))
    unlisted = [path for path in sorted(folder.iterdir()) if path.name not in known and path.is_file()]
    return [path.name for path in unlisted if _is_dicom(path) and _dicom_class(path) in ("", kind)]


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _dicom_class(path: Path) -> str:
    """SOP class UID of a DICOM file from its file meta information (explicit little endian); "" if unreadable."""
    with path.open("rb") as file:
        header = file.read(4096)
    start = header.find(b"\x02\x00\x02\x00UI", 132)
    if start < 0:
        return ""
    length = int.from_bytes(header[start + 6 : start + 8], "little")
    return header[start + 8 : start + 8 + length].rstrip(b"\x00 ").decode("ascii", errors="replace")


def _check_slice_places(names: Sequence[str], folder: Path) -> None:
    """Raise InvalidInputError unless the sorted slices of a series are parallel, evenly spaced and not sheared."""
    places, directions = _slice_places(names)
    turned = np.abs(directions - directions[0]).max(axis=(1, 2)) > ORTHONORMALITY_TOLERANCE
    if turned.any():
        raise InvalidInputError(
            f"The slices of the DICOM series in {folder} are not parallel: {np.count_nonzero(turned)} of {len(names)} "
            f"lie otherwise than the first, such as {Path(names[int(turned.argmax())]).name}. Take localizers out of "
            f"the folder."
        )
    steps = np.diff(places, axis=0)
    normal = directions[0][:, 2]
    along = steps @ normal
    if np.abs(along).min() < SAME_PLACE_MM or along.min() < 0 < along.max():
        raise InvalidInputError(
            f"The DICOM series in {folder} has several images at the same place, as in cine or multi-phase series or "
            f"when files are there twice. Give a folder with one image per place; Slicer can split such a series, or "
            f"save it as a sequence (.seq.nrrd) for 'udfa cine'."
        )
    distances = np.abs(along)
    if distances.max() > (1 + UNEVEN_SLICES) * distances.min():
        raise InvalidInputError(
            f"Slices of the DICOM series in {folder} are missing or unevenly spaced: the distances between them are "
            f"{distances.min():.2f} to {distances.max():.2f} mm. Copy the whole series, or resample it."
        )
    sideways = np.linalg.norm(steps.sum(axis=0) - along.sum() * normal) / distances.sum()
    if sideways > ORTHONORMALITY_TOLERANCE:
        raise InvalidInputError(
            f"The slices of the DICOM series in {folder} are sheared by {np.degrees(np.arctan(sideways)):.1f} degrees, "
            f"as with a tilted gantry. Load it in Slicer (its DICOM module corrects this), harden the transform and "
            f"save it."
        )


def _slice_places(names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """LPS place of each slice's first voxel in mm, (n, 3), and its axes I, J, K in columns, (n, 3, 3)."""
    reader = sitk.ImageFileReader()
    places, directions = [], []
    for name in names:
        reader.SetFileName(name)
        reader.ReadImageInformation()
        places.append(reader.GetOrigin())
        directions.append(np.reshape(reader.GetDirection(), (3, 3)))
    return np.asarray(places), np.asarray(directions)


def volume_from_image(image: sitk.Image, name: str) -> Volume:
    """Convert a SimpleITK image to a checked Volume; `name` is used in messages."""
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InvalidInputError(
            f"{name} has {image.GetNumberOfComponentsPerPixel()} components per voxel: a colour or vector image, or a "
            f"sequence of frames. Give one scalar volume (Slicer: Vector to Scalar Volume). 'udfa cine' takes all "
            f"frames of a sequence."
        )
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() == 4:
        raise InvalidInputError(
            f"{name} is 4D with {image.GetSize()[3]} time points. 'udfa cine' takes all of them; of one, give the 3D "
            f"volume (Slicer: load the file as a sequence and segment or save the volume that shows the frame)."
        )
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() != 3:
        raise InvalidInputError(f"{name} is {image.GetDimension()}D, but a 3D volume is needed.")
    columns = np.asarray(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    spacing, origin = image.GetSpacing(), image.GetOrigin()
    volume = Volume(
        array=sitk.GetArrayFromImage(image),
        spacing_mm=(spacing[2], spacing[1], spacing[0]),
        direction=columns[:, ::-1].copy(),
        origin_mm=(origin[0], origin[1], origin[2]),
    )
    check_geometry(volume)
    return volume


def image_from_array(array: NDArray[np.generic], reference: Volume) -> sitk.Image:
    """Return a SimpleITK image with the geometry of a reference volume from a (D, H, W) array on its grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(tuple(float(s) for s in reversed(reference.spacing_mm)))
    image.SetOrigin(reference.origin_mm)
    image.SetDirection(np.asarray(reference.direction)[:, ::-1].ravel().tolist())
    return image


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and rename it to `path` only when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In lower case, for the writer of NIfTI knows no other.
    suffix = "".join(path.suffixes[-2:]).lower()
    handle, name = tempfile.mkstemp(prefix=".udfa-", suffix=suffix, dir=path.parent)
    os.close(handle)
    aside = Path(name)
    # mkstemp makes files that only the owner can read; the result gets the permissions of an ordinary new file.
    umask = os.umask(0)
    os.umask(umask)
    try:
        yield aside
        aside.chmod(0o666 & ~umask)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_image(image: sitk.Image, path: Path) -> None:
    """Write an image, compressed, and make sure that all of it is there.

    Args:
        image: The image.
        path: A name that `written_aside` gave, ending in one of ARRAY_SUFFIXES.

    Raises:
        UDFAError: It could not be written whole, as on a full disk.
    """
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
        if path.name.lower().endswith((".nii", ".nii.gz")):
            # The writer of NIfTI says nothing of a full disk.
            check_nifti(path)
        if path.name.lower().endswith(".mha"):
            # Nor does that of MetaImage in SimpleITK before 2.4.
            check_metaimage(path)
    except (RuntimeError, InvalidInputError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UDFAError(
            f"The result could not be written whole into {path.parent}. Check the free space, or choose another place. "
            f"({reason})"
        ) from error


def write_array(path: Path, array: NDArray[np.generic], reference: Volume) -> None:
    """Write a (D, H, W) array on a reference volume's grid to a file, compressed, never half.

    Raises:
        InvalidInputError: The file name ends in none of ARRAY_SUFFIXES.
        UDFAError: The file could not be written whole, as on a full disk.
    """
    if not path.name.lower().endswith(ARRAY_SUFFIXES):
        raise InvalidInputError(f"Cannot write {path.name}: choose a name ending in {', '.join(ARRAY_SUFFIXES)}.")
    with written_aside(path) as aside:
        write_image(image_from_array(array, reference), aside)
