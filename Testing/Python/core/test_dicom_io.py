"""Folders of DICOM files as volumes: what belongs to one series of slices, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from udfa.errors import InvalidInputError
from udfa.volume_io import read_volume

RT_STRUCTURE_SET_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"


def test_a_dicom_folder_is_read_with_rescaled_intensities(tmp_path: Path, write_dicom: Callable[..., str]) -> None:
    write_dicom(tmp_path / "ct")
    volume = read_volume(tmp_path / "ct")
    assert volume.array.shape == (4, 8, 10)
    assert volume.spacing_mm == (2.0, 0.5, 0.75)
    assert volume.array[3, 2, 1] == 3 + 20 + 1 - 1024


@pytest.mark.parametrize("files", [[], ["notes.txt"]])
def test_a_folder_without_dicom_is_refused(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text("no image")
    with pytest.raises(InvalidInputError, match="holds no DICOM image series"):
        read_volume(tmp_path)


def test_a_folder_with_two_series_lists_them(tmp_path: Path, write_dicom: Callable[..., str]) -> None:
    uids = [write_dicom(tmp_path / "ct"), write_dicom(tmp_path / "ct")]
    with pytest.raises(InvalidInputError, match="holds 2 DICOM series") as caught:
        read_volume(tmp_path / "ct")
    assert all(f"{uid}: 4 files" in str(caught.value) for uid in uids)


@pytest.mark.parametrize("position", [0, 2, 3])
def test_a_truncated_dicom_slice_is_noticed_wherever_it_lies(
    tmp_path: Path, write_dicom: Callable[..., str], position: int
) -> None:
    write_dicom(tmp_path / "ct")
    cut = sorted((tmp_path / "ct").iterdir())[position]
    cut.write_bytes(cut.read_bytes()[:300])
    with pytest.raises(InvalidInputError, match=f"1 DICOM files in .* cannot be read, such as {cut.name}"):
        read_volume(tmp_path / "ct")


def test_a_missing_dicom_slice_is_noticed(tmp_path: Path, write_dicom: Callable[..., str], series_of: Any) -> None:
    write_dicom(tmp_path / "ct", series_of(slices=6, skip=(3,)))
    with pytest.raises(InvalidInputError, match=r"missing or unevenly spaced.* 2\.00 to 4\.00 mm"):
        read_volume(tmp_path / "ct")


def edit_slices(folder: Path, edit: Callable[[Any, int], None]) -> None:
    """Change every file of a series; the function gets the data set and its number from 0."""
    for number, path in enumerate(sorted(folder.iterdir())):
        item = pydicom.dcmread(path)
        edit(item, number)
        item.save_as(path)


def test_a_series_with_a_tilted_gantry_is_refused(tmp_path: Path, write_dicom: Callable[..., str]) -> None:
    """Slices 2 mm apart, each 1 mm further back: sheared by atan(1/2) = 26.6 degrees; the reader would drop that."""
    write_dicom(tmp_path / "ct")
    edit_slices(tmp_path / "ct", lambda item, z: setattr(item, "ImagePositionPatient", [0, z, 2 * z]))
    with pytest.raises(InvalidInputError, match=r"sheared by 26\.6 degrees, as with a tilted gantry.* Slicer"):
        read_volume(tmp_path / "ct")


def test_an_oblique_series_is_read_on_its_own_axes(tmp_path: Path, write_dicom: Callable[..., str]) -> None:
    """Turned about the left-right axis such that rows run to (0, 0.6, 0.8) and slices to (0, -0.8, 0.6)."""

    def turn(item: Any, z: int) -> None:
        item.ImageOrientationPatient = [1, 0, 0, 0, 0.6, 0.8]
        item.ImagePositionPatient = [0, -1.6 * z, 1.2 * z]

    write_dicom(tmp_path / "ct")
    edit_slices(tmp_path / "ct", turn)
    volume = read_volume(tmp_path / "ct")
    assert volume.spacing_mm == pytest.approx((2.0, 0.5, 0.75))
    np.testing.assert_allclose(volume.direction, [[0, 0, 1], [-0.8, 0.6, 0], [0.6, 0.8, 0]], atol=1e-6)


def test_a_localizer_within_a_series_is_named(tmp_path: Path, write_dicom: Callable[..., str]) -> None:
    def turn_one(item: Any, z: int) -> None:
        if z == 2:
            item.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    write_dicom(tmp_path / "ct")
    edit_slices(tmp_path / "ct", turn_one)
    with pytest.raises(InvalidInputError, match=r"not parallel: 1 of 4 .*-002\.dcm.* Take localizers out"):
        read_volume(tmp_path / "ct")


@pytest.mark.parametrize("places", [(0, 2, 4, 2), (0, 0, 2, 2), (4, 4, 4, 4)])
def test_several_images_at_one_place_are_refused(
    tmp_path: Path, write_dicom: Callable[..., str], places: tuple[int, ...]
) -> None:
    write_dicom(tmp_path / "cine")
    edit_slices(tmp_path / "cine", lambda item, z: setattr(item, "ImagePositionPatient", [0, 0, places[z]]))
    with pytest.raises(InvalidInputError, match=r"several images at the same place.* one image per place"):
        read_volume(tmp_path / "cine")


def test_files_that_are_not_dicom_do_not_disturb(tmp_path: Path, write_dicom: Callable[..., str]) -> None:
    write_dicom(tmp_path / "ct")
    (tmp_path / "ct" / "readme.txt").write_text("hello")
    assert read_volume(tmp_path / "ct").array.shape == (4, 8, 10)


def test_a_structure_set_beside_the_slices_is_left_alone(tmp_path: Path, write_dicom: Callable[..., str]) -> None:
    write_dicom(tmp_path / "ct")
    expected = read_volume(tmp_path / "ct").array.shape
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = RT_STRUCTURE_SET_STORAGE
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    structures = pydicom.Dataset()
    structures.file_meta, structures.Modality = meta, "RTSTRUCT"
    structures.SOPClassUID, structures.SOPInstanceUID = RT_STRUCTURE_SET_STORAGE, "1.2.3"
    structures.save_as(tmp_path / "ct" / "structures.dcm", enforce_file_format=True)
    assert read_volume(tmp_path / "ct").array.shape == expected
