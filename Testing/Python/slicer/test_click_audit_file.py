"""The record of clicks beside the files in which Slicer saves a segmentation, whichever menu was used."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import slicer
import slicer.util

from doubles.click_bench import half_liver
from doubles.scripted_effect import Editor
from udfa.audit import read_audit


def test_saving_the_segmentation_also_writes_the_record_beside_it(make, tmp_path: Path):
    bench = make(half_liver())
    path = tmp_path / "organs.seg.nrrd"
    record = tmp_path / "organs.audit.json"
    assert slicer.util.saveNode(bench.segmentation, str(path))
    assert not record.exists()
    bench.click((2, 15, 12))
    assert slicer.util.saveNode(bench.segmentation, str(path))
    (edit,) = read_audit(record.read_text(encoding="utf-8")).edits
    assert (edit.label, edit.sign) == ("liver", "+")
    assert edit.effect["liver"].voxels == edit.changed_voxels > 0
    bench.click((2, 9, 5), positive=False)
    # Also after the tool was put away.
    bench.editor.deactivate()
    assert slicer.util.saveNode(bench.segmentation, str(path))
    assert [edit.sign for edit in read_audit(record.read_text(encoding="utf-8")).edits] == ["+", "-"]


def test_a_scene_bundle_has_the_record_as_a_file_and_in_the_scene(make, tmp_path: Path):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    with ZipFile(tmp_path / "scene.mrb") as bundle:
        names = [name for name in bundle.namelist() if name.endswith(".audit.json")]
        assert len(names) == 1
        assert names[0].replace(".audit.json", ".seg.nrrd") in bundle.namelist()
        assert len(read_audit(bundle.read(names[0]).decode()).edits) == 1
        assert b"UDFA.Audit" in bundle.read(next(name for name in bundle.namelist() if name.endswith(".mrml")))


def test_the_record_says_no_more_than_the_file_that_it_lies_beside(make, tmp_path: Path):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    assert slicer.util.saveNode(bench.segmentation, str(tmp_path / "organs.seg.nrrd"))
    before = (tmp_path / "organs.audit.json").read_bytes()
    bench.click((2, 9, 5), positive=False)
    # A bundle is written elsewhere, and then the node gets its own file name back.
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    assert (tmp_path / "organs.audit.json").read_bytes() == before


def test_a_segmentation_that_was_clicked_in_an_earlier_session_keeps_its_record(make, tmp_path: Path):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    record = bench.segmentation.GetAttribute("UDFA.Audit")
    bench.editor.deactivate()
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    copy.Copy(bench.segmentation)
    assert copy.GetAttribute("UDFA.Audit") == record
    bench.editor.node.SetAndObserveSegmentationNode(copy)
    bench.editor.activate()
    assert slicer.util.saveNode(copy, str(tmp_path / "copy.seg.nrrd"))
    assert (tmp_path / "copy.audit.json").read_text(encoding="utf-8") == record


def test_clicks_made_meanwhile_in_another_editor_stay_in_the_record(make):
    """As in the panel of the module, then in Slicer's own Segment Editor, then in the panel again."""
    bench = make(half_liver())
    bench.editor.host.setParameter("CarrySlices", 0)
    bench.click((1, 15, 12))
    bench.editor.deactivate()
    other = Editor(bench.segmentation, bench.volume, type(bench.effect))
    other.select("liver")
    other.activate()
    other.effect.controller.carrySlices = 0
    other.effect.controller.click([bench.ras((2, 15, 12))], True)
    bench.until(lambda: not other.effect.controller.busy)
    other.close()
    bench.editor.activate()
    bench.settle()
    bench.click((3, 15, 12))
    edits = read_audit(bench.segmentation.GetAttribute("UDFA.Audit")).edits
    assert [[click.ijk for click in edit.clicks] for edit in edits] == [[(12, 15, 1)], [(12, 15, 2)], [], [(12, 15, 3)]]
    assert [edit.number for edit in edits] == [1, 2, 3, 4]
    assert bench.segmentation.GetAttribute("UDFA.Audit.1") is None


def test_a_record_that_another_editor_began_anew_is_kept_beside(make):
    bench = make(half_liver())
    bench.click((2, 15, 12))
    bench.segmentation.SetAttribute("UDFA.Audit", "another record")
    bench.click((2, 9, 5), positive=False)
    assert bench.segmentation.GetAttribute("UDFA.Audit.1") == "another record"
    assert len(read_audit(bench.segmentation.GetAttribute("UDFA.Audit")).edits) == 2


def test_where_the_record_cannot_be_written_the_segmentation_is_saved_and_the_log_says_so(
    make, tmp_path: Path, monkeypatch, caplog
):
    def full(*arguments: Any) -> None:
        raise OSError("disk full")

    bench = make(half_liver())
    bench.click((2, 15, 12))
    monkeypatch.setattr("UDFASegmentationLib.ClickAudit.writeAudit", full)
    assert slicer.util.saveNode(bench.segmentation, str(tmp_path / "organs.seg.nrrd"))
    assert (tmp_path / "organs.seg.nrrd").is_file()
    assert "could not be written" in caplog.text


@pytest.mark.parametrize("key", ["seg.nrrd", "nii.gz", "stl"])
def test_the_modules_export_has_the_record_among_its_files(make, tmp_path: Path, key):
    from UDFASegmentationLib.Export import exportSegmentation

    bench = make(half_liver())
    bench.click((2, 15, 12))
    bench.segmentation.SetName("organs")
    target = tmp_path if key == "stl" else tmp_path / f"organs.{key}"
    written = exportSegmentation(bench.segmentation, target, key).files
    assert tmp_path / "organs.audit.json" in written
    assert len(read_audit((tmp_path / "organs.audit.json").read_text(encoding="utf-8")).edits) == 1


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("a.seg.nrrd", "a.audit.json"),
        ("a.b.SEG.NRRD", "a.b.audit.json"),
        ("a.nrrd", "a.audit.json"),
        ("a", "a.audit.json"),
    ],
)
def test_the_records_name_is_the_stem_of_the_files(name, record):
    from UDFASegmentationLib.ClickAudit import auditFile

    assert auditFile(Path("folder") / name) == Path("folder") / record
