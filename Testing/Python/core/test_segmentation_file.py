"""Segmentation files: what is written, what Slicer makes of it, and what is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from udfa.errors import InvalidInputError, UDFAError
from udfa.geometry import Volume
from udfa.labels import Label, describe
from udfa.output_names import LABELMAP_SUFFIXES, labels_file, split_name
from udfa.segmentation_file import LabelledVolume, write_segmentation
from udfa.segmentation_reader import read_segmentation

LIVER, SPLEEN, KIDNEY = describe("liver"), describe("spleen"), describe("left_kidney")


def oblique_grid(shape: tuple[int, int, int] = (4, 6, 8)) -> Volume:
    """A grid turned by 0.3 rad about the patient's long axis and tilted by 0.2 rad."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    return Volume(np.zeros(shape, np.int16), (3.0, 2.0, 1.5), (turn @ tilt)[:, ::-1].copy(), (10.0, -20.0, 30.0))


def two_blocks() -> np.ndarray:
    """Liver (6) in 12 voxels and spleen (1) in 8; the left kidney (3) nowhere."""
    labelmap = np.zeros((4, 6, 8), np.uint8)
    labelmap[1:3, 1:4, 2:4] = 6
    labelmap[2:4, 4:6, 5:7] = 1
    return labelmap


def content(**changes: Any) -> LabelledVolume:
    fields: dict[str, Any] = {
        "labelmap": two_blocks(),
        "reference": oblique_grid(),
        "labels": {1: SPLEEN, 3: KIDNEY, 6: LIVER},
        "provenance": {"checkpoint": {"name": "tiny"}, "warnings": ['a "quoted" \\ warning', "é"]},
    }
    return LabelledVolume(**{**fields, **changes})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("case7.seg.nrrd", ("case7", ".seg.nrrd")),
        ("case7.nrrd", ("case7", ".nrrd")),
        ("Case.7.NII.GZ", ("Case.7", ".nii.gz")),
    ],
)
def test_the_longest_known_suffix_is_split_off(name: str, expected: tuple[str, str]) -> None:
    assert split_name(Path("folder") / name) == expected


@pytest.mark.parametrize("name", ["case7.mha", "case7", ".seg.nrrd", "case7.nii", "case7.json"])
def test_an_unknown_output_name_is_refused_with_the_known_endings(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"must end in \.seg\.nrrd or \.nii\.gz or \.nrrd"):
        split_name(Path(name))


def test_a_segmentation_name_is_no_name_for_a_plain_volume() -> None:
    with pytest.raises(InvalidInputError, match=r"must end in \.nii\.gz or \.nrrd"):
        split_name(Path("case7.seg.nrrd"), LABELMAP_SUFFIXES)


@pytest.mark.parametrize("name", ["out.seg.nrrd", "out.nii.gz", "out.nrrd"])
def test_every_format_reads_back_with_names_colours_terminology_voxels_and_geometry(tmp_path: Path, name: str) -> None:
    write_segmentation(tmp_path / name, content())
    read = read_segmentation(tmp_path / name)
    assert {(s.id, s.title, s.value, s.color, s.terminology) for s in read.segments} == {
        ("spleen", "Spleen", 1, (157, 108, 162), SPLEEN.terminology()),
        ("liver", "Liver", 6, (221, 130, 101), LIVER.terminology()),
    }
    np.testing.assert_array_equal(read.layers[0], two_blocks())
    grid = oblique_grid()
    np.testing.assert_allclose(read.geometry.direction, grid.direction, atol=1e-6)
    np.testing.assert_allclose(read.geometry.origin_mm, grid.origin_mm, atol=1e-5)
    np.testing.assert_allclose(read.geometry.spacing_mm, grid.spacing_mm, atol=1e-6)
    assert read.provenance == content().provenance


def test_the_json_lists_every_label_asked_for_with_its_voxels(tmp_path: Path) -> None:
    write_segmentation(tmp_path / "out.nii.gz", content())
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["labelmap"] == "out.nii.gz"
    assert [(row["value"], row["name"], row["voxels"]) for row in document["labels"]] == [
        (1, "spleen", 8),
        (3, "left_kidney", 0),
        (6, "liver", 12),
    ]
    assert document["labels"][1]["terminology"] == KIDNEY.terminology()


def test_a_segmentation_file_has_no_json_beside_it(tmp_path: Path) -> None:
    write_segmentation(tmp_path / "out.seg.nrrd", content())
    assert [path.name for path in tmp_path.iterdir()] == ["out.seg.nrrd"]


def test_a_failed_write_leaves_neither_labelmap_nor_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full_disk)
    with pytest.raises(UDFAError, match="could not be written whole.*No space left"):
        write_segmentation(tmp_path / "out.nii.gz", content())
    assert list(tmp_path.iterdir()) == []


