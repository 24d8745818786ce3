"""The command line, end to end: a real (untrained) network segments real files."""

from __future__ import annotations

import copy
import csv
import functools
import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import udfa
from udfa import segment_command
from udfa.checkpoint import Description, load_checkpoint, save_checkpoint
from udfa.cli import main
from udfa.inference import Progress, Segmenter
from udfa.messages import Messages
from udfa.segmentation_reader import read_segmentation
from udfa.volume_io import read_volume

PACKAGE_PARENT = Path(udfa.__file__).resolve().parent.parent
DICOM_EXAMPLE = PACKAGE_PARENT.parents[1] / "shared" / "data" / "totalsegmentator" / "example_ct_dicom"


@dataclass(frozen=True)
class Case:
    """A checkpoint that finds both labels in a small oblique CT, and that CT."""

    model: Path
    image: Path


@pytest.fixture(scope="module")
def case(kit: Any, mini_network: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    blobs = np.random.default_rng(3).normal(0, 60, size=(5, 8, 8)).repeat(8, axis=1).repeat(8, axis=2)
    array = np.clip(blobs - 20, -200, 300).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((8.0, 8.0, 5.0))
    image.SetOrigin((-100.0, 50.0, 700.0))
    image.SetDirection(np.asarray(kit.rotation(2)).ravel().tolist())
    sitk.WriteImage(image, str(folder / "ct.nii.gz"))
    network = copy.deepcopy(mini_network)
    config = replace(kit.config(in_plane_spacing_mm=8.0), labels=("liver", "spleen"))
    with torch.no_grad():
        # The head's offsets are set so that an untrained network finds every class somewhere.
        planes = torch.from_numpy(array.astype(np.float32) / 100)[:, None].expand(-1, 3, -1, -1)
        mean = network(planes.contiguous())[:, :].mean(dim=(0, 2, 3))
        network.decoder.head.bias -= mean.repeat_interleave(network.decoder.head.bias.numel() // 3)
    description = Description("CC0", "Tests only", {"data_set": "none"})
    save_checkpoint(folder / "tiny.safetensors", network, config, description)
    return Case(folder / "tiny.safetensors", folder / "ct.nii.gz")


def arguments(case: Case, output: Path, *more: str, image: Path | None = None) -> list[str]:
    common = ["--model", str(case.model), "--device", "cpu", "--precision", "float32"]
    return ["segment", str(image or case.image), "--output", str(output), *common, *more]


@functools.cache
def expected_labelmap(case: Case, image: Path | None = None) -> np.ndarray:
    """What the package's Python interface gives for the same run."""
    from udfa.devices import make_plan

    plan = make_plan("cpu", precision="float32")
    segmenter = Segmenter.from_checkpoint(load_checkpoint(case.model), plan)
    return segmenter.segment(read_volume(image or case.image)).labelmap


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
    assert made["settings"] == {"labels": ["liver", "spleen"], "largest_component": []}
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "none.nii.gz"}, "none.nii.gz does not exist"),
        ({"image": "empty.nii.gz"}, "is empty (0 bytes)"),
        ({"image": "text.txt"}, "unknown file type"),
        ({"image": "no_dicom"}, "holds no DICOM"),
        ({"image": "constant.nrrd"}, "nothing to segment"),
        ({"output": "none/out.seg.nrrd"}, "none does not exist. Create it"),
        ({"output": "text.txt/out.seg.nrrd"}, "text.txt does not exist. Create it"),
        ({"output": "folder.seg.nrrd"}, "folder.seg.nrrd is a folder"),
        ({"output": "constant.nrrd", "image": "constant.nrrd"}, "is named twice"),
        ({"more": ("--uncertainty", "out.nrrd"), "output": "out.nrrd"}, "is named twice"),
        ({"more": ("--uncertainty", "none/u.nrrd")}, "none does not exist. Create it"),
        ({"more": ("--report", "none/report")}, "none does not exist. Create it"),
        ({"more": ("--report", "text.txt")}, "text.txt does not exist"),
        ({"more": ("--labels", "liver,heart")}, "no label 'heart'. It has: liver, spleen."),
        ({"more": ("--model", "unknown")}, "There is no model 'unknown'"),
        ({"more": ("--model", "text.safetensors")}, "is not a safetensors file"),
        ({"more": ("--device", "cuda:7")}, "'cuda:7' is not available"),
    ],
)
def test_what_cannot_work_fails_with_one_line_and_leaves_nothing(
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UDFA_MODELS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("empty.nii.gz").touch()
    Path("text.txt").write_text("text")
    Path("text.safetensors").write_text("text that is no checkpoint")
    Path("no_dicom").mkdir()
    Path("folder.seg.nrrd").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 5), 7, np.int16)), "constant.nrrd")
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    image = Path(change["image"]) if "image" in change else None
    call = arguments(case, Path(change.get("output", "out.seg.nrrd")), "-q", *change.get("more", ()), image=image)
    assert main(call) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("udfa: ")
    assert message in printed.err
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_outputs_are_checked_before_the_image_is_read(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> None:
        raise AssertionError("the image was read")

    monkeypatch.setattr(segment_command, "read_volume", forbidden)
    assert main(arguments(case, tmp_path / "none" / "out.seg.nrrd")) == 1
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "--labels", "heart")) == 1


