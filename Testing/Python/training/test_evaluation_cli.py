"""udfa-train evaluate: tables, files and pictures; comparisons; labelmaps of other methods."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from udfa.checkpoint import Description, save_checkpoint
from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig
from udfa.networks.udfa import UDFA
from udfa.volume_io import read_volume, write_array
from udfa_training.cli import main
from udfa_training.dataset import open_prepared
from udfa_training.evaluation import figures
from udfa_training.evaluation.outputs import folder_written_aside

ORGANS = ["liver", "spleen", "gallbladder"]

MODEL = ModelConfig(
    task="Test",
    labels=tuple(ORGANS),
    network=NetworkConfig(
        num_classes=4, spa_channels=(8, 8, 16, 16, 16), lgfa_width=16, decoder_channels=(16, 16, 8, 8)
    ),
    preprocessing=PreprocessingConfig(in_plane_spacing_mm=4.0, tile_size=64),
)


def labelmaps(prepared: Path, folder: Path, shift: int, missing: int = 0) -> Path:
    """References of all cases, moved by so many columns; label `missing` is left out."""
    folder.mkdir()
    for case in open_prepared(prepared).cases:
        volume = read_volume(case.label)
        array = np.roll(volume.array, shift, axis=2)
        write_array(folder / f"{case.name}.nii.gz", np.where(array == missing, 0, array).astype(np.uint8), volume)
    return folder


@pytest.fixture
def shifted(prepared: Path, tmp_path: Path) -> Path:
    return labelmaps(prepared, tmp_path / "shifted", 1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("runs") / "untrained.safetensors"
    save_checkpoint(path, UDFA(MODEL.network), MODEL, Description("none", "tests"))
    return path


def evaluate(*arguments: Any) -> int:
    return main(["evaluate", *map(str, arguments)])


def read_json(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def test_a_checkpoint_is_measured_and_identified(
    checkpoint: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    assert evaluate("--checkpoint", checkpoint, "--data", prepared, "--output", output, "--device", "cpu") == 0
    record = read_json(output / "evaluation.json")
    assert set(record["cases"]) == {"c"}
    assert list(record["cases"]["c"]) == ORGANS
    assert len(record["source"]["sha256"]) == len(record["source"]["content_sha256"]) == 64
    assert record["source"]["ran_on"].startswith("cpu, ")
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert record["command"][:4] == ["udfa-train", "evaluate", "--checkpoint", str(checkpoint)]
    assert record["command"][-2:] == ["--device", "cpu"]
    assert f"mean over 3 labels: {record['mean_dice']:.4f}" in capsys.readouterr().out


def test_a_folder_of_results_holds_tables_and_pictures(shifted: Path, prepared: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    assert evaluate("--predictions", shifted, "--data", prepared, "--split", "all", "--output", output) == 0
    names = {path.name for path in output.iterdir()}
    assert names == {
        "evaluation.json",
        "scores.csv",
        "summary.md",
        "box_dice.png",
        "box_hd95.png",
        "box_nsd.png",
        *(f"worst{rank}_{case}.png" for rank, case in enumerate("abc", start=1)),
    }
    for path in output.glob("*.png"):
        pixels = matplotlib.image.imread(path)
        assert min(pixels.shape[:2]) > 200
        assert pixels[..., :3].std() > 0.02
    assert not list(tmp_path.glob(".udfa-*"))


def test_the_csv_has_a_row_per_case_and_organ(
    shifted: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shift of one column of 4 mm: HD95 4 mm, and the same number of voxels of 0.08 mL."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    output = tmp_path / "results"
    assert evaluate("--predictions", shifted, "--data", prepared, "--split", "all", "--output", output) == 0
    with (output / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["label"]) for row in rows] == [(case, organ) for case in "abc" for organ in ORGANS]
    liver = rows[0]
    assert (liver["hd95"], liver["unit"], liver["protocol"]) == ("4", "mm", "standard")
    assert liver["reference_voxels"] == liver["predicted_voxels"]
    assert float(liver["reference_ml"]) == pytest.approx(int(liver["reference_voxels"]) * 0.08, rel=1e-4)
    voxels = int(liver["reference_voxels"])
    reference = read_volume(open_prepared(prepared).cases[0].label).array == 1
    overlap = np.count_nonzero(reference & np.roll(reference, 1, axis=2))
    assert float(liver["dice"]) == pytest.approx(overlap / voxels, rel=1e-5)


def test_a_tolerance_as_large_as_the_error_makes_nsd_one(shifted: Path, prepared: Path, tmp_path: Path) -> None:
    means = []
    for number, tolerance in enumerate((2, 4)):
        output = tmp_path / f"{number}.json"
        assert evaluate("--predictions", shifted, "--data", prepared, "--tolerance", tolerance, "--output", output) == 0
        means.append(read_json(output)["summary"]["nsd"]["mean"]["mean"])
    assert means[0] < 0.9
    assert means[1] == 1.0


def test_unknown_spacing_is_labelled(
    shifted: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scores.json"
    manifest = prepared / "manifest.json"
    facts = json.loads(manifest.read_text())
    for case in facts["cases"]:
        case["spacing_known"] = False
    manifest.write_text(json.dumps(facts))
    assert evaluate("--predictions", shifted, "--data", prepared, "--output", output) == 0
    record = read_json(output)
    assert record["unit"] == "voxels"
    assert record["cases"]["c"]["liver"]["hd95"] == 1.0
    assert record["cases"]["c"]["liver"]["reference_ml"] is None
    printed = capsys.readouterr().out
    assert "HD95 (voxels)" in printed
    assert "The spacing is unknown" in printed


def test_the_user_can_say_that_the_spacing_is_unknown(shifted: Path, prepared: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    options = ("--predictions", shifted, "--data", prepared, "--output", output)
    assert evaluate(*options, "--unknown-spacing") == 0
    assert read_json(output)["cases"]["c"]["liver"]["hd95"] == 1.0
    assert "--unknown-spacing" in read_json(output)["command"]


def test_a_missed_organ_is_zero_by_either_protocol_but_infinitely_far_by_one_only(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions = labelmaps(prepared, tmp_path / "poor", 0, missing=2)
    found = {}
    for protocol in ("standard", "transunet"):
        output = tmp_path / f"{protocol}.json"
        arguments = ("--predictions", predictions, "--data", prepared, "--protocol", protocol, "--output", output)
        assert evaluate(*arguments) == 0
        record = read_json(output)
        assert record["protocol"]["name"] == protocol
        assert f"Protocol '{protocol}'" in capsys.readouterr().out
        found[protocol] = record
    spleen = [found[name]["cases"]["c"]["spleen"] for name in ("standard", "transunet")]
    assert [(scores["dice"], scores["hd95"], scores["nsd"]) for scores in spleen] == [
        (0.0, "inf", 0.0),
        (0.0, 0.0, None),
    ]
    hd95 = [found[name]["summary"]["hd95"]["mean"] for name in ("standard", "transunet")]
    assert [(row["mean"], row["infinite"]) for row in hd95] == [(0.0, 1), (0.0, 0)]
    assert found["transunet"]["unit"] == "voxels"


@pytest.mark.parametrize("labels", [("spleen", "liver"), ("spleen,liver",)])
def test_labels_and_cases_can_be_chosen(shifted: Path, prepared: Path, tmp_path: Path, labels: tuple[str, ...]) -> None:
    output = tmp_path / "scores.json"
    arguments = ("--split", "train", "--cases", 1, "--labels", *labels)
    assert evaluate("--predictions", shifted, "--data", prepared, "--output", output, *arguments) == 0
    record = read_json(output)
    assert {name: list(organs) for name, organs in record["cases"].items()} == {"a": ["spleen", "liver"]}
    assert record["left_out"] == ["not chosen: gallbladder"]


def relabelled(prepared: Path, *names: str) -> None:
    """Give the data's labels other names."""
    manifest = prepared / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "labels": list(names)}))