def test_a_labelmap_of_another_shape_than_its_image_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"\(4, 6, 7\).*\(4, 6, 8\)"):
        content(labelmap=np.zeros((4, 6, 7), np.uint8))


def test_a_bare_labelmap_gives_segments_named_after_their_values(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(two_blocks()), str(tmp_path / "bare.nii.gz"))
    assert [(s.id, s.value) for s in read_segmentation(tmp_path / "bare.nii.gz").segments] == [
        ("label_1", 1),
        ("label_6", 6),
    ]


def test_a_value_that_the_json_does_not_name_is_kept_under_its_number(tmp_path: Path) -> None:
    path = tmp_path / "out.nrrd"
    write_segmentation(path, content(labels={6: LIVER}))
    assert [s.id for s in read_segmentation(path).segments] == ["label_1", "liver"]


def test_an_image_is_refused_as_segmentation(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), 0.5, np.float32)), str(tmp_path / "image.nrrd"))
    with pytest.raises(InvalidInputError, match="no whole numbers"):
        read_segmentation(tmp_path / "image.nrrd")


def test_a_damaged_json_is_named_in_the_error(tmp_path: Path) -> None:
    write_segmentation(tmp_path / "out.nrrd", content())
    labels_file(tmp_path / "out.nrrd").write_text('{"labels": [{"value": 1}]}')
    with pytest.raises(InvalidInputError, match=r"out\.json does not describe"):
        read_segmentation(tmp_path / "out.nrrd")


def test_a_segment_is_found_by_id_by_terminology_and_by_title(tmp_path: Path) -> None:
    write_segmentation(tmp_path / "out.seg.nrrd", content())
    read = read_segmentation(tmp_path / "out.seg.nrrd")
    by_codes = Label("hepar", "Leber", (1, 2, 3), LIVER.type)
    by_title = Label("milz", "SPLEEN", (1, 2, 3))
    assert [read.find(label).value for label in (LIVER, by_codes, by_title)] == [6, 6, 1]  # type: ignore[union-attr]
    assert read.find(describe("right_kidney")) is None


def test_the_side_tells_two_kidneys_apart(tmp_path: Path) -> None:
    right = describe("right_kidney")
    write_segmentation(tmp_path / "out.seg.nrrd", content(labels={1: right, 6: KIDNEY}))
    read = read_segmentation(tmp_path / "out.seg.nrrd")
    renamed = Label("k", "k", (0, 0, 0), KIDNEY.type, KIDNEY.modifier)
    assert read.find(renamed).id == "left_kidney"  # type: ignore[union-attr]


# --- Against Slicer's own reader and writer --------------------------------------------------------------------------


@pytest.fixture
def scene() -> Any:
    """An empty MRML scene of slicer-core; the scene of the process is left alone."""
    slicer = pytest.importorskip("slicer")
    if not hasattr(slicer, "vtkMRMLScene"):
        pytest.skip("the module 'slicer' is not slicer-core")
    return slicer.vtkMRMLScene()


