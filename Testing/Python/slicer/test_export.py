"""Exports on real MRML: files exist, read back equal voxel for voxel, and a failed export leaves nothing."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
import vtk

from headless.reading import read_with_slicer, segment_ids
from headless.samples import add_transform, add_volume, fake_model, fake_result, ijk_to_ras, random_matrix
from UDFASegmentationLib import Export
from UDFASegmentationLib.Export import FORMATS, exportSegmentation, nonEmptySegments
from UDFASegmentationLib.ExportFiles import ExportError
from UDFASegmentationLib.ProvenanceFile import ProvenanceContext
from UDFASegmentationLib.SegmentationWriter import writeResult

SHAPE = (6, 7, 8)
CONTEXT = ProvenanceContext(
    slicerVersion="5.12.3",
    settings={"labels": ["liver", "spleen"]},
    clock=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    version={"torch": "2.6.0", "torchvision": "0.21.0", "timm": "1.0.9"}.__getitem__,
)


@pytest.fixture
def labelmap() -> np.ndarray:
    """Two blocks and three voxels: liver 12, spleen 8."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 2:4, 3:6] = 1
    array[3:5, 4:6, 5:7] = 2
    return array


@pytest.fixture
def case(labelmap):
    """An oblique volume and its segmentation."""
    volume = add_volume(np.zeros(SHAPE, np.int16), random_matrix(np.random.default_rng(4)), "2: Abdomen")
    return volume, writeResult(volume, fake_result(labelmap), fake_model(labelmap, "liver", "spleen"))


def sceneState() -> list[tuple[str, str, int]]:
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    return sorted((node.GetID(), node.GetName(), 0) for node in nodes)


def provenance(folder: Path) -> dict:
    (path,) = folder.glob("*.provenance.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_labelmap_file_lies_on_the_volumes_grid_voxel_for_voxel(case, labelmap, tmp_path, suffix):
    volume, node = case
    result = exportSegmentation(node, tmp_path / f"organs{suffix}", suffix[1:], CONTEXT)
    assert [path.name for path in result.files] == [f"organs{suffix}", "organs.provenance.json"]
    image = sitk.ReadImage(str(result.files[0]))
    assert np.array_equal(sitk.GetArrayFromImage(image), labelmap)
    ijkToRas = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(ijkToRas)
    corner = ijkToRas.MultiplyPoint((7, 6, 5, 1))[:3]
    # NIfTI stores the matrix in single precision.
    assert image.TransformIndexToPhysicalPoint((7, 6, 5)) == pytest.approx(
        (-corner[0], -corner[1], corner[2]), abs=1e-3
    )
    assert provenance(tmp_path)["label_values"] == {"1": "Liver", "2": "Spleen"}


@pytest.mark.parametrize("moved", ["volume", "segmentation", "both"])
def test_parent_transforms_do_not_shift_a_labelmap(case, labelmap, tmp_path, moved):
    volume, node = case
    matrix = ijk_to_ras()
    # A whole number of voxels along I, so that the shifted labels fall on voxels again.
    toRas = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(toRas)
    matrix[:3, 3] = [toRas.GetElement(row, 0) for row in range(3)]
    transform = add_transform(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID() if moved != "segmentation" else None)
    node.SetAndObserveTransformNodeID(transform.GetID() if moved != "volume" else None)
    (path, _) = exportSegmentation(node, tmp_path / "organs.nrrd", "nrrd", CONTEXT).files
    shift = {"volume": -1, "segmentation": 1, "both": 0}[moved]
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), np.roll(labelmap, shift, axis=2))