@pytest.mark.parametrize(("trained_on", "seen"), [(["a", "c"], True), (["a", "b"], False)])
def test_patients_that_the_checkpoint_was_trained_on_are_named(
    trained_on: list[str], seen: bool, prepared: Path, tmp_path: Path
) -> None:
    path, output = tmp_path / "trained.safetensors", tmp_path / "scores.json"
    training = {"data_set": "made", "train": trained_on}
    save_checkpoint(path, UDFA(MODEL.network), MODEL, Description("none", "tests", training))
    assert evaluate("--checkpoint", path, "--data", prepared, "--output", output, "--device", "cpu") == 0
    note = "trained was trained on 'made' with patients of these names: c. If they are the same patients, its scores"
    assert any(line.startswith(note) for line in read_json(output)["notes"]) is seen


def test_labels_of_checkpoint_and_data_are_matched_by_name(
    checkpoint: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scores.json"
    relabelled(prepared, "spleen", "aorta", "liver")
    assert evaluate("--checkpoint", checkpoint, "--data", prepared, "--output", output) == 0
    record = read_json(output)
    assert record["labels"] == ["spleen", "liver"]
    assert record["left_out"] == ["not in untrained: aorta", "not in the data: gallbladder"]
    assert "Labels left out: not in untrained: aorta; not in the data: gallbladder." in capsys.readouterr().out
    volume = read_volume(open_prepared(prepared).cases[2].label).array
    assert record["cases"]["c"]["liver"]["reference_voxels"] == np.count_nonzero(volume == 3)


def test_a_checkpoint_without_any_label_of_the_data_is_refused(
    checkpoint: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relabelled(prepared, "aorta", "heart", "femur")
    assert evaluate("--checkpoint", checkpoint, "--data", prepared) == 1
    assert "share no label" in capsys.readouterr().err


def test_two_results_are_compared_case_by_case(
    shifted: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, perfect = tmp_path / "results", labelmaps(prepared, tmp_path / "perfect", 0)
    options = ("--data", prepared, "--split", "all", "--output", output)
    assert evaluate("--predictions", perfect, "--against", shifted, *options) == 0
    record = read_json(output / "evaluation.json")
    assert record["differences"]["meaning"] == "perfect minus shifted"
    by_label = {row["label"]: row for row in record["differences"]["dice"]}
    expected = 1 - record["against"]["summary"]["dice"]["labels"]["liver"]["mean"]
    assert by_label["liver"]["mean"] == pytest.approx(expected)
    assert by_label["liver"]["p_value"] is None
    assert by_label["liver"]["remark"].startswith("no p-value: 3 patients")
    assert [row["mean"] for row in record["differences"]["hd95"]] == [-4.0] * 4
    with (output / "scores.csv").open(newline="") as file:
        assert {row["source"] for row in csv.DictReader(file)} == {"perfect", "shifted"}
    assert (output / "differences_dice.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "too few (3)" in printed
    assert "with fewer than 6 no difference could reach p < 0.05" in printed


def test_two_files_of_one_name_are_told_apart_by_their_folders(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        folders.append(labelmaps(prepared, tmp_path / name / "predicted", 0))
    assert evaluate("--predictions", folders[0], "--against", folders[1], "--data", prepared) == 0
    assert "a/predicted minus b/predicted" in capsys.readouterr().out


def test_a_checkpoint_with_the_name_that_fit_gives_is_called_after_its_run(
    checkpoint: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run7"
    run.mkdir()
    shutil.copy(checkpoint, run / "model.safetensors")
    assert evaluate("--checkpoint", run / "model.safetensors", "--data", prepared) == 0
    assert "## run7/model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--split", "test"], "no case in split 'test'. Splits: train, val"),
        (["--cases", "0"], "--cases is 0, but must be at least 1"),
        (["--tolerance", "-1"], "--tolerance is -1.0, but must be at least 0"),
        (["--tolerance", "nan"], "--tolerance is nan, but must be at least 0"),
        (["--seed", "-1"], "--seed is -1, but must be at least 0"),
        (["--labels", "heart"], "No label 'heart'"),
        (["--against", "/no/such.safetensors"], "does not exist"),
        (["--predictions", "/no/such/folder"], "is no folder"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(
    shifted: Path, prepared: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--predictions", shifted, "--data", prepared, *arguments) == 1
    assert complaint in capsys.readouterr().err


def test_an_output_that_exists_is_refused_before_anything_runs(
    shifted: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    output.mkdir()
    (output / "mine.txt").write_text("keep")
    assert evaluate("--predictions", shifted, "--data", prepared, "--output", output) == 1
    captured = capsys.readouterr()
    assert "exists already" in captured.err
    assert captured.out == ""
    assert [path.name for path in output.iterdir()] == ["mine.txt"]


def test_a_failure_on_the_way_leaves_no_folder(
    shifted: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(figures, "overlay", fail)
    before = sorted(tmp_path.iterdir())
    assert evaluate("--predictions", shifted, "--data", prepared, "--output", tmp_path / "results") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with folder_written_aside(tmp_path / "results") as aside:
        (aside / "a.txt").write_text("a")
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["a.txt"]
    assert (tmp_path / "results" / "a.txt").is_file()


def test_nothing_in_the_json_is_nan(shifted: Path, prepared: Path, tmp_path: Path) -> None:
    """One validation patient: there are no intervals."""
    output = tmp_path / "scores.json"
    assert evaluate("--predictions", shifted, "--data", prepared, "--output", output) == 0

    def refuse(text: str) -> float:
        raise AssertionError(text)

    record = json.loads(output.read_text(), parse_constant=refuse)
    assert record["summary"]["dice"]["mean"]["low"] is None
    assert not math.isnan(record["summary"]["dice"]["mean"]["mean"])
    assert "One patient: there are no intervals." in record["notes"]
    assert record["labels"] == ORGANS
