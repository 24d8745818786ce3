"""The training loop: resumable to the bit, frozen where it says so, clear when it fails."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.pairs import find_pairs
from udfa.checkpoint import load_checkpoint, read_info
from udfa.errors import InvalidInputError, UDFAError
from udfa_training import milestones
from udfa_training.evaluation.sources import CheckpointSource
from udfa_training.fit import fit, set_learning_rate
from udfa_training.fit_config import FitConfig
from udfa_training.loop_parts import at_weights, sample_order
from udfa_training.misfits import seen_patients
from udfa_training.prepare import prepare
from udfa_training.set_up import make_plan, make_state
from udfa_training.supervised_stage import SupervisedObjective
from udfa_training.training_state import TrainingState, update_average
from udfa_training.validation import ValidationReport

Settings = Callable[..., FitConfig]


def set_up(config: FitConfig) -> TrainingState:
    """The state before the first step."""
    return make_state(make_plan(config))


def saved(config: FitConfig) -> dict[str, Any]:
    """The resumable state of a run."""
    record: dict[str, Any] = torch.load(Path(config.output) / "last.pt", weights_only=True)
    return record


def equal(first: Any, second: Any) -> bool:
    """Whether nested states agree bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(equal(a, b) for a, b in zip(first, second))
    return bool(first == second)


def backbone(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key.startswith("backbone.")}


def test_an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit(settings: Settings, tmp_path: Path) -> None:
    whole = settings(steps=4, validate_every=2, output=str(tmp_path / "whole"))
    parts = settings(steps=4, validate_every=2, output=str(tmp_path / "parts"))
    fit(whole)
    assert fit(parts, stop_after=1).name == "last.pt"
    assert saved(parts)["step"] == 1
    fit(parts, stop_after=3)
    published = fit(parts)
    assert saved(whole)["step"] == 4
    assert equal(saved(whole), saved(parts))
    expected = load_checkpoint(tmp_path / "whole" / "model.safetensors").network.state_dict()
    assert equal(load_checkpoint(published).network.state_dict(), expected)


def test_the_backbone_stays_as_it_was_and_the_rest_moves(settings: Settings) -> None:
    config = settings()
    before = {key: value.clone() for key, value in set_up(config).network.state_dict().items()}
    fit(config, stop_after=2)
    after = saved(config)["network"]
    assert equal(backbone(before), backbone(after))
    moved = [key for key in before.keys() - backbone(before).keys() if not torch.equal(before[key], after[key])]
    assert {"spa", "lgfa", "decoder"} <= {key.split(".")[0] for key in moved}
    assert not [name for name in saved(config)["average"] if name.startswith("backbone.")]


def test_pre_training_moves_the_backbone_too(settings: Settings) -> None:
    config = settings(train_backbone=True)
    key = "backbone.vit.patch_embed.proj.weight"
    before = set_up(config).network.state_dict()[key].clone()
    fit(config, stop_after=1)
    assert not torch.equal(before, saved(config)["network"][key])


def test_a_second_stage_starts_from_the_published_weights_of_the_first(settings: Settings, tmp_path: Path) -> None:
    first = fit(settings(train_backbone=True, output=str(tmp_path / "first")))
    second = settings(init=str(first), output=str(tmp_path / "second"))
    assert equal(set_up(second).network.state_dict(), load_checkpoint(first).network.state_dict())
    history = read_info(fit(second)).training["history"]
    assert [run["stage"] for run in history] == ["pretrain (backbone and adapters)", "adapters and decoder"]
    assert [run["step"] for run in history] == [2, 2]


