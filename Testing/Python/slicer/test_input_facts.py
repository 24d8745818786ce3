"""What is read of real MRML nodes for the checks: kind, transform, DICOM values."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")

import vtk  # noqa: E402

from headless.boot import boot, clear_scene  # noqa: E402
from UDFASegmentationLib.InputChecks import DicomFacts, checkNode  # noqa: E402
from UDFASegmentationLib.InputFacts import dicomFacts  # noqa: E402

pytestmark = pytest.mark.slicer


@pytest.fixture
def scene():
    boot()
    clear_scene()
    return slicer.mrmlScene


def volumeNode(className="vtkMRMLScalarVolumeNode"):
    return slicer.util.addVolumeFromArray(np.zeros((3, 4, 5), np.int16), name="CT", nodeClassName=className)


def test_a_scalar_volume_has_no_findings(scene):
    assert checkNode(volumeNode()) == []


@pytest.mark.parametrize(
    ("className", "word"),
    [
        ("vtkMRMLLabelMapVolumeNode", "labelmap"),
        ("vtkMRMLVectorVolumeNode", "Vector to Scalar Volume"),
        ("vtkMRMLSequenceNode", "Sequences module"),
        ("vtkMRMLModelNode", "scalar volume"),
    ],
)
def test_other_nodes_are_errors_that_say_what_to_do(scene, className, word):
    (finding,) = checkNode(scene.AddNewNodeByClass(className, "x"))
    assert finding.severity == "error"
    assert word in finding.sentence()


def test_a_volume_without_voxels_is_an_error(scene):
    (finding,) = checkNode(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    assert finding.key == "noVoxels"


def test_a_rigid_transform_is_fine_and_a_warp_is_told(scene):
    node = volumeNode()
    linear = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(linear.GetID())
    assert checkNode(node) == []
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for point in ((0, 0, 0), (10, 0, 0), (0, 10, 0), (0, 0, 10)):
        points.InsertNextPoint(point)
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(points)
    warp.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(warp.GetID())
    (finding,) = checkNode(node)
    assert (finding.severity, finding.key) == ("info", "warped")


class Database:
    """The two methods of ctkDICOMDatabase that Slicer's own plugins read values with."""

    def __init__(self):
        self.values = {"0008,0060": "CT", "0008,103E": "Abdomen native", "0018,0010": ""}

    def fileForInstance(self, uid):
        return "/dicom/1.dcm" if uid == "1.2.3" else ""

    def fileValue(self, path, tag):
        assert path == "/dicom/1.dcm"
        return self.values[tag]


def test_dicom_values_come_from_the_first_instance(scene):
    node = volumeNode()
    assert dicomFacts(node, Database()) == DicomFacts()
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    assert dicomFacts(node, Database()) == DicomFacts("CT", "Abdomen native", "")
    node.SetAttribute("DICOM.instanceUIDs", "9.9.9")
    assert dicomFacts(node, Database()) == DicomFacts()


def test_without_a_dicom_database_nothing_is_known(scene, monkeypatch):
    monkeypatch.setattr(slicer, "dicomDatabase", None, raising=False)
    node = volumeNode()
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    assert dicomFacts(node) == DicomFacts()
