"""Several data sets around one frozen backbone, and one ordinary checkpoint for each of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from fakes.pairs import find_pairs
from udfa.checkpoint import load_checkpoint, read_info
from udfa.cli import main as segment
from udfa.config import to_dict
from udfa.errors import InvalidInputError
from udfa_training.cli import main
from udfa_training.config_file import load_run
from udfa_training.fit import fit_tasks
from udfa_training.fit_config import FitConfig
from udfa_training.prepare import prepare
from udfa_training.set_up import make_plan
from udfa_training.unified_config import UnifiedConfig

from .conftest import write_case

Settings = Callable[..., FitConfig]
CONFIGS = Path(__file__).resolve().parents[3] / "training" / "configs" / "unified"
ORGANS = ("aorta", "liver", "spleen")


@pytest.fixture
def other_data(tmp_path: Path) -> Path:
    """A second data set with other labels; patient z is held out."""
    folder = tmp_path / "second"
    folder.mkdir()
    for seed, name in enumerate("yz", start=10):
        write_case(folder, name, seed)
    manifest = {"labels": ["background", *ORGANS], "licence": "terms of the second"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return prepare(find_pairs(folder, ["z"]), tmp_path / "second-prepared")


@pytest.fixture
def unified(settings: Settings, other_data: Path, tmp_path: Path) -> Callable[..., UnifiedConfig]:
    """Settings of two tiny tasks."""

    def make(shared: str = "backbone", output: str = "unified", **changes: Any) -> UnifiedConfig:
        folder = tmp_path / output
        first = settings(**{"steps": 2, **changes, "output": f"{folder}/first"})
        model = dataclasses.replace(first.model, labels=ORGANS)
        second = dataclasses.replace(first, data=str(other_data), model=model, output=f"{folder}/second")
        return UnifiedConfig(str(folder), shared, {"first": first, "second": second})  # type: ignore[arg-type]

    return make


def weights(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).network.state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor], part: str) -> bool:
    keys = [key for key in first if key.startswith(f"{part}.")]
    return bool(keys) and all(torch.equal(first[key], second[key]) for key in keys)


def test_per_task_adapters_share_only_the_backbone(unified: Callable[..., UnifiedConfig]) -> None:
    published = fit_tasks(unified("backbone"))
    assert [path.parent.name for path in published] == ["first", "second"]
    first, second = (weights(path) for path in published)
    assert same(first, second, "backbone")
    assert not any(same(first, second, part) for part in ("spa", "lgfa", "decoder.stage4", "decoder.head"))
    assert [read_info(path).config.labels for path in published] == [("liver", "spleen", "gallbladder"), ORGANS]
    assert read_info(published[1]).licence == "terms of the second"


def test_one_shared_adapter_learns_from_all_data_and_each_task_has_its_head(
    unified: Callable[..., UnifiedConfig],
) -> None:
    published = fit_tasks(unified("all-but-heads"))
    first, second = (weights(path) for path in published)
    assert all(same(first, second, part) for part in ("backbone", "spa", "lgfa", "decoder.stage4", "decoder.stage16"))
    assert not same(first, second, "decoder.head")
    info = read_info(published[1])
    assert info.training["also_trained_on"] == ["source"]
    assert info.licence == "terms of the second; made for tests, no terms"
    assert info.training["history"][-1]["trained_together"] == {
        "tasks": ["first", "second"],
        "shared": "all-but-heads",
    }


def test_steps_take_turns_and_the_resting_task_keeps_its_own_weights(unified: Callable[..., UnifiedConfig]) -> None:
    config = unified("adapters", steps=4)
    before = {t.name: {k: v.clone() for k, v in t.network.state_dict().items()} for t in make_plan(config).tasks}
    fit_tasks(config, stop_after=1)
    state = torch.load(Path(config.output) / "last.pt", weights_only=True)["network"]
    after = {name: {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(f"{name}.")} for name in before}
    assert not same(before["first"], after["first"], "decoder.stage4")
    assert same(before["second"], after["second"], "decoder")
    assert same(after["first"], after["second"], "spa")
    assert not same(before["first"], after["second"], "spa")


def test_an_interrupted_run_on_two_data_sets_equals_an_uninterrupted_one(
    unified: Callable[..., UnifiedConfig],
) -> None:
    whole, parts = (unified("adapters", output=name, steps=3, validate_every=2) for name in ("whole", "parts"))
    expected = fit_tasks(whole)
    for step in (1, 2):
        fit_tasks(parts, stop_after=step)
    for first, second in zip(expected, fit_tasks(parts)):
        a, b = weights(first), weights(second)
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_each_task_becomes_a_checkpoint_that_segments(
    unified: Callable[..., UnifiedConfig], source: Path, tmp_path: Path
) -> None:
    config = unified("adapters")
    common, file = config.common, tmp_path / "unified.yaml"
    of_a_task = ("data", "model")
    fields = {k: v for k, v in to_dict(common).items() if k not in (*of_a_task, "output")}
    tasks = {n: {k: v for k, v in to_dict(t).items() if k in of_a_task} for n, t in config.tasks.items()}
    file.write_text(yaml.safe_dump({**fields, "output": config.output, "shared": "adapters", "tasks": tasks}))
    assert load_run(file) == config
    assert main(["fit", "--config", str(file), "--log_every", "1"]) == 0
    log = (Path(config.output) / "log.csv").read_text().splitlines()
    assert [row.rsplit(",", 1)[1] for row in log] == ["task", "first", "second"]
    for name in ("first", "second"):
        model, labelmap = Path(config.output) / name / "model.safetensors", tmp_path / f"{name}.nii.gz"
        command = ["segment", str(source / "a_image.nii.gz"), "--output", str(labelmap), "--model", str(model)]
        assert segment([*command, "--device", "cpu", "--quiet"]) == 0
        assert labelmap.is_file()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"learning_rate": 0.5}, "Task second has its own learning_rate; set these for all tasks"),
        ({"train_backbone": True}, "share a frozen backbone"),
    ],
)
def test_tasks_agree_in_what_holds_for_the_run(
    unified: Callable[..., UnifiedConfig], changes: dict[str, Any], complaint: str
) -> None:
    config = unified()
    tasks = {**config.tasks, "second": dataclasses.replace(config.tasks["second"], **changes)}
    with pytest.raises(InvalidInputError, match=complaint):
        dataclasses.replace(config, tasks=tasks)


def test_tasks_that_share_adapters_have_networks_of_one_shape(unified: Callable[..., UnifiedConfig]) -> None:
    config = unified("backbone")
    model = config.tasks["second"].model
    wider = dataclasses.replace(model, network=dataclasses.replace(model.network, lgfa_width=32))
    tasks = {**config.tasks, "second": dataclasses.replace(config.tasks["second"], model=wider)}
    assert dataclasses.replace(config, tasks=tasks).tasks == tasks
    with pytest.raises(InvalidInputError, match="cannot share its adapters: model.network is another"):
        dataclasses.replace(config, tasks=tasks, shared="adapters")


@pytest.mark.parametrize(("name", "shared"), [("adapters-per-task", "backbone"), ("one-adapter", "all-but-heads")])
def test_the_bundled_configurations_load(name: str, shared: str) -> None:
    config = load_run(CONFIGS / f"{name}.yaml", ["--steps", "10", "--tasks.cardiac.batch_size", "4"])
    assert isinstance(config, UnifiedConfig)
    assert config.shared == shared
    assert [len(task.model.labels) for task in config.tasks.values()] == [13, 3]
    assert (config.tasks["abdomen"].batch_size, config.tasks["cardiac"].batch_size) == (10, 4)
    assert config.tasks["cardiac"].output == f"{config.output}/cardiac"


def test_a_file_without_what_is_shared_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "unified.yaml"
    path.write_text("output: run\ntasks: {}\n")
    with pytest.raises(
        InvalidInputError, match="shared is None, but must be .backbone., .adapters. or .all-but-heads."
    ):
        load_run(path)
