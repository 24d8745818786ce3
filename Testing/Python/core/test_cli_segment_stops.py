"""`udfa segment` refuses what cannot work before it begins, and leaves nothing when it is stopped."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fakes.segment_case import Case, arguments
from udfa import segment_command
from udfa.cli import main
from udfa.inference import Progress
from udfa.messages import Messages
from udfa.segmentation_reader import read_segmentation


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
        ({"output": "bids.nii.gz"}, "bids.json describes something else and would be overwritten"),
        ({"output": "corrected.seg.nrrd"}, "corrected.seg.nrrd was corrected by clicks"),
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
    Path("bids.json").write_text('{"Modality": "CT"}')
    Path("corrected.audit.json").write_text("{}")
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
    assert "pip install matplotlib" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


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
