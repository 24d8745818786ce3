"""The whole way on the command line: prepare, fit, resume, evaluate, fine-tune, and `udfa segment` with the result."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from udfa.checkpoint import read_info
from udfa.cli import main as udfa
from udfa.config import to_dict
from udfa.volume_io import read_volume
from udfa_training.cli import main as udfa_train
from udfa_training.fit_config import FitConfig

Settings = Callable[..., FitConfig]


def test_prepare_fit_resume_evaluate_segment(
    settings: Settings, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, file = tmp_path / "data", tmp_path / "run", tmp_path / "tiny.yaml"
    assert udfa_train(["prepare", "pairs", str(source), str(data), "--validation", "c"]) == 0
    file.write_text(yaml.safe_dump(to_dict(settings(data=str(data), output=str(run), log_every=1))))
    fit = ["fit", "--config", str(file), "--steps"]
    assert udfa_train([*fit, "1"]) == 0
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 1
    assert udfa_train([*fit, "2"]) == 0
    with (run / "log.csv").open() as log:
        assert [row["step"] for row in csv.DictReader(log)] == ["1", "2"]
    checkpoint = run / "model.safetensors"
    assert capsys.readouterr().out.splitlines()[-1] == str(checkpoint)
    assert read_info(checkpoint).training["history"][-1]["step"] == 2

    scores = tmp_path / "scores"
    command = ["evaluate", "--checkpoint", str(checkpoint), "--data", str(data), "--output", str(scores)]
    assert udfa_train(command) == 0
    assert any(path.stat().st_size for path in scores.rglob("*") if path.is_file())

    image, labelmap = source / "a_image.nii.gz", tmp_path / "organs.nii.gz"
    command = ["segment", str(image), "--output", str(labelmap), "--model", str(checkpoint)]
    assert udfa([*command, "--device", "cpu", "--quiet"]) == 0
    written = read_volume(labelmap)
    assert written.array.shape == read_volume(image).array.shape
    assert set(np.unique(written.array)) <= {0, 1, 2, 3}


def test_a_checkpoint_is_fine_tuned_without_a_configuration_file(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bundled checkpoint on one's own cases: two of its thirteen labels and a new one."""
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["labels"] = ["background", "liver", "my_tumour", "gallbladder"]
    (source / "manifest.json").write_text(json.dumps(manifest))
    data, run = tmp_path / "data", tmp_path / "run"
    assert udfa_train(["prepare", "pairs", str(source), str(data), "--validation", "c"]) == 0
    command = ["fit", "--init", "abdomen-ct-mini", "--data", str(data), "--output", str(run), "--steps", "1"]
    tiny = ["--size", "64", "--batch_size", "1", "--train", "heads", "--accelerator", "cpu", "--workers", "0"]
    assert udfa_train([*command, *tiny]) == 0
    assert "rows of the heads kept for liver, gallbladder; fresh for my_tumour; left out spleen" in caplog.text
    info = read_info(run / "model.safetensors")
    assert info.config.labels == ("liver", "my_tumour", "gallbladder")
    assert [entry["stage"] for entry in info.training["history"]][-1] == "heads"
    assert len(info.training["history"]) > 1
