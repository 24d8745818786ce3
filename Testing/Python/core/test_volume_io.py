"""Files in and out: geometry survives, and every damaged or foreign file has its own message."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from udfa.errors import InvalidInputError, UDFAError
from udfa.metaimage_header import check_metaimage
from udfa.volume_io import ARRAY_SUFFIXES, image_from_array, read_volume, write_array, written_aside

NOISE = np.random.default_rng(0).integers(-1000, 1000, size=(6, 20, 30)).astype(np.int16)


def write_image(path: Path, array: np.ndarray = NOISE, **options: Any) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), **options)
    return path


@pytest.mark.parametrize("suffix", ARRAY_SUFFIXES)
def test_an_oblique_volume_survives_writing_and_reading(kit: Any, tmp_path: Path, suffix: str) -> None:
    volume = kit.volume(NOISE, (3.0, 0.5, 0.75), kit.rotation(5), (-10.0, 20.5, 300.25))
    path = tmp_path / f"case{suffix}"
    write_array(path, volume.array, volume)
    again = read_volume(path)
    np.testing.assert_array_equal(again.array, NOISE)
    np.testing.assert_allclose(again.spacing_mm, volume.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(again.direction, volume.direction, atol=1e-5)
    np.testing.assert_allclose(again.origin_mm, volume.origin_mm, atol=1e-4)


@pytest.mark.parametrize("suffix", ARRAY_SUFFIXES)
def test_names_in_capitals_are_written_and_read_as_others(kit: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"CASE{suffix.upper()}"
    write_array(path, NOISE, kit.volume(NOISE))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(read_volume(path).array, NOISE)


def test_columns_of_the_direction_belong_to_the_array_axes(tmp_path: Path) -> None:
    """A file whose I axis runs to superior, J to left and K to posterior, in LPS."""
    image = sitk.GetImageFromArray(NOISE)
    image.SetDirection([0, 1, 0, 0, 0, 1, 1, 0, 0])
    image.SetSpacing([1.0, 2.0, 3.0])
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    volume = read_volume(tmp_path / "a.nrrd")
    assert volume.array.shape == (6, 20, 30)
    assert volume.spacing_mm == (3.0, 2.0, 1.0)
    np.testing.assert_array_equal(volume.direction, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_a_labelmap_is_written_on_the_grid_of_its_volume(kit: Any) -> None:
    volume = kit.volume(NOISE, (3.0, 0.5, 0.75), kit.rotation(1), (1.0, 2.0, 3.0))
    image = image_from_array(np.zeros(NOISE.shape, np.uint8), volume)
    corner = image.TransformIndexToPhysicalPoint((29, 19, 5))
    expected = np.array(volume.origin_mm) + volume.direction @ (np.array([5, 19, 29]) * volume.spacing_mm)
    np.testing.assert_allclose(corner, expected, atol=1e-9)


def test_one_slice_and_one_time_point_are_read_as_a_volume(tmp_path: Path) -> None:
    write_image(tmp_path / "slice.nii.gz", NOISE[:1])
    assert read_volume(tmp_path / "slice.nii.gz").array.shape == (1, 20, 30)
    series = sitk.JoinSeries([sitk.GetImageFromArray(NOISE)])
    sitk.WriteImage(series, str(tmp_path / "one.nrrd"))
    np.testing.assert_array_equal(read_volume(tmp_path / "one.nrrd").array, NOISE)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_file_that_may_not_be_opened_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def forbidden(path: Path, *arguments: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = write_image(tmp_path / f"a{suffix}")
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(InvalidInputError, match=r"cannot be opened \(Permission denied\)\. Check its permissions"):
        read_volume(path)


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"gone\.nii does not exist"):
        read_volume(tmp_path / "gone.nii")


def test_a_file_of_unknown_type_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "scan.jpg").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match=r"unknown file type\. Give \.nii, \.nii\.gz"):
        read_volume(tmp_path / "scan.jpg")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_an_empty_file_is_called_empty(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(InvalidInputError, match=r"is empty \(0 bytes\)"):
        read_volume(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("share", [0.002, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_truncated_file_is_never_read_as_if_it_were_whole(
    tmp_path: Path, suffix: str, compress: bool, share: float
) -> None:
    whole = write_image(tmp_path / f"whole{suffix}", useCompression=compress).read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InvalidInputError, match=r"truncated|no NIfTI|damaged"):
        read_volume(tmp_path / f"cut{suffix}")


@pytest.mark.parametrize(("suffix", "lost"), [(".mha", 1), (".mhd", 1), (".mhd", 100)])
def test_bytes_that_a_metaimage_lacks_are_counted_before_it_is_read(tmp_path: Path, suffix: str, lost: int) -> None:
    """SimpleITK before 2.4 reads a truncated file, and what is missing as zeros."""
    write_image(tmp_path / f"a{suffix}", useCompression=False)
    data = tmp_path / ("a.raw" if suffix == ".mhd" else "a.mha")
    check_metaimage(tmp_path / f"a{suffix}")
    data.write_bytes(data.read_bytes()[:-lost])
    with pytest.raises(InvalidInputError, match=rf"{data.name} is truncated: \d+ bytes of voxels expected, \d+ found"):
        check_metaimage(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_whole_metaimages_of_every_type_are_read(tmp_path: Path, kind: type) -> None:
    image = sitk.GetImageFromArray(np.arange(60).reshape(3, 4, 5).astype(kind))
    sitk.WriteImage(image, str(tmp_path / "a.mha"), useCompression=False)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").array, np.arange(60).reshape(3, 4, 5))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_bytes_of_something_else_are_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(InvalidInputError, match=r"cannot be read|no NIfTI|damaged"):
        read_volume(tmp_path / f"a{suffix}")


def test_a_damaged_byte_in_a_compressed_nifti_is_noticed(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(InvalidInputError, match="truncated or damaged"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
def test_a_damaged_byte_in_a_compressed_metaimage_is_noticed(tmp_path: Path, name: str) -> None:
    """The reader prints "Uncompress failed" and goes on with what it has."""
    path = write_image(tmp_path / name, useCompression=True)
    data = path if name == "a.mha" else tmp_path / "a.zraw"
    np.testing.assert_array_equal(read_volume(path).array, NOISE)
    raw = bytearray(data.read_bytes())
    raw[-len(raw) // 3] ^= 0xFF
    data.write_bytes(raw)
    with pytest.raises(InvalidInputError, match=f"{data.name} is truncated"):
        read_volume(path)


def test_a_nifti_compressed_in_several_members_is_read(tmp_path: Path) -> None:
    raw = write_image(tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw[:3000]) + gzip.compress(raw[3000:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, NOISE)


def test_a_header_without_its_data_file_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.mhd")
    (tmp_path / "a.raw").unlink()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_volume(tmp_path / "a.mhd")


@pytest.mark.parametrize("value", [0.0, -1.5, float("nan"), float("inf")])
def test_a_nifti_header_with_unusable_spacing_is_refused(tmp_path: Path, value: float) -> None:
    path = write_image(tmp_path / "a.nii")
    raw = bytearray(path.read_bytes())
    struct.pack_into("<f", raw, 76 + 4 * 3, value)
    path.write_bytes(raw)
    with pytest.raises(InvalidInputError, match=r"voxel spacing in its header is .* must be positive"):
        read_volume(path)


def test_a_big_endian_nifti_2_file_is_checked_at_the_right_places(tmp_path: Path) -> None:
    """20 x 3 x 2 int16 voxels after a 544 byte header: 784 bytes are needed."""
    header = bytearray(544)
    struct.pack_into(">i4s", header, 0, 540, b"n+2\0")
    struct.pack_into(">hh8q8d", header, 12, 4, 16, 3, 20, 3, 2, 1, 1, 1, 1, *[0.0] * 8)
    struct.pack_into(">8d", header, 104, 1, 2, 2, 2, 0, 0, 0, 0)
    struct.pack_into(">q", header, 168, 544)
    (tmp_path / "a.nii").write_bytes(bytes(header) + bytes(239))
    with pytest.raises(InvalidInputError, match="truncated: 783 bytes of 784"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_voxels_of_a_nifti_that_are_no_numbers_are_counted(tmp_path: Path, suffix: str, kind: type) -> None:
    """The reader would make 0 of them: water in CT. More than 1 MB, so that they lie in several blocks."""
    array = np.zeros((70, 64, 64), kind)
    np.testing.assert_array_equal(read_volume(write_image(tmp_path / f"good{suffix}", array)).array, array)
    array[0, 0, 0], array[40, 5, 6], array[-1, -1, -1] = np.nan, -np.inf, np.inf
    with pytest.raises(InvalidInputError, match=r"bad\.nii.*: 3 voxels are NaN or infinite"):
        read_volume(write_image(tmp_path / f"bad{suffix}", array))


def test_zero_spacing_in_other_formats_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.mha")
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = 0 1 1"))
    with pytest.raises(InvalidInputError, match="spacing in its header is zero"):
        read_volume(path)


def test_a_sheared_nifti_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii")
    raw = bytearray(path.read_bytes())
    struct.pack_into("<hh", raw, 252, 0, 1)
    for row, values in enumerate([(1, 0.5, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)]):
        struct.pack_into("<4f", raw, 280 + 16 * row, *values)
    path.write_bytes(raw)
    with pytest.raises(InvalidInputError, match="axes are not orthonormal"):
        read_volume(path)


@pytest.mark.parametrize("matrix", [b"1 0.5 0 0 1 0 0 0 1", b"1 0 0 0 1 0 0 0 0"])
def test_a_metaimage_without_orthonormal_axes_is_refused(tmp_path: Path, matrix: bytes) -> None:
    path = write_image(tmp_path / "a.mha")
    path.write_bytes(path.read_bytes().replace(b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = " + matrix))
    with pytest.raises(InvalidInputError, match="axes are not orthonormal"):
        read_volume(path)


def test_a_colour_image_is_refused(tmp_path: Path) -> None:
    colours = sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "rgb.nrrd"))
    with pytest.raises(InvalidInputError, match="3 components per voxel.* 'udfa cine' takes all frames"):
        read_volume(tmp_path / "rgb.nrrd")


def test_a_4d_file_is_refused_with_its_number_of_time_points(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(NOISE)] * 3), str(tmp_path / "cine.nii.gz"))
    with pytest.raises(InvalidInputError, match="4D with 3 time points. 'udfa cine' takes all of them"):
        read_volume(tmp_path / "cine.nii.gz")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"old")

    def fail_half_way() -> None:
        with written_aside(path) as aside:
            aside.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_replaces_the_old_one_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.nii.gz"
    for content in (b"one", b"two"):
        with written_aside(path) as aside:
            assert aside.name.endswith(".nii.gz")
            aside.write_bytes(content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.png", "a"])
def test_formats_of_two_files_are_not_written(kit: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"Cannot write .*choose a name ending in \.nii"):
        write_array(tmp_path / name, NOISE, kit.volume(NOISE))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ARRAY_SUFFIXES)
def test_a_file_that_the_disk_has_no_room_for_leaves_the_old_one(kit: Any, tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files ends the writing as a full disk does; noise cannot be compressed below it."""
    resource = pytest.importorskip("resource")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    noise = np.random.default_rng(0).integers(0, 256, size=(40, 50, 50)).astype(np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(UDFAError, match=r"could not be written whole into .* Check the free space"):
            write_array(path, noise, kit.volume(noise))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
