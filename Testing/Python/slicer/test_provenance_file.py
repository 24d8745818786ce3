"""What the JSON beside an export says."""

from __future__ import annotations

import importlib.metadata
import json
from datetime import datetime, timezone

import numpy as np
import pytest

import udfa
from headless.samples import add_volume, fake_model, fake_result
from UDFASegmentationLib.ProvenanceFile import ProvenanceContext, provenanceDocument, writeProvenance
from UDFASegmentationLib.SegmentationWriter import writeResult


def versions(name):
    if name == "timm":
        raise importlib.metadata.PackageNotFoundError(name)
    return {"torch": "2.6.0", "torchvision": "0.21.0"}[name]


CONTEXT = ProvenanceContext(
    slicerVersion="5.12.3",
    settings={"labels": ("liver", "spleen"), "removeIslands": True},
    clock=lambda: datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc),
    version=versions,
)


@pytest.fixture
def node(scene):
    labelmap = np.zeros((6, 7, 8), np.uint8)
    labelmap[1:3, 2:4, 3:6] = 1
    result = fake_result(labelmap, ("No air was found.",))
    return writeResult(add_volume(), result, fake_model(labelmap, "liver", "spleen"))


def test_the_document_tells_model_run_versions_and_segments(node):
    document = provenanceDocument(node, "2: CT", "Labelmap (.nrrd)", CONTEXT)
    assert document["created"] == "2026-01-02T03:04:05+00:00"
    assert document["checkpoint"] == {"name": "fake", "content_sha256": "0123abcd"}
    assert document["run"] == {
        "device": "cpu, float32, batches of 4",
        "seconds": 1.2,
        "frame": None,
        "labels_not_found": ["spleen"],
        "notes": ["No air was found."],
    }
    assert document["versions"]["udfa"] == udfa.__version__
    assert document["versions"]["torch"] == "2.6.0"
    assert document["versions"]["timm"] is None
    assert document["versions"]["slicer"] == "5.12.3"
    assert document["settings"] == {"labels": ["liver", "spleen"], "removeIslands": True}
    assert document["input"] == "2: CT"
    (segment,) = document["segments"]
    assert (segment["name"], segment["model"], segment["model_content_sha256"]) == ("Liver", "fake", "0123abcd")
    assert "10200004" in segment["terminology"]


def test_a_segmentation_made_by_hand_has_no_model(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    node.GetSegmentation().AddEmptySegment("a", "A")
    document = provenanceDocument(node, "CT", "x", CONTEXT)
    assert document["checkpoint"] is None
    assert document["run"] is None
    assert document["segments"][0]["model"] is None


@pytest.mark.parametrize(
    ("names", "text", "cleaned"),
    [
        (["Müller^Anna Maria"], "CT MÜLLER anna", "CT [removed] [removed]"),
        (["Doe^John"], "John Doe / Doe^John", "[removed] [removed] / [removed]"),
        (["Li^Bo"], "Liver, body", "Liver, body"),
        (["Li^Bo"], "series of Li^Bo", "series of [removed]"),
        ([], "anything", "anything"),
        (["a.c"], "abc a.c", "abc [removed]"),
    ],
)
def test_names_of_patients_are_removed_whole_and_in_parts(node, names, text, cleaned):
    context = ProvenanceContext(patientNames=names, version=versions)
    assert provenanceDocument(node, text, "x", context)["input"] == cleaned


def test_the_file_is_json_that_people_can_read(node, tmp_path):
    path = tmp_path / "x.provenance.json"
    writeProvenance(path, provenanceDocument(node, "CT Müller", "x", CONTEXT))
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["input"] == "CT Müller"
    assert "Müller" in text
    assert text.count("\n") > 20