def test_patients_of_earlier_runs_on_other_data_stay_in_the_record(settings: Settings, tmp_path: Path) -> None:
    """a and b trained the start; the second run trains on other patients, the third on a again."""
    first = fit(settings(steps=1, output=str(tmp_path / "first")))
    other = tmp_path / "other"
    shutil.copytree(settings().data, other)
    manifest = json.loads((other / "manifest.json").read_text())
    for case in manifest["cases"]:
        case["patient"] = {"a": "x", "b": "y", "c": "z"}[case["patient"]]
    (other / "manifest.json").write_text(json.dumps(manifest))
    second = fit(settings(steps=1, data=str(other), init=str(first), output=str(tmp_path / "second")))
    training = read_info(second).training
    assert (training["train"], training["trained_before"]) == (["x", "y"], ["a", "b"])
    assert seen_patients(training, ["b", "c", "x"]) == ["b", "x"]
    assert CheckpointSource(second, "cpu").facts()["training_patients"] == ["a", "b", "x", "y"]
    third = fit(settings(steps=1, init=str(second), output=str(tmp_path / "third")))
    assert read_info(third).training["trained_before"] == ["x", "y"]
    assert "trained_before" not in read_info(first).training
    on_its_backbone = fit(settings(steps=1, backbone_weights=str(second), output=str(tmp_path / "fourth")))
    assert read_info(on_its_backbone).training["trained_before"] == ["x", "y"]


def test_a_run_that_diverges_stops_clearly_and_keeps_the_last_state(settings: Settings) -> None:
    config = settings(steps=9, learning_rate=1e30)
    with pytest.raises(UDFAError, match=r"loss became nan at step \d.*last.pt holds an earlier state.*learning_rate"):
        fit(config)
    step = saved(config)["step"]
    assert step >= 1
    assert not list(Path(config.output).glob("*.safetensors"))


def test_a_first_step_that_diverges_says_that_nothing_was_saved(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SupervisedObjective, "forward", lambda *_: torch.tensor(float("inf"), requires_grad=True))
    with pytest.raises(UDFAError, match="loss became inf at step 0. Nothing had been saved yet"):
        fit(settings())


def test_a_gradient_that_is_no_number_stops_the_run_although_the_loss_is_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steep(self: SupervisedObjective, image: torch.Tensor, *_: Any) -> torch.Tensor:
        return (0 * self.network(image).mean()).abs().sqrt()

    monkeypatch.setattr(SupervisedObjective, "forward", steep)
    with pytest.raises(UDFAError, match="gradient became nan at step 0. Nothing had been saved yet.*learning_rate"):
        fit(settings())


def test_restored_moments_of_the_optimiser_follow_the_weights() -> None:
    """Another type stands for another device, which the machine that tests may lack."""
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW([{"params": layer.parameters(), "peak": 0.5}])
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    layer.to(torch.float64)
    at_weights(optimizer)
    moments = optimizer.state[layer.weight]
    assert moments["exp_avg"].dtype == moments["exp_avg_sq"].dtype == torch.float64
    assert moments["exp_avg"].flatten().tolist() == pytest.approx([0.1, 0.1])
    assert moments["step"].item() == 1
    assert optimizer.param_groups[0]["peak"] == 0.5


def test_resuming_with_other_settings_is_refused_and_says_which(settings: Settings) -> None:
    fit(settings(), stop_after=1)
    with pytest.raises(InvalidInputError, match=r"learning_rate was 0.001, now 0.5\).*another output folder"):
        fit(settings(learning_rate=0.5))


def test_resuming_may_change_the_length_and_the_machine(settings: Settings) -> None:
    fit(settings(), stop_after=1)
    longer = settings(steps=3, save_every=2)
    fit(longer, stop_after=3)
    assert saved(longer)["step"] == 3


def test_the_published_checkpoint_says_what_it_was_trained_on(settings: Settings) -> None:
    config = settings()
    info = read_info(fit(config))
    assert info.config == config.model
    assert info.licence == "made for tests, no terms"
    assert (info.training["data_set"], info.training["train"], info.training["validation"]) == (
        "source",
        ["a", "b"],
        ["c"],
    )
    assert set(info.metrics["cases"]) == {"c"}
    assert 0 <= info.metrics["mean_dice"] <= 1
    settings_kept = info.training["history"][0]["settings"]
    assert settings_kept["learning_rate"] == config.learning_rate
    assert not {"data", "output", "init"} & set(settings_kept)