def test_a_segmentation_file_keeps_names_colours_terminology_and_voxels(case, labelmap, tmp_path):
    volume, node = case
    (path, _) = exportSegmentation(node, tmp_path / "organs", "seg.nrrd", CONTEXT).files
    assert path.name == "organs.seg.nrrd"
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    loaded = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "loaded")
    assert storage.ReadData(loaded)
    assert np.array_equal(read_with_slicer(loaded, volume), labelmap)
    for segmentID in segment_ids(node):
        before, after = node.GetSegmentation().GetSegment(segmentID), loaded.GetSegmentation().GetSegment(segmentID)
        assert after.GetName() == before.GetName()
        assert after.GetColor() == pytest.approx(before.GetColor(), abs=1e-5)
        assert after.GetTerminology() == before.GetTerminology()


def volumeOf(path: Path) -> float:
    reader = vtk.vtkSTLReader()
    reader.SetFileName(str(path))
    properties = vtk.vtkMassProperties()
    properties.SetInputConnection(reader.GetOutputPort())
    return properties.GetVolume()


def test_each_segment_becomes_a_closed_stl_surface_of_about_its_volume(tmp_path):
    array = np.zeros((30, 30, 30), np.uint8)
    array[5:25, 5:25, 5:25] = 1
    array[5:25, 5:25, 26:29] = 2
    volume = add_volume(np.zeros(array.shape, np.int16), ijk_to_ras((2.0, 2.0, 2.0)))
    node = writeResult(volume, fake_result(array), fake_model(array, "liver", "spleen"))
    node.SetName("case 1")
    result = exportSegmentation(node, tmp_path, "stl", CONTEXT)
    assert [path.name for path in result.files] == [
        "case 1_Liver.stl",
        "case 1_Spleen.stl",
        "case 1.provenance.json",
    ]
    # 20 x 20 x 20 voxels of 8 mm3; smoothing rounds the edges.
    assert volumeOf(tmp_path / "case 1_Liver.stl") == pytest.approx(64000, rel=0.1)
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_an_obj_file_comes_with_its_materials(case, tmp_path):
    result = exportSegmentation(case[1], tmp_path, "obj", CONTEXT)
    assert sorted(path.suffix for path in result.files) == [".json", ".mtl", ".obj"]
    (obj,) = tmp_path.glob("*.obj")
    assert obj.with_suffix(".mtl").name in obj.read_text()


def test_names_that_are_no_file_names_and_names_that_occur_twice_lose_no_surface(case, tmp_path):
    node = case[1]
    node.SetName("a/b: c")
    for segmentID in segment_ids(node):
        node.GetSegmentation().GetSegment(segmentID).SetName("right/left: lobe?")
    exportSegmentation(node, tmp_path, "stl", CONTEXT)
    assert sorted(path.name for path in tmp_path.glob("*.stl")) == [
        "a_b_ c_right_left_ lobe_ 2.stl",
        "a_b_ c_right_left_ lobe_.stl",
    ]
    assert [node.GetSegmentation().GetSegment(i).GetName() for i in segment_ids(node)] == ["right/left: lobe?"] * 2


def test_segments_without_voxels_are_left_out(case, tmp_path):
    node = case[1]
    node.GetSegmentation().AddEmptySegment("empty", "Empty")
    assert nonEmptySegments(node) == ["liver", "spleen"]
    exportSegmentation(node, tmp_path, "stl", CONTEXT)
    assert len(list(tmp_path.glob("*.stl"))) == 2


def test_a_segmentation_without_any_voxel_is_refused(tmp_path):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing")
    node.GetSegmentation().AddEmptySegment("empty", "Empty")
    with pytest.raises(ExportError, match="nothing to export"):
        exportSegmentation(node, tmp_path / "x.nrrd", "nrrd", CONTEXT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("formatKey", ["seg.nrrd", "nii.gz", "nrrd", "stl", "obj"])
def test_the_scene_is_the_same_after_an_export(case, tmp_path, formatKey):
    node = case[1]
    storageBefore, before = node.GetStorageNode(), sceneState()
    exportSegmentation(node, tmp_path / "out", formatKey, CONTEXT)
    assert sceneState() == before
    assert node.GetStorageNode() is storageBefore


def test_without_its_volume_the_labelmap_lies_on_the_segmentations_own_grid(case, labelmap, tmp_path):
    volume, node = case
    slicer.mrmlScene.RemoveNode(volume)
    (path, _) = exportSegmentation(node, tmp_path / "organs.nrrd", "nrrd", CONTEXT).files
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), labelmap)
    assert provenance(tmp_path)["input"] == ""


