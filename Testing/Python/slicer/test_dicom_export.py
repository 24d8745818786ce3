"""DICOM exports: real subject hierarchy and segments, plugins with the methods of Slicer's and SlicerRT's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import slicer

from headless.samples import add_volume, fake_model, fake_result
from UDFASegmentationLib.DicomExport import patientNamesOf
from UDFASegmentationLib.Export import exportSegmentation
from UDFASegmentationLib.ExportFiles import ExportError
from UDFASegmentationLib.SegmentationWriter import writeResult
from UDFASegmentationLib.SegmentTags import segmentTag


class Exportable:
    """What qSlicerDICOMExportable has of it."""

    def __init__(self, item: int) -> None:
        self.directory, self.item, self.tags = "", item, {}

    def setTag(self, name: str, value: str) -> None:
        self.tags[name] = value


class Case:
    """A volume from DICOM in a patient's study, its segmentation elsewhere, and what the plugin saw."""

    def __init__(self) -> None:
        labelmap = np.zeros((6, 7, 8), np.uint8)
        labelmap[1:3, 2:4, 3:6] = 1
        labelmap[3:5, 4:6, 5:7] = 2
        self.volume = add_volume(name="2: CT of Doe")
        self.volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
        self.node = writeResult(self.volume, fake_result(labelmap), fake_model(labelmap, "liver", "spleen"))
        self.hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        scene = self.hierarchy.GetSceneItemID()
        self.patient = self.hierarchy.CreateSubjectItem(scene, "Doe^Jonathan")
        self.hierarchy.SetItemAttribute(self.patient, "DICOM.PatientID", "MRN-4711")
        self.study = self.hierarchy.CreateStudyItem(self.patient, "CT 2026")
        self.volumeItem = self.hierarchy.CreateItem(self.study, self.volume)
        self.elsewhere = self.hierarchy.CreateFolderItem(scene, "elsewhere")
        self.item = self.hierarchy.CreateItem(self.elsewhere, self.node)
        self.seen: list[dict] = []
        self.tags: list[dict] = []
        self.message = ""
        self.files = ["subject_hierarchy_export.SEG2026.dcm"]

    def look(self, item: int) -> None:
        segment = self.node.GetSegmentation().GetSegment("liver")
        self.seen.append(
            {
                "item": item,
                "parent": self.hierarchy.GetItemParent(item),
                "type": segmentTag(segment, "DICOM.SegmentAlgorithmType"),
                "name": segmentTag(segment, "DICOM.SegmentAlgorithmName"),
            }
        )


@pytest.fixture
def case(scene) -> Case:
    return Case()


@pytest.fixture
def plugins(case, monkeypatch):
    """Modules with the plugin classes; `examineForExport` gives exportables, `export` returns a message or ''."""

    class PluginClass:
        def examineForExport(self, subjectHierarchyItemID):
            case.look(subjectHierarchyItemID)
            return [Exportable(subjectHierarchyItemID)]

        def export(self, exportables):
            case.look(exportables[-1].item)
            case.tags = [exportable.tags for exportable in exportables]
            for name in case.files:
                (Path(exportables[0].directory) / name).write_bytes(b"DICM")
            return case.message

    for module, name in (
        ("DICOMSegmentationPlugin", "DICOMSegmentationPluginClass"),
        ("DicomRtImportExportPlugin", "DicomRtImportExportPluginClass"),
    ):
        fake = ModuleType(module)
        setattr(fake, name, PluginClass)
        monkeypatch.setitem(sys.modules, module, fake)
    return PluginClass


def test_a_dicom_segmentation_gets_the_name_that_was_asked_for(case, plugins, tmp_path):
    result = exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")
    assert [path.name for path in result.files] == ["organs.dcm", "organs.provenance.json"]
    assert (tmp_path / "organs.dcm").read_bytes() == b"DICM"


def test_during_the_export_the_segmentation_lies_in_the_study_of_its_volume_and_then_again_where_it_was(
    case, plugins, tmp_path
):
    exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")
    assert {seen["parent"] for seen in case.seen} == {case.study}
    assert case.hierarchy.GetItemParent(case.item) == case.elsewhere


def test_a_segmentation_in_the_study_stays_where_it_is(case, plugins, tmp_path):
    folder = case.hierarchy.CreateFolderItem(case.study, "results")
    case.hierarchy.SetItemParent(case.item, folder)
    exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")
    assert {seen["parent"] for seen in case.seen} == {folder}


@pytest.mark.parametrize(("status", "kind"), [("NotStarted", "AUTOMATIC"), ("InProgress", "SEMIAUTOMATIC")])
def test_segments_of_a_model_are_marked_as_such_during_the_export(case, plugins, tmp_path, status, kind):
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment = case.node.GetSegmentation().GetSegment("liver")
    logic.SetSegmentStatus(segment, getattr(logic, status))
    exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")
    assert {(seen["type"], seen["name"]) for seen in case.seen} == {(kind, "U-DFA fake")}
    assert segmentTag(segment, "DICOM.SegmentAlgorithmType") == ""


