"""The command line as such: usage, help, version, and errors that nobody expected."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import udfa
from fakes.segment_case import Case, arguments
from udfa import segment_command
from udfa.cli import main

PACKAGE_PARENT = Path(udfa.__file__).resolve().parent.parent


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


def test_an_error_of_the_disk_says_what_to_check(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out.json")

    monkeypatch.setattr(segment_command, "_segment", full)
    assert main(arguments(case, tmp_path / "out.seg.nrrd", "-q")) == 1
    expected = "udfa: out.json: No space left on device. Check permissions and free space of the files and folders.\n"
    assert capsys.readouterr().err == expected


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


@pytest.mark.parametrize(
    "words", [["--help"], ["segment", "--help"], ["cine", "--help"], ["segment", "ct.nii.gz", "--output", "o.mha"]]
)
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
        examples = ["udfa segment ct.nii.gz --output organs.seg.nrrd", "udfa cine heart.seq.nrrd --output heart"]
        wanted = [example for example in examples if words[0] in (example.split()[1], "--help")]
        assert wanted
        assert all(example in done.stdout for example in wanted)
        assert "not for diagnosis" in done.stdout or "exit codes" in done.stdout
