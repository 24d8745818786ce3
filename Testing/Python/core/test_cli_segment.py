"""`udfa segment`, end to end: a real (untrained) network segments real files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import udfa
from fakes.segment_case import Case, arguments, expected_labelmap
from udfa import segment_command
from udfa.cli import main
from udfa.segmentation_reader import read_segmentation
from udfa.volume_io import read_volume

DICOM_EXAMPLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "totalsegmentator" / "example_ct_dicom"


@pytest.mark.parametrize("name", ["out.seg.nrrd", "out.nii.gz", "out.nrrd"])
def test_every_output_format_holds_the_labels_on_the_grid_of_the_image(case: Case, tmp_path: Path, name: str) -> None:
    assert main(arguments(case, tmp_path / name)) == 0
    expected = expected_labelmap(case)
    assert set(np.unique(expected)) == {0, 1, 2}
    read = read_segmentation(tmp_path / name)
    np.testing.assert_array_equal(read.layers[0], expected)
    assert [(s.id, s.title, s.value) for s in read.segments] == [("liver", "Liver", 1), ("spleen", "Spleen", 2)]
    image = read_volume(case.image)
    np.testing.assert_allclose(read.geometry.direction, image.direction, atol=1e-5)
    np.testing.assert_allclose(read.geometry.origin_mm, image.origin_mm, atol=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {name} | (set() if "seg" in name else {"out.json"})


def test_the_result_records_how_it_was_made(case: Case, tmp_path: Path) -> None:
    assert main(arguments(case, tmp_path / "out.nii.gz", "--batch-size", "2", "--no-cleanup")) == 0
    made = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["provenance"]
    assert made["software"] == f"udfa {udfa.__version__}"
    assert made["input"] == "ct.nii.gz"
    assert made["checkpoint"]["name"] == "tiny"
    assert len(made["checkpoint"]["content_sha256"]) == 64
    assert (made["device"], made["precision"], made["batch_size"]) == ("cpu", "float32", 2)
    assert made["settings"] == {"labels": ["liver", "spleen"], "largest_component": [], "small_parts_removed": []}
    assert made["seconds"] > 0


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nrrd_and_mha_give_the_same_result_as_nifti(case: Case, tmp_path: Path, suffix: str) -> None:
    copied = tmp_path / f"copy{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(case.image)), str(copied))
    assert main(arguments(case, tmp_path / "out.seg.nrrd", image=copied)) == 0
    np.testing.assert_array_equal(read_segmentation(tmp_path / "out.seg.nrrd").layers[0], expected_labelmap(case))


def test_a_dicom_folder_is_segmented(case: Case, tmp_path: Path, write_dicom: Callable[..., str]) -> None:
    folder = DICOM_EXAMPLE
    if not folder.is_dir():
        folder = tmp_path / "dicom"
        write_dicom(folder)
    assert main(arguments(case, tmp_path / "out.seg.nrrd", image=folder)) == 0
    read, image = read_segmentation(tmp_path / "out.seg.nrrd"), read_volume(folder)
    assert read.layers.shape[1:] == image.array.shape
    np.testing.assert_allclose(read.geometry.origin_mm, image.origin_mm, atol=1e-3)
    np.testing.assert_array_equal(read.layers[0], expected_labelmap(case, folder))


def test_only_the_labels_asked_for_are_written(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "--labels", " spleen,")) == 0
    read = read_segmentation(tmp_path / "out.seg.nrrd")
    assert [s.id for s in read.segments] == ["spleen"]
    np.testing.assert_array_equal(read.layers[0] == 2, expected_labelmap(case) == 2)
    assert set(np.unique(read.layers)) == {0, 2}
    assert "Liver" not in capsys.readouterr().out


def test_uncertainty_is_written_on_the_grid_of_the_image(case: Case, tmp_path: Path) -> None:
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "--uncertainty", str(tmp_path / "doubt.nii.gz"))) == 0
    doubt, image = read_volume(tmp_path / "doubt.nii.gz"), read_volume(case.image)
    assert doubt.array.dtype == np.uint8
    assert doubt.array.shape == image.array.shape
    assert doubt.array.max() > 100
    np.testing.assert_allclose(doubt.origin_mm, image.origin_mm, atol=1e-3)


def test_the_report_has_volumes_and_a_picture(case: Case, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "--report", str(tmp_path / "report"))) == 0
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"out_volumes.csv", "out_overview.png"}
    with (tmp_path / "report" / "out_volumes.csv").open(newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    labelmap, image = expected_labelmap(case), read_volume(case.image)
    for value, name in ((1, "liver"), (2, "spleen")):
        inside = image.array[labelmap == value]
        assert int(rows[name]["voxels"]) == len(inside)
        assert float(rows[name]["volume_ml"]) == pytest.approx(len(inside) * 8 * 8 * 5 / 1000, abs=1e-3)
        assert float(rows[name]["mean_intensity"]) == pytest.approx(inside.mean(), abs=1e-3)
        assert float(rows[name]["sd_intensity"]) == pytest.approx(inside.std(), abs=1e-3)
    assert (tmp_path / "report" / "out_overview.png").read_bytes().startswith(b"\x89PNG")


def test_the_summary_lists_volumes_files_and_what_was_not_found(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_spleen(*arguments: Any) -> Any:
        result = original(*arguments)
        result.labelmap[result.labelmap == 2] = 0
        return result

    original = segment_command._segment
    monkeypatch.setattr(segment_command, "_segment", without_spleen)
    assert main(arguments(case, tmp_path / "out.seg.nrrd")) == 0
    out = capsys.readouterr().out.splitlines()
    volume = (expected_labelmap(case) == 1).sum() * 0.32
    assert out[0] == f"Liver  {volume:>9,.1f} mL"
    assert out[1] == "Not found: Spleen"
    assert out[-1] == f"Written: {tmp_path / 'out.seg.nrrd'}"


def test_an_unlikely_image_is_warned_of_before_the_run_and_once(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sitk.WriteImage(sitk.ReadImage(str(case.image)) + 1500, str(tmp_path / "mr.nrrd"))
    assert main(arguments(case, tmp_path / "out.seg.nrrd", image=tmp_path / "mr.nrrd")) == 0
    printed = capsys.readouterr().err
    assert printed.count("expects CT") == 1
    assert printed.index("expects CT") < printed.index("Segmenting")


def test_quiet_prints_nothing_but_warnings(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    positive = sitk.ReadImage(str(case.image)) + 1500
    sitk.WriteImage(positive, str(tmp_path / "mr.nrrd"))
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "--quiet", image=tmp_path / "mr.nrrd")) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert lines
    assert all(line.startswith("warning: ") for line in lines)
    assert "expects CT" in lines[0]