def test_overlapping_segments_are_told_for_labelmaps(case, tmp_path):
    node = case[1]
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:5, 2:6, 3:7] = 1
    segmentID = node.GetSegmentation().AddEmptySegment("all", "All")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segmentID, case[0])
    assert "overlap" in exportSegmentation(node, tmp_path / "organs.nrrd", "nrrd", CONTEXT).notes[0]
    assert exportSegmentation(node, tmp_path / "organs.seg.nrrd", "seg.nrrd", CONTEXT).notes == []


def test_an_unknown_format_names_those_that_exist(case, tmp_path):
    with pytest.raises(ExportError, match=r"seg\.nrrd, nii\.gz"):
        exportSegmentation(case[1], tmp_path / "x", "docx", CONTEXT)


def test_existing_files_are_replaced_and_others_stay(case, labelmap, tmp_path):
    (tmp_path / "organs.nrrd").write_text("old")
    (tmp_path / "other.txt").write_text("mine")
    exportSegmentation(case[1], tmp_path / "organs.nrrd", "nrrd", CONTEXT)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "organs.nrrd"))), labelmap)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["organs.nrrd", "organs.provenance.json", "other.txt"]


@pytest.mark.parametrize("formatKey", ["seg.nrrd", "nrrd", "stl"])
def test_an_export_that_fails_at_the_end_leaves_the_old_files(case, tmp_path, monkeypatch, formatKey):
    (tmp_path / "out.nrrd").write_text("old")

    def broken(path, document):
        raise OSError("disk full")

    monkeypatch.setattr(Export, "writeProvenance", broken)
    before = sceneState()
    with pytest.raises(OSError, match="disk full"):
        exportSegmentation(case[1], tmp_path / "out.nrrd" if formatKey != "stl" else tmp_path, formatKey, CONTEXT)
    assert [path.name for path in tmp_path.iterdir()] == ["out.nrrd"]
    assert (tmp_path / "out.nrrd").read_text() == "old"
    assert sceneState() == before


def test_a_writer_that_fails_is_told_and_leaves_no_folder(case, tmp_path, monkeypatch):
    class Broken(slicer.vtkMRMLSegmentationStorageNode):
        def WriteData(self, node):
            return 0

    monkeypatch.setattr(slicer, "vtkMRMLSegmentationStorageNode", Broken)
    with pytest.raises(ExportError, match=r"could not write"):
        exportSegmentation(case[1], tmp_path / "new" / "deep" / "organs.seg.nrrd", "seg.nrrd", CONTEXT)
    assert list(tmp_path.iterdir()) == []


def test_lost_surface_files_are_noticed(case, tmp_path, monkeypatch):
    class Logic:
        @staticmethod
        def ExportSegmentsClosedSurfaceRepresentationToFiles(folder, node, ids, kind):
            (Path(folder) / "one.stl").write_text("solid")
            return True

    monkeypatch.setattr(slicer.modules.segmentations, "logic", Logic)
    with pytest.raises(ExportError, match="1 of 2 STL files"):
        exportSegmentation(case[1], tmp_path, "stl", CONTEXT)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told(case, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="Choose another folder"):
        exportSegmentation(case[1], tmp_path / "file" / "organs.nrrd", "nrrd", CONTEXT)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_format_has_a_title_and_a_key_of_its_own():
    assert {key: entry.key for key, entry in FORMATS.items()} == {key: key for key in FORMATS}
    assert len({entry.title for entry in FORMATS.values()}) == len(FORMATS)
