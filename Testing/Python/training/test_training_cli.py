"""udfa-train as its users run it: prepare, fit, evaluate, and a checkpoint that the product takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from udfa.cli import main as segment
from udfa.config import to_dict
from udfa.errors import InvalidInputError
from udfa.volume_io import read_volume
from udfa_training.cli import main
from udfa_training.config_file import load_config
from udfa_training.fit_config import FitConfig

Settings = Callable[..., FitConfig]
CONFIGS = sorted((Path(__file__).resolve().parents[3] / "training" / "configs").glob("*.yaml"))


@pytest.fixture
def config_file(settings: Settings, tmp_path: Path) -> Path:
    """The tiny settings as a YAML file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(to_dict(settings())))
    return path


def test_prepare_fit_evaluate_and_segment(
    source: Path, config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tmp_path / "data", tmp_path / "cli-run"
    assert main(["prepare", str(source), str(data), "--validation", "c"]) == 0
    assert main(["fit", "--config", str(config_file), "--data", str(data), "--output", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "model.safetensors")
    scores = tmp_path / "scores.json"
    command = ["evaluate", "--checkpoint", str(run / "model.safetensors"), "--data", str(data), "--output", str(scores)]
    assert main(command) == 0
    record = json.loads(scores.read_text())
    assert set(record["cases"]["c"]) == {"liver", "spleen", "gallbladder"}
    assert f"mean over 3 labels: {record['mean_dice']:.4f}" in capsys.readouterr().out
    image, labelmap = source / "a_image.nii.gz", tmp_path / "organs.nii.gz"
    command = ["segment", str(image), "--output", str(labelmap), "--model", str(run / "model.safetensors")]
    assert segment([*command, "--device", "cpu", "--quiet"]) == 0
    written = read_volume(labelmap)
    assert written.array.shape == read_volume(image).array.shape
    assert set(np.unique(written.array)) <= {0, 1, 2, 3}


def test_ctrl_c_ends_any_command_without_a_traceback(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("udfa_training.prepare._check_case", interrupted)
    assert main(["prepare", str(source), str(tmp_path / "data")]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "udfa-train: stopped."
    assert list(tmp_path.iterdir()) == [source]


def test_labels_that_the_terminal_cannot_show_do_not_end_a_command(source: Path, tmp_path: Path) -> None:
    manifest = json.loads((source / "manifest.json").read_text())
    (source / "manifest.json").write_text(json.dumps({**manifest, "labels": ["background", "肝", "脾", "胆"]}))
    command = [sys.executable, "-m", "udfa_training.cli", "prepare", "pairs", str(source), str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, b"labels: ?, ?, ?" in done.stdout) == (0, True), done.stderr.decode("cp1252")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_bundled_configuration_loads(path: Path) -> None:
    config = load_config(path)
    assert isinstance(config, FitConfig)
    assert config.model.network.num_classes == len(config.model.labels) + 1


def test_overrides_reach_nested_fields_with_their_types(config_file: Path) -> None:
    overrides = ["--steps", "7", "--learning-rate", "1e-3", "--augment.scale", "0.5", "--train_backbone", "true"]
    config = load_config(
        config_file, [*overrides, "--model.preprocessing.window_hu", "[-100, 200]", "--init", "a b.st"]
    )
    assert (config.steps, config.learning_rate, config.augment.scale, config.train_backbone) == (7, 0.001, 0.5, True)
    assert config.model.preprocessing.window_hu == (-100.0, 200.0)
    assert config.init == "a b.st"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["--stepz", "7"], "unknown field.*stepz"),
        (["--steps", "many"], "steps is 'many', but must be of type int"),
        (["--steps", "0"], "steps is 0, but must be at least 1"),
        (["--steps"], "--field value"),
        (["steps", "7"], "--field value"),
        (["--steps.x", "7"], "steps is a single value"),
        (["--size", "100"], "multiple of 32"),
        (["--learning_rate", "-0.001"], "learning_rate is -0.001, but must be above 0"),
        (["--ema_decay", "99"], "ema_decay is 99.0, but must be within 0 and 1"),
        (["--foreground_share", "80"], "foreground_share is 80.0, but must be within 0 and 1"),
        (["--quick_cases", "0"], "quick_cases is 0, but must be at least 1"),
        (["--workers", "-1"], "workers is -1, but must be at least 0"),
        (["--gradient_clip", ".nan"], "gradient_clip is nan, but must be above 0"),
        (["--augment.rotation_degrees", "-15"], "rotation_degrees is -15.0, but must be at least 0"),
        (["--seed", "-1"], "seed is -1, but must be at least 0"),
        (["--output", "@runs"], "--output @runs is no YAML value.*quotes"),
        (["--precision", "16-mixed"], "precision is '16-mixed'.*bf16-mixed.*32-true"),
    ],
)
def test_a_wrong_override_is_refused_with_the_reason(config_file: Path, overrides: list[str], complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        load_config(config_file, overrides)


def test_a_broken_yaml_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("steps: [1, 2\n")
    with pytest.raises(InvalidInputError, match="broken.yaml is no valid YAML"):
        load_config(path)


def test_an_empty_yaml_file_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    with pytest.raises(InvalidInputError, match="data, model, output"):
        load_config(path)


def test_errors_go_to_stderr_with_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(tmp_path / "absent"), str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("udfa-train: ")
    assert "manifest.json" in captured.err


def test_fit_without_settings_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit"]) == 1
    error = capsys.readouterr().err
    assert "--config FILE" in error
    assert "--init CHECKPOINT" in error


def test_an_unknown_option_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["evaluate", "--checkpoint", "x", "--data", "y", "--fast", "1"])
    assert raised.value.code == 2


def test_an_absent_split_is_refused(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    from udfa_training.fit import fit

    config = settings(steps=1)
    command = ["evaluate", "--checkpoint", str(fit(config)), "--data", config.data, "--split", "test"]
    assert main(command) == 1
    assert "no case in split 'test'" in capsys.readouterr().err
