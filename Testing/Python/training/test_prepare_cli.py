"""udfa-train prepare as its users call it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from udfa_training.cli import main
from udfa_training.commands.prepare import KINDS


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


@pytest.mark.parametrize("kind", [["pairs"], []])
def test_the_kind_may_be_named_or_found_out(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: list[str]
) -> None:
    command = ["prepare", *kind, str(source), str(tmp_path / "out"), "--validation", "c", "--labels", "spleen, liver"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{tmp_path / 'out'}: pairs, 3 cases: 2 train (2 patients), 1 val (1 patients)",
        "labels: spleen, liver",
    ]
    assert manifest_of(tmp_path / "out")["labels"] == ["spleen", "liver"]


def test_folds_split_and_terms_are_recorded(source: Path, tmp_path: Path) -> None:
    options = ["--folds", "3", "--fold", "1", "--seed", "4", "--licence", "ours", "--modality", "MR", "--link"]
    assert main(["prepare", str(source), str(tmp_path / "out"), *options]) == 0
    manifest = manifest_of(tmp_path / "out")
    assert manifest["split"] == {"list": "folders", "folds": 3, "seed": 4}
    assert (manifest["licence"], manifest["modality"]) == ("ours", "MR")
    assert [(c["split"] == "val") == (c["fold"] == 1) for c in manifest["cases"]] == [True] * 3
    assert sorted(c["fold"] for c in manifest["cases"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("places", "complaint"),
    [
        (["only"], r"expected \[KIND\] SOURCE OUTPUT; got 1 words: only"),
        (["pairs", "a", "b", "c"], "got 4 words"),
        (["btcv", "a", "b"], f"unknown kind of data 'btcv'; choose from {', '.join(KINDS)}"),
    ],
)
def test_wrong_usage_says_what_was_expected(
    places: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["prepare", *places])
    assert raised.value.code == 2
    assert re.search(complaint, capsys.readouterr().err)


def test_a_source_of_another_kind_is_refused_with_what_that_kind_looks_like(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "sunnybrook", str(source), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "is no sunnybrook data set" in error
    assert "SC-HF-I-01-IM-0001-0048.dcm.png" in error
    assert not (tmp_path / "out").exists()


def test_the_help_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["prepare", "--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    assert all(kind in text for kind in KINDS)
    assert "prepare [KIND] SOURCE OUTPUT [options]" in text


def test_preparing_does_not_load_torch() -> None:
    code = "import sys, udfa_training.prepare, udfa_training.readers; print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == "False"