def test_a_read_only_folder_is_noticed_before_the_run(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(**options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(segment_command.tempfile, "TemporaryFile", denied)
    assert main(arguments(case, tmp_path / "out.seg.nrrd")) == 1
    assert f"{tmp_path} cannot be written to (Permission denied)" in capsys.readouterr().err


def test_a_report_without_matplotlib_is_refused_before_the_run(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if "plot" in name else found(name, *rest))
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "--report", str(tmp_path / "report"))) == 1
    assert "pip install udfa[report]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "out.mha"], "must end in .seg.nrrd or .nii.gz or .nrrd"),
        (["--output", "o.nrrd", "--uncertainty", "u.seg.nrrd"], "must end in .nii.gz or .nrrd"),
        (["--output", "o.nrrd", "--device", "gpu"], "'gpu' is not one of auto, cpu, cuda, cuda:N, mps"),
        (["--output", "o.nrrd", "--batch-size", "0"], "not a whole number of at least 1"),
        (["--output", "o.nrrd", "--precision", "int8"], "invalid choice: 'int8'"),
        (["--output", "o.nrrd", "--labels", " , "], "expected names separated by commas"),
        (["--output", "o.nrrd", "--colour"], "unrecognized arguments: --colour"),
        ([], "--output"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["segment", "ct.nii.gz", *options])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture(autouse=True)
def python_answers_control_c() -> Iterator[None]:
    """Ctrl+C raises KeyboardInterrupt, also where the process that runs the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_control_c_after(slices: int) -> Callable[[Any, Progress], None]:
    def progress(self: Messages, state: Progress) -> None:
        if state.done >= slices:
            signal.raise_signal(signal.SIGINT)

    return progress


def test_control_c_during_the_run_leaves_nothing_and_exits_with_130(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(Messages, "progress", press_control_c_after(2))
    outputs = ("--uncertainty", str(tmp_path / "u.nii.gz"), "--report", str(tmp_path / "report"))
    assert main(arguments(case, tmp_path / "out.nii.gz", "--batch-size", "1", "--quiet", *outputs)) == 130
    assert capsys.readouterr().err == "udfa: cancelled; nothing was written.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_end_while_the_last_output_is_written_leaves_none_of_them(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    pytest.importorskip("matplotlib")
    monkeypatch.setattr(segment_command, "save_figure", fail)
    outputs = ("--uncertainty", str(tmp_path / "u.nii.gz"), "--report", str(tmp_path / "report"))
    code = main(arguments(case, tmp_path / "out.nii.gz", *outputs))
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_survives_a_failed_run_and_is_replaced_by_a_good_one(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.seg.nrrd"
    output.write_text("earlier")
    with monkeypatch.context() as patch:
        patch.setattr(Messages, "progress", press_control_c_after(1))
        assert main(arguments(case, output)) == 130
    assert output.read_text() == "earlier"
    assert main(arguments(case, output)) == 0
    assert len(read_segmentation(output).segments) == 2


def test_an_unexpected_error_is_one_line_and_debug_shows_the_traceback(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr(segment_command, "_segment", broken)
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "-q")) == 1
    error = capsys.readouterr().err
    assert error.startswith("udfa: ValueError: first line second line (--debug")
    assert error.count("\n") == 1
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "-q", "--debug")) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_missing_package_points_to_the_doctor(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(segment_command, "_segment", broken)
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "-q")) == 1
    assert capsys.readouterr().err == "udfa: No module named 'torch'. 'udfa doctor' says what is missing.\n"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"udfa {udfa.__version__}\n"


def test_the_package_can_be_run_as_a_module() -> None:
    command = [sys.executable, "-m", "udfa", "--version"]
    done = subprocess.run(command, cwd=PACKAGE_PARENT, capture_output=True, text=True, check=True)
    assert done.stdout == f"udfa {udfa.__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["segment", "--help"], ["segment", "ct.nii.gz", "--output", "o.mha"]])
def test_help_and_usage_errors_import_no_heavy_package_and_show_examples(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from udfa.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'SimpleITK', 'matplotlib', 'timm'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=PACKAGE_PARENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    if "--help" in words:
        assert "udfa segment ct.nii.gz --output organs.seg.nrrd" in done.stdout
        assert "not for diagnosis" in done.stdout or "exit codes" in done.stdout