def load_in_slicer(scene: Any, path: Path) -> Any:
    """Return the segmentation node that Slicer's storage node makes of a file."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1
    return node


def slicer_mask(node: Any, segment_id: str) -> tuple[np.ndarray, np.ndarray]:
    """(D, H, W) mask of a segment in Slicer and its (4, 4) IJK-to-RAS matrix."""
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return values > 0, np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


@pytest.mark.slicer
def test_slicer_reads_names_colours_terminology_values_and_every_voxel_of_an_oblique_segmentation(
    tmp_path: Path, scene: Any
) -> None:
    write_segmentation(tmp_path / "out.seg.nrrd", content())
    node = load_in_slicer(scene, tmp_path / "out.seg.nrrd")
    segmentation = node.GetSegmentation()
    assert [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())] == ["spleen", "liver"]
    grid = oblique_grid()
    columns = np.asarray(grid.direction)[:, ::-1] * [1.5, 2.0, 3.0]
    expected = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([columns, grid.origin_mm])
    for value, label in ((1, SPLEEN), (6, LIVER)):
        segment = segmentation.GetSegment(label.name)
        assert segment.GetName() == label.title
        assert segment.GetColor() == pytest.approx(label.color01, abs=1e-5)
        assert segment.GetTerminology() == label.terminology()
        assert segment.GetLabelValue() == value
        assert not segment.GetNameAutoGenerated()
        mask, matrix = slicer_mask(node, label.name)
        np.testing.assert_array_equal(mask, two_blocks() == value)
        np.testing.assert_allclose(matrix[:3], expected, atol=1e-6)
    assert segmentation.GetNumberOfLayers() == 1


@pytest.mark.slicer
def test_slicer_keeps_the_whole_source_grid_when_it_saves_the_segmentation_again(tmp_path: Path, scene: Any) -> None:
    write_segmentation(tmp_path / "out.seg.nrrd", content())
    node = load_in_slicer(scene, tmp_path / "out.seg.nrrd")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "again.seg.nrrd"))
    assert storage.WriteData(node) == 1
    again = read_segmentation(tmp_path / "again.seg.nrrd")
    assert again.layers.shape == (1, 4, 6, 8)
    np.testing.assert_array_equal(again.layers[0] == 6, two_blocks() == 6)
    assert [s.terminology for s in again.segments] == [SPLEEN.terminology(), LIVER.terminology()]


@pytest.mark.slicer
def test_slicer_reads_an_empty_segmentation_and_an_unknown_label(tmp_path: Path, scene: Any) -> None:
    write_segmentation(tmp_path / "none.seg.nrrd", content(labelmap=np.zeros((4, 6, 8), np.uint8)))
    assert load_in_slicer(scene, tmp_path / "none.seg.nrrd").GetSegmentation().GetNumberOfSegments() == 0
    write_segmentation(tmp_path / "own.seg.nrrd", content(labels={6: describe("naïve|tumour: 1")}))
    segment = load_in_slicer(scene, tmp_path / "own.seg.nrrd").GetSegmentation().GetSegment("naïve|tumour: 1")
    assert segment.GetName() == "Naïve|tumour: 1"


def slicer_segmentation(scene: Any, masks: dict[str, np.ndarray]) -> Any:
    """A segmentation node on the oblique grid with one segment per mask, as the Segment Editor would make it."""
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    grid = oblique_grid()
    columns = np.asarray(grid.direction)[:, ::-1] * [1.5, 2.0, 3.0]
    matrix = vtk.vtkMatrix4x4()
    for row, numbers in enumerate(np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([columns, grid.origin_mm])):
        for column, number in enumerate(numbers):
            matrix.SetElement(row, column, number)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    for name, mask in masks.items():
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(*mask.shape[::-1])
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
        image.SetGeometryFromImageToWorldMatrix(matrix)
        node.AddSegmentFromBinaryLabelmapRepresentation(image, name, [1.0, 0.0, 0.5])
    return node


def save_in_slicer(scene: Any, node: Any, path: Path, crop: bool = False) -> None:
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    storage.SetCropToMinimumExtent(crop)
    assert storage.WriteData(node) == 1


@pytest.mark.slicer
@pytest.mark.parametrize("crop", [False, True])
def test_overlapping_segments_that_slicer_wrote_in_two_layers_come_back_on_the_image_grid(
    tmp_path: Path, scene: Any, crop: bool
) -> None:
    first, second = np.zeros((4, 6, 8), np.uint8), np.zeros((4, 6, 8), np.uint8)
    first[1:3, 1:4, 2:5] = 1
    second[2:4, 2:6, 3:8] = 1
    save_in_slicer(scene, slicer_segmentation(scene, {"Liver": first, "Spleen": second}), tmp_path / "s.seg.nrrd", crop)
    read = read_segmentation(tmp_path / "s.seg.nrrd")
    assert len(read.layers) == 2
    assert [s.title for s in read.segments] == ["Liver", "Spleen"]
    assert read.segments[0].color == (255, 0, 128)
    for segment, expected in zip(read.segments, (first, second)):
        np.testing.assert_array_equal(read.mask(segment, oblique_grid()), expected > 0)


@pytest.mark.slicer
def test_segments_that_slicer_shares_in_one_layer_come_back_apart(tmp_path: Path, scene: Any) -> None:
    first, second = np.zeros((4, 6, 8), np.uint8), np.zeros((4, 6, 8), np.uint8)
    first[0:2], second[2:4] = 1, 1
    node = slicer_segmentation(scene, {"Liver": first, "Spleen": second})
    node.GetSegmentation().CollapseBinaryLabelmaps(True)
    save_in_slicer(scene, node, tmp_path / "s.seg.nrrd")
    read = read_segmentation(tmp_path / "s.seg.nrrd")
    assert len(read.layers) == 1
    for label, expected in ((LIVER, first), (SPLEEN, second)):
        segment = read.find(label)
        assert segment is not None
        np.testing.assert_array_equal(read.mask(segment, oblique_grid()), expected > 0)


@pytest.mark.slicer
def test_a_segment_that_is_empty_in_slicer_comes_back_empty(tmp_path: Path, scene: Any) -> None:
    full, empty = np.ones((4, 6, 8), np.uint8), np.zeros((4, 6, 8), np.uint8)
    save_in_slicer(scene, slicer_segmentation(scene, {"Liver": full, "Spleen": empty}), tmp_path / "s.seg.nrrd")
    read = read_segmentation(tmp_path / "s.seg.nrrd")
    assert [int(read.mask(segment, oblique_grid()).sum()) for segment in read.segments] == [192, 0]