def test_validation_on_the_way_is_logged_and_the_best_is_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = iter([0.4, 0.6, 0.5, 0.1])
    monkeypatch.setattr(milestones, "validate", lambda *_: ValidationReport({"c": {"liver": next(dice)}}))
    config = settings(steps=4, validate_every=1)
    fit(config)
    with (Path(config.output) / "validation.csv").open() as file:
        assert [float(row["mean_dice"]) for row in csv.DictReader(file)] == [0.4, 0.6, 0.5, 0.1]
    assert read_info(Path(config.output) / "best.safetensors").training["history"][-1]["step"] == 2
    assert saved(config)["best_dice"] == 0.6


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a computer without a graphics card")
@pytest.mark.parametrize("accelerator", ["cuda", "abacus"])
def test_an_accelerator_that_is_not_there_is_refused_with_what_to_do(settings: Settings, accelerator: str) -> None:
    with pytest.raises(InvalidInputError, match="Set accelerator to auto or cpu"):
        fit(settings(accelerator=accelerator))


def test_labels_of_data_and_model_must_agree(settings: Settings) -> None:
    model = settings().model
    other = dataclasses.replace(model, labels=tuple(reversed(model.labels)))
    with pytest.raises(InvalidInputError, match="gallbladder.*must agree.*--labels gallbladder,spleen,liver, or set"):
        fit(settings(model=other))


def test_two_processes_see_together_what_one_would_see_with_twice_the_batch() -> None:
    assert sample_order(range(1, 3), 4, accumulate=1, processes=1, rank=0) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert sample_order(range(1, 3), 2, accumulate=1, processes=2, rank=0) == [4, 5, 8, 9]
    assert sample_order(range(1, 3), 2, accumulate=1, processes=2, rank=1) == [6, 7, 10, 11]


def test_two_passes_see_what_one_would_see_with_twice_the_batch() -> None:
    assert sample_order(range(1, 3), 2, accumulate=2, processes=1, rank=0) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert sample_order(range(1, 2), 1, accumulate=2, processes=2, rank=1) == [5, 7]


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.505), (110, 0.01)])
def test_the_learning_rate_warms_up_and_falls_as_a_cosine(settings: Settings, step: int, factor: float) -> None:
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "peak": 2.0}, {"params": [torch.zeros(1)], "peak": 1.0}])
    set_learning_rate(optimizer, settings(steps=110, warmup_steps=10), step)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2 * factor, factor])


def test_the_average_follows_fast_at_first_and_slowly_later() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 10.0)
    optimizer = torch.optim.SGD(network.parameters())
    state = TrainingState(network, optimizer, {"weight": torch.zeros(1, 1)}, step=8)  # type: ignore[arg-type]
    update_average(state, decay=0.998)
    # Decay (1 + 8) / (10 + 8) = 0.5.
    assert state.average["weight"].item() == pytest.approx(5.0)
    state.step = 100_000
    update_average(state, decay=0.9)
    assert state.average["weight"].item() == pytest.approx(5.5)


def test_a_few_steps_on_one_batch_lower_the_loss(settings: Settings) -> None:
    state = set_up(settings())
    objective = SupervisedObjective(state.network)  # type: ignore[arg-type]
    label = torch.zeros(1, 1, 64, 64, dtype=torch.int64)
    label[:, :, 10:40, 10:30] = 1
    label[:, :, 20:50, 40:60] = 2
    image = label.float().repeat(1, 3, 1, 1)
    for group in state.optimizer.param_groups:
        group["lr"] = 0.01
    losses = []
    for _ in range(12):
        loss = objective(image, label, 0)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_data_without_validation_cases_are_trained_on_and_published_without_metrics(
    settings: Settings, source: Path, tmp_path: Path
) -> None:
    data = prepare(find_pairs(source, []), tmp_path / "all-train")
    config = settings(data=str(data), steps=2, validate_every=1)
    assert read_info(fit(config)).metrics == {}
    assert not (Path(config.output) / "best.safetensors").exists()


def test_the_best_checkpoint_may_be_that_of_the_last_step(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = iter([0.4, 0.6])
    monkeypatch.setattr(milestones, "validate", lambda *_: ValidationReport({"c": {"liver": next(dice)}}))
    config = settings(steps=2, validate_every=1)
    fit(config)
    best, last = (read_info(Path(config.output) / f"{name}.safetensors") for name in ("best", "model"))
    assert best.metrics == last.metrics
    assert best.training == last.training


def test_a_finished_run_is_not_done_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(steps=1)
    published = fit(config)
    before = published.stat().st_mtime_ns
    monkeypatch.setattr(milestones, "validate", None)
    assert fit(config) == published
    assert published.stat().st_mtime_ns == before
