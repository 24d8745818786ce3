"""Cine series as files: frames in the order of time, on the grid that the header gives, and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from udfa.cine_io import image_of_frames, read_cine, series_from_image, series_name
from udfa.errors import InvalidInputError

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "UDFASegmentation" / "Resources" / "SampleData" / "cardiac_cine.seq.nrrd"

FRAMES = np.arange(3 * 2 * 4 * 5, dtype=np.int16).reshape(3, 2, 4, 5)
"""(T, D, H, W); voxel (t, z, y, x) = 40 t + 20 z + 5 y + x."""

# I, J and K run to posterior, right and superior.
LPS_COLUMNS = [0, -1, 0, 1, 0, 0, 0, 0, 1]


def image_4d(frames: np.ndarray = FRAMES, direction: list[float] | np.ndarray = LPS_COLUMNS) -> sitk.Image:
    images = []
    for frame in frames:
        image = sitk.GetImageFromArray(frame)
        image.SetSpacing((1.5, 2.0, 8.0))
        image.SetOrigin((10.0, -20.0, 30.0))
        image.SetDirection(np.asarray(direction, dtype=np.float64).ravel().tolist())
        images.append(image)
    return sitk.JoinSeries(images, 5.0, 33.5)


def write_sequence(
    path: Path, kind: str = "list", frames_first: bool = False, entries: dict[str, str] | None = None
) -> Path:
    """Write FRAMES as Slicer does, with the frames as the last or as the first axis, and more header entries."""
    axes = [("5", "domain", "(0,1.5,0)"), ("4", "domain", "(-2,0,0)"), ("2", "domain", "(0,0,8)")]
    axes.insert(0 if frames_first else 3, ("3", kind, "none"))
    sizes, kinds, directions = (" ".join(column) for column in zip(*axes))
    header = (
        f"NRRD0004\ntype: short\ndimension: 4\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: {directions}\nkinds: {kinds}\nendian: little\nencoding: raw\nspace origin: (10,-20,30)\n"
    )
    header += "".join(f"{key}:={text}\n" for key, text in (entries or {}).items())
    voxels = np.moveaxis(FRAMES, 0, -1) if frames_first else FRAMES
    path.write_bytes(header.encode() + b"\n" + voxels.astype("<i2").tobytes())
    return path


def assert_frames_on_the_grid(series: Any) -> None:
    assert len(series.frames) == 3
    for frame, expected in zip(series.frames, FRAMES):
        np.testing.assert_array_equal(frame.array, expected)
        assert frame.spacing_mm == (8.0, 2.0, 1.5)
        assert frame.origin_mm == (10.0, -20.0, 30.0)
        # Columns are the axes D, H, W: superior, right, posterior.
        np.testing.assert_allclose(frame.direction, [[0, -1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_4d_file_gives_its_frames_on_their_grid(tmp_path: Path, suffix: str) -> None:
    sitk.WriteImage(image_4d(), str(tmp_path / f"heart{suffix}"))
    series = read_cine(tmp_path / f"heart{suffix}")
    assert_frames_on_the_grid(series)
    assert series.step == pytest.approx(33.5)
    assert (series.index_values, series.index_value(1), series.title(1)) == ((), "", "frame 2")


@pytest.mark.parametrize("frames_first", [False, True])
def test_a_sequence_of_slicer_gives_its_frames_on_their_grid(tmp_path: Path, frames_first: bool) -> None:
    assert_frames_on_the_grid(read_cine(write_sequence(tmp_path / "heart.seq.nrrd", frames_first=frames_first)))


def test_index_values_of_a_sequence_are_read_as_slicer_writes_them(tmp_path: Path) -> None:
    entries = {"axis 3 index values": "end%20diastole 33.5 c,d"}
    series = read_cine(write_sequence(tmp_path / "a.seq.nrrd", entries=entries))
    assert series.index_values == ("end diastole", "33.5", "c,d")


def test_index_values_that_do_not_match_the_frames_are_left_out(tmp_path: Path) -> None:
    path = write_sequence(tmp_path / "a.seq.nrrd", entries={"axis 3 index values": "0 1"})
    assert read_cine(path).index_values == ()


def test_the_bundled_series_has_two_named_phases_of_9_slices() -> None:
    series = read_cine(SAMPLE)
    assert [frame.array.shape for frame in series.frames] == [(9, 256, 256)] * 2
    assert series.frames[0].spacing_mm == (8.0, 1.3, 1.3)
    assert series.title(1) == "frame 2 (phase end-systole)"


def test_an_oblique_labelmap_of_all_frames_comes_back_from_its_file_on_the_same_grid(tmp_path: Path, kit: Any) -> None:
    series = series_from_image(image_4d(direction=kit.rotation(7)), "heart")
    labels = (FRAMES % 4).astype(np.uint8)
    sitk.WriteImage(image_of_frames(labels, series), str(tmp_path / "labels.nii.gz"))
    again = read_cine(tmp_path / "labels.nii.gz")
    for frame, source, expected in zip(again.frames, series.frames, labels):
        np.testing.assert_array_equal(frame.array, expected)
        np.testing.assert_allclose(frame.direction, source.direction, atol=1e-6)
        np.testing.assert_allclose(frame.origin_mm, source.origin_mm, atol=1e-5)
        np.testing.assert_allclose(frame.spacing_mm, source.spacing_mm, rtol=1e-6)
    assert (again.start, again.step) == pytest.approx((5.0, 33.5))


@pytest.mark.parametrize(
    ("name", "stem"),
    [("heart.seq.nrrd", "heart"), ("a.b.NII.GZ", "a.b"), ("heart.mha", "heart"), ("heart", "heart")],
)
def test_the_name_of_a_series_is_that_of_its_file_without_the_ending(name: str, stem: str) -> None:
    assert series_name(Path("folder") / name) == stem


@pytest.mark.parametrize("frames", [FRAMES[0], FRAMES[:1]], ids=["3D", "one frame"])
def test_one_volume_is_sent_to_udfa_segment(tmp_path: Path, frames: np.ndarray) -> None:
    image = image_4d(frames) if frames.ndim == 4 else sitk.GetImageFromArray(frames)
    sitk.WriteImage(image, str(tmp_path / "one.nii.gz"))
    with pytest.raises(InvalidInputError, match=r"one\.nii\.gz is one volume.* 'udfa segment'"):
        read_cine(tmp_path / "one.nii.gz")


@pytest.mark.parametrize("kind", ["RGB-color", "vector"])
def test_colours_and_vectors_are_no_frames(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InvalidInputError, match=f"3 components per voxel of kind '{kind}': it is a colour or vector"):
        read_cine(write_sequence(tmp_path / "a.nrrd", kind, frames_first=True))


def test_a_segmentation_with_several_layers_is_no_series(tmp_path: Path) -> None:
    path = write_sequence(tmp_path / "a.seg.nrrd", entries={"Segment0_ID": "liver"})
    with pytest.raises(InvalidInputError, match="is a segmentation"):
        read_cine(path)


def test_a_time_axis_without_the_kind_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="none of kind 'list'"):
        read_cine(write_sequence(tmp_path / "a.nrrd", "time"))


def test_frames_that_move_with_time_are_refused() -> None:
    image = image_4d()
    turned = np.eye(4)
    turned[[0, 3], [0, 3]], turned[0, 3], turned[3, 0] = 0.8, -0.6, 0.6
    image.SetDirection(turned.ravel().tolist())
    with pytest.raises(InvalidInputError, match="frames lie at different places"):
        series_from_image(image, "heart")


def test_a_folder_is_refused_with_the_way_through_slicer(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"is a folder.* save that as \.seq\.nrrd"):
        read_cine(tmp_path)


def test_a_truncated_series_is_told_as_a_truncated_volume_is(tmp_path: Path) -> None:
    sitk.WriteImage(image_4d(), str(tmp_path / "heart.nii"))
    (tmp_path / "heart.nii").write_bytes((tmp_path / "heart.nii").read_bytes()[:-100])
    with pytest.raises(InvalidInputError, match=r"heart\.nii is truncated"):
        read_cine(tmp_path / "heart.nii")