def test_segments_made_by_hand_are_not_marked(case, plugins, tmp_path):
    case.node.GetSegmentation().GetSegment("liver").RemoveTag("UDFA.Model")
    exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")
    assert {seen["type"] for seen in case.seen} == {""}


def test_an_older_slicer_gets_advice(case, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "DICOMSegmentationPlugin", None)
    with pytest.raises(ExportError, match=r"Slicer 5\.12"):
        exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")
    assert list(tmp_path.iterdir()) == []


def test_without_slicerrt_there_is_advice(case, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "DicomRtImportExportPlugin", None)
    with pytest.raises(ExportError, match="SlicerRT"):
        exportSegmentation(case.node, tmp_path, "rtstruct")


def test_a_volume_that_is_not_from_dicom_cannot_be_referred_to(case, plugins, tmp_path):
    case.volume.RemoveAttribute("DICOM.instanceUIDs")
    with pytest.raises(ExportError, match="not loaded from DICOM"):
        exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")


def test_a_volume_outside_a_study_gets_advice(case, plugins, tmp_path):
    case.hierarchy.SetItemParent(case.volumeItem, case.hierarchy.GetSceneItemID())
    with pytest.raises(ExportError, match="no patient and study"):
        exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")


@pytest.mark.parametrize(
    ("message", "files", "told"),
    [
        ("No non empty segments found.", [], "No non empty segments"),
        ("", [], "0 DICOM Segmentation files"),
        ("", ["a.dcm", "b.dcm"], "2 DICOM Segmentation files"),
        ("failed later", ["half.dcm"], "failed later"),
    ],
)
def test_a_plugin_that_fails_leaves_nothing_behind(case, plugins, tmp_path, message, files, told):
    case.message, case.files = message, files
    with pytest.raises(ExportError, match=told):
        exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")
    assert list(tmp_path.iterdir()) == []
    assert case.hierarchy.GetItemParent(case.item) == case.elsewhere
    assert segmentTag(case.node.GetSegmentation().GetSegment("liver"), "DICOM.SegmentAlgorithmType") == ""


def test_a_plugin_that_accepts_nothing_is_told(case, plugins, tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "examineForExport", lambda self, item: [])
    with pytest.raises(ExportError, match="does not accept"):
        exportSegmentation(case.node, tmp_path / "organs.dcm", "dicom-seg")


@pytest.mark.parametrize("method", ["examineForExport", "export"])
@pytest.mark.parametrize("key", ["dicom-seg", "rtstruct"])
def test_a_plugin_that_raises_is_told_like_any_failure(case, plugins, tmp_path, monkeypatch, method, key):
    def broken(self, argument):
        raise AttributeError("'NoneType' object has no attribute 'fileForInstance'")

    monkeypatch.setattr(plugins, method, broken)
    with pytest.raises(ExportError, match="AttributeError: 'NoneType'"):
        exportSegmentation(case.node, tmp_path / "organs.dcm", key)
    assert list(tmp_path.iterdir()) == []
    assert case.hierarchy.GetItemParent(case.item) == case.elsewhere


def test_a_structure_set_is_exported_with_its_image_series(case, plugins, tmp_path):
    case.files = ["CT_001.dcm", "CT_002.dcm", "RTSTRUCT.dcm"]
    result = exportSegmentation(case.node, tmp_path / "rt", "rtstruct")
    assert sorted(path.name for path in (tmp_path / "rt").glob("*.dcm")) == case.files
    assert case.seen[0]["item"] == case.volumeItem
    assert case.seen[1]["item"] == case.item
    assert "image series" in result.notes[0]


def test_a_structure_set_belongs_to_the_patient_and_the_study_of_the_volume(case, plugins, tmp_path):
    case.hierarchy.SetItemAttribute(case.patient, "DICOM.PatientName", "Doe^Jonathan")
    case.hierarchy.SetItemAttribute(case.study, "DICOM.StudyDate", "20261122")
    exportSegmentation(case.node, tmp_path / "rt", "rtstruct")
    known = {"PatientName": "Doe^Jonathan", "PatientID": "MRN-4711", "StudyDate": "20261122"}
    assert case.tags == [known, known]


def test_a_structure_set_needs_the_volume(case, plugins, tmp_path):
    slicer.mrmlScene.RemoveNode(case.volume)
    with pytest.raises(ExportError, match="no longer in the scene"):
        exportSegmentation(case.node, tmp_path, "rtstruct")


def test_the_patient_is_known_from_the_hierarchy_and_never_written(case, plugins, tmp_path):
    assert patientNamesOf(case.volume) == ["Doe^Jonathan", "MRN-4711"]
    case.node.SetAttribute("UDFA.Notes", "jonathan doe, number MRN-4711, moved")
    exportSegmentation(case.node, tmp_path / "doe.dcm", "dicom-seg")
    text = (tmp_path / "doe.provenance.json").read_text(encoding="utf-8")
    assert not any(name in text.lower() for name in ("doe", "jonathan", "4711"))
    document = json.loads(text)
    assert document["input"] == "2: CT of [removed]"
    assert document["run"]["notes"] == ["[removed] [removed], number [removed], moved"]
