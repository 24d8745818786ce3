"""`udfa cine`, end to end: frames with known voxels in, function with hand-checked numbers out, all files or none."""

from __future__ import annotations

import csv
import importlib.util
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from fakes.segment_case import Case
from udfa import cine_command
from udfa.cli import main
from udfa.config import NetworkConfig
from udfa.messages import Messages
from udfa.volume_io import read_image

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "UDFASegmentation" / "Resources" / "SampleData" / "cardiac_cine.seq.nrrd"

RIGHT, MYOCARDIUM, LEFT = 1, 2, 3
BRIGHTNESS = np.array([-100, 20, 70, 120], np.int16)
"""Of background and of each label, so that thresholds tell them apart."""

SHAPE, SPACING = (4, 20, 20), (2.0, 2.0, 5.0)
"""Voxels (D, H, W) and mm (I, J, K): 0.02 mL per voxel."""

# Voxels of left ventricle, myocardium and right ventricle in each frame.
BEATING = ((150, 100, 200), (50, 110, 120), (100, 105, 100))


def labelmap_of(voxels: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """(T, D, H, W) with so many voxels of each label, one label after the other."""
    frames = np.zeros((len(voxels), int(np.prod(SHAPE))), np.uint8)
    for frame, (left, myocardium, right) in zip(frames, voxels):
        frame[: left + myocardium + right] = np.repeat([LEFT, MYOCARDIUM, RIGHT], [left, myocardium, right])
    return frames.reshape(len(voxels), *SHAPE)


def write_heart(path: Path, direction: np.ndarray, voxels: tuple[tuple[int, int, int], ...] = BEATING) -> Path:
    """Write an oblique 4D series whose brightness tells the labels; 40 units between the frames."""
    images = []
    for labels in labelmap_of(voxels):
        image = sitk.GetImageFromArray(BRIGHTNESS[labels])
        image.SetSpacing(SPACING)
        image.SetOrigin((-30.0, 12.5, 200.0))
        image.SetDirection(direction.ravel().tolist())
        images.append(image)
    sitk.WriteImage(sitk.JoinSeries(images, 0.0, 40.0), str(path))
    return path


@pytest.fixture
def heart(tmp_path: Path, kit: Any) -> Path:
    (tmp_path / "data").mkdir()
    return write_heart(tmp_path / "data" / "heart.nii.gz", kit.rotation(4))


@pytest.fixture
def threshold_model(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a network that looks at the brightness take the place of the default checkpoint's."""
    labels = ("right_ventricle", "myocardium", "left_ventricle")
    config = replace(kit.config(), labels=labels, network=NetworkConfig(num_classes=4))
    network = kit.ThresholdNetwork(config.preprocessing, (-40.0, 45.0, 95.0))
    fake = SimpleNamespace(network=network, info=SimpleNamespace(config=config))
    monkeypatch.setattr(cine_command, "load_checkpoint", lambda path, weights: fake)


@pytest.fixture(autouse=True)
def python_answers_control_c() -> Iterator[None]:
    """Ctrl+C raises KeyboardInterrupt, also where the process that runs the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(image: Path, folder: Path, *more: str) -> int:
    return main(["cine", str(image), "--output", str(folder), "--device", "cpu", "--precision", "float32", *more])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_function_is_that_of_the_volumes(heart: Path, tmp_path: Path, threshold_model: None, capsys: Any) -> None:
    assert run(heart, tmp_path / "out") == 0
    # 150, 100 and 200 voxels of 2 x 2 x 5 mm are 3, 2 and 4 mL.
    assert rows_of(tmp_path / "out" / "heart_volumes.csv") == [
        {
            "frame": "1",
            "index": "",
            "right_ventricle_ml": "4.000",
            "myocardium_ml": "2.000",
            "left_ventricle_ml": "3.000",
        },
        {
            "frame": "2",
            "index": "",
            "right_ventricle_ml": "2.400",
            "myocardium_ml": "2.200",
            "left_ventricle_ml": "1.000",
        },
        {
            "frame": "3",
            "index": "",
            "right_ventricle_ml": "2.000",
            "myocardium_ml": "2.100",
            "left_ventricle_ml": "2.000",
        },
    ]
    measures = {row["measure"]: row["value"] for row in rows_of(tmp_path / "out" / "heart_function.csv")}
    # The right ventricle is smallest in frame 3, but end-systole is the left one's. 2 mL of myocardium weigh 2.1 g.
    assert measures == {
        "LV EDV": "3.00",
        "LV ESV": "1.00",
        "LV SV": "2.00",
        "LV EF": "66.67",
        "LV mass": "2.10",
        "RV EDV": "4.00",
        "RV ESV": "2.40",
        "RV SV": "1.60",
        "RV EF": "40.00",
    }
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["3 frames", "End-diastole: frame 1", "End-systole: frame 2"]
    assert "LV EF      66.7 %" in lines


def test_the_labelmap_lies_on_the_grid_of_the_series(heart: Path, tmp_path: Path, threshold_model: None) -> None:
    assert run(heart, tmp_path / "out", "--quiet") == 0
    source, labels = read_image(heart), read_image(tmp_path / "out" / "heart_labels.nii.gz")
    assert labels.GetPixelID() == sitk.sitkUInt8
    assert labels.GetSize() == (20, 20, 4, 3)
    np.testing.assert_allclose(labels.GetDirection(), source.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(labels.GetOrigin(), source.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(labels.GetSpacing(), (2.0, 2.0, 5.0, 40.0), rtol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), labelmap_of(BEATING))


def test_the_json_beside_it_names_the_labels_and_how_they_were_made(
    heart: Path, tmp_path: Path, threshold_model: None
) -> None:
    assert run(heart, tmp_path / "out", "--quiet", "--no-cleanup") == 0
    document = json.loads((tmp_path / "out" / "heart_labels.json").read_text(encoding="utf-8"))
    assert document["labelmap"] == "heart_labels.nii.gz"
    # Voxels of all frames: 200 + 120 + 100 and so on.
    assert [(row["value"], row["name"], row["voxels"]) for row in document["labels"]] == [
        (1, "right_ventricle", 420),
        (2, "myocardium", 315),
        (3, "left_ventricle", 300),
    ]
    made = document["provenance"]
    assert (made["input"], made["checkpoint"]["name"], made["frames"]) == ("heart.nii.gz", "cardiac-mr-mini", 3)
    assert made["settings"]["largest_component"] == []


def test_the_picture_is_written_where_matplotlib_is(heart: Path, tmp_path: Path, threshold_model: None) -> None:
    pytest.importorskip("matplotlib")
    assert run(heart, tmp_path / "out", "--quiet") == 0
    assert (tmp_path / "out" / "heart_volumes.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_all_but_the_picture_is_written_and_no_earlier_one_stays(
    heart: Path, tmp_path: Path, threshold_model: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if "plot" in name else found(name, *rest))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "heart_volumes.png").write_text("of an earlier run")
    assert run(heart, tmp_path / "out") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"heart_labels.nii.gz", "heart_labels.json", "heart_volumes.csv", "heart_function.csv"}
    assert "pip install matplotlib" in capsys.readouterr().err


def test_frames_without_a_left_ventricle_are_warned_of(
    tmp_path: Path, kit: Any, threshold_model: None, capsys: Any
) -> None:
    image = write_heart(tmp_path / "a.mha", kit.rotation(1), ((0, 100, 100), (50, 100, 100), (20, 100, 100)))
    assert run(image, tmp_path / "out", "--quiet") == 0
    assert capsys.readouterr().err == (
        "warning: No left ventricle was found in 1 of 3 frames, which are left out: 1.\n"
    )
    assert rows_of(tmp_path / "out" / "a_function.csv")[1] == {"measure": "LV ESV", "value": "0.40", "unit": "mL"}


def test_without_left_ventricles_volumes_are_written_and_it_is_said_why_there_is_no_function(
    tmp_path: Path, kit: Any, threshold_model: None, capsys: Any
) -> None:
    image = write_heart(tmp_path / "a.nrrd", kit.rotation(1), ((0, 100, 100), (50, 100, 100)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_function.csv").write_text("of an earlier run")
    assert run(image, tmp_path / "out", "--quiet") == 0
    assert "The left ventricle was found in fewer than two frames" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "out" / "a_volumes.csv")) == 2
    assert not (tmp_path / "out" / "a_function.csv").exists()


def test_a_model_without_a_left_ventricle_gives_volumes_only_and_says_so(
    case: Case, tmp_path: Path, capsys: Any
) -> None:
    ct = sitk.ReadImage(str(case.image))
    sitk.WriteImage(sitk.JoinSeries([ct, ct]), str(tmp_path / "ct.nii.gz"))
    assert run(tmp_path / "ct.nii.gz", tmp_path / "out", "--model", str(case.model)) == 0
    assert "tiny has no label left_ventricle: volumes are written" in capsys.readouterr().err
    first, second = rows_of(tmp_path / "out" / "ct_volumes.csv")
    assert list(first) == ["frame", "index", "liver_ml", "spleen_ml"]
    assert float(first["liver_ml"]) > 0
    assert {**first, "frame": "2"} == second
    assert not (tmp_path / "out" / "ct_function.csv").exists()


def test_progress_counts_frames_and_slices(heart: Path, tmp_path: Path, threshold_model: None, capsys: Any) -> None:
    assert run(heart, tmp_path / "out", "--batch-size", "2") == 0
    printed = capsys.readouterr().err
    # The second of three frames, two of its four slices: 1/3 + 1/6.
    assert "frame 2/3, slice 2/4 (50%), 0:0" in printed
    assert "frame 3/3, slice 4/4 (100%)\n" in printed


@pytest.mark.parametrize(
    ("image", "output", "message"),
    [
        ("none.nii.gz", "out", "none.nii.gz does not exist"),
        ("volume.nrrd", "out", "is one volume, not a series of frames. Segment it with 'udfa segment'"),
        ("still.nii.gz", "out", "In frame 2: All voxels of the volume are 7"),
        ("folder", "out", "is a folder, but a file with all frames is needed"),
        ("heart.nii.gz", "none/out", "none does not exist. Create it"),
        ("heart.nii.gz", "out.nii.gz", "out.nii.gz is the name of a file, but several are written"),
        ("heart.nii.gz", "corrected", "heart_labels.nii.gz was corrected by clicks"),
        ("heart.nii.gz", "bids", "heart_labels.json describes something else"),
        ("heart.nii.gz", "taken", "heart_volumes.csv is a folder"),
    ],
)
def test_what_cannot_work_fails_with_one_line_and_leaves_nothing(
    tmp_path: Path, kit: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, image: str, output: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_heart(Path("heart.nii.gz"), kit.rotation(1))
    still = np.full((2, *SHAPE), 7, np.int16)
    still[0, 0] = 8
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(frame) for frame in still]), "still.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(still[0]), "volume.nrrd")
    for folder in ("folder", "corrected", "bids", "taken/heart_volumes.csv"):
        Path(folder).mkdir(parents=True)
    Path("corrected/heart_labels.audit.json").write_text("{}")
    Path("bids/heart_labels.json").write_text('{"Modality": "MR"}')
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert run(Path(image), Path(output), "-q") == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert message in printed.err
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_control_c_in_the_second_frame_leaves_nothing_and_exits_with_130(
    heart: Path, tmp_path: Path, threshold_model: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def press(self: Messages, place: str, *rest: Any) -> None:
        if place.startswith("frame 2/3"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Messages, "position", press)
    assert run(heart, tmp_path / "out", "--quiet") == 130
    assert capsys.readouterr().err == "udfa: cancelled; nothing was written.\n"
    assert list(tmp_path.iterdir()) == [heart.parent]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", ["write_measures", "save_figure"])
def test_an_end_while_outputs_are_written_leaves_none_and_keeps_earlier_ones(
    heart: Path,
    tmp_path: Path,
    threshold_model: None,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    step: str,
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    pytest.importorskip("matplotlib")
    monkeypatch.setattr(cine_command, step, fail)
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
    assert run(heart, tmp_path / "new", "--quiet") == code
    assert list(tmp_path.iterdir()) == [heart.parent]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "heart_volumes.csv").write_text("of an earlier run")
    assert run(heart, tmp_path / "old", "--quiet") == code
    assert [path.read_text() for path in (tmp_path / "old").iterdir()] == ["of an earlier run"]


def test_the_bundled_model_tells_the_function_of_the_bundled_series(tmp_path: Path, capsys: Any) -> None:
    """Sunnybrook's SC-HF-I-40, a patient with heart failure; it gave 106 mL and 41 %."""
    assert run(SAMPLE, tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "End-diastole: frame 1 (phase end-diastole)",
        "End-systole: frame 2 (phase end-systole)",
    ]
    rows = rows_of(tmp_path / "out" / "cardiac_cine_volumes.csv")
    assert [row["index"] for row in rows] == ["end-diastole", "end-systole"]
    labels = sitk.GetArrayFromImage(read_image(tmp_path / "out" / "cardiac_cine_labels.nii.gz"))
    for frame, row in zip(labels, rows):
        # 1.3 x 1.3 x 8 mm are 0.01352 mL.
        assert float(row["left_ventricle_ml"]) == pytest.approx((frame == LEFT).sum() * 0.01352, abs=1e-3)
    measures = {row["measure"]: float(row["value"]) for row in rows_of(tmp_path / "out" / "cardiac_cine_function.csv")}
    assert 95 <= measures["LV EDV"] <= 120
    assert 30 <= measures["LV EF"] <= 50
