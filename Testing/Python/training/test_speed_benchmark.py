"""The speed benchmark: ratios of the same round, sizes that match, shares that add up, tables of what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from Benchmarks import speed, speed_measure
from Benchmarks.speed_measure import build, interleaved, memory, ratio, shares, spread, stopwatch
from udfa.config import NetworkConfig
from udfa.networks.udfa import UDFA

CONFIG = NetworkConfig(num_classes=4)


def weights(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_a_spread_is_the_median_with_p10_and_p90() -> None:
    assert spread([float(i) for i in range(11)]) == {"median": 5.0, "p10": 1.0, "p90": 9.0}


def test_a_ratio_compares_times_of_the_same_round() -> None:
    samples = {
        "slow": [{"wall": 2.0, "cpu": 1.0}, {"wall": 40.0, "cpu": 1.0}],
        "fast": [{"wall": 1.0, "cpu": 4.0}, {"wall": 20.0, "cpu": 4.0}],
    }
    assert ratio(samples, "slow", "fast", "wall") == {"median": 2.0, "p10": 2.0, "p90": 2.0}
    assert ratio(samples, "slow", "fast", "cpu")["median"] == 0.25


def test_networks_take_turns_and_each_begins_once() -> None:
    order: list[str] = []
    actions = {name: (lambda name=name: order.append(name)) for name in "abc"}
    samples = interleaved(actions, 3, "cpu")
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [len(samples[name]) for name in "abc"] == [3, 3, 3]
    assert all(sample["wall"] >= 0 for sample in samples["a"])


def test_the_u_nets_are_as_large_as_u_dfa_and_as_its_trainable_part() -> None:
    trainable, total = UDFA(CONFIG).parameter_counts()
    assert weights(build("U-Net, all of U-DFA", CONFIG)) == pytest.approx(total, rel=0.08)
    assert weights(build("U-Net, trainable part", CONFIG)) == pytest.approx(trainable, rel=0.08)


def test_the_bare_vit_is_the_backbone_and_nothing_else() -> None:
    network = build("U-DFA", CONFIG)
    assert isinstance(network, UDFA)
    assert weights(build("bare ViT", CONFIG)) == weights(network.backbone)


def test_a_stopwatch_sums_up_the_calls_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr(speed_measure.time, "perf_counter", lambda: next(seconds))
    layer = torch.nn.Identity()
    with stopwatch({"layer": [layer]}, "cpu", "wall") as found:
        layer(torch.zeros(1))
        layer(torch.zeros(1))
    layer(torch.zeros(1))
    assert found == {"layer": 5.0}


def test_the_shares_of_the_parts_add_up_to_the_whole() -> None:
    network = build("U-DFA", CONFIG)
    found = shares(network, torch.zeros(1, 3, 64, 64), "fp32", 1, "wall")  # type: ignore[arg-type]
    assert sum(share["median"] for share in found.values()) == pytest.approx(1)
    assert all(found[part]["median"] > 0 for part in ("SPA", "ViT", "decoder", "LGFA, local to global"))


def test_training_needs_memory_beyond_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([100, 130, 190])
    monkeypatch.setattr(speed_measure, "peak_bytes", lambda device: next(peaks))
    found = memory("U-DFA", CONFIG, torch.zeros(1, 3, 64, 64), "fp32")
    assert found == {"before": 100, "inference": 130, "training": 190}


def test_the_command_measures_and_writes_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "NETWORKS", ("U-DFA", "bare ViT", "U-Net, trainable part"))
    measured = ["forward", "parts", "volumes", "training"]
    arguments = ["--output", str(tmp_path), "--sizes", "32", "--batches", "1", "--slices", "1", "--repeats", "1"]
    assert (
        speed.main([*arguments, "--device", "cpu", "--dtypes", "fp32", "--classes", "4", "--measure", *measured]) == 0
    )
    figures = json.loads((tmp_path / "speed.json").read_text())
    itself = [row["udfa_ratio"]["median"] for row in figures["forward"] if row["network"] == "U-DFA"]
    assert itself == [1.0]
    assert {row["network"] for row in figures["training"]} == {"U-DFA", "U-Net, trainable part"}
    text = (tmp_path / "speed.md").read_text()
    for title in ("Networks", "Forward pass", "Where the time goes", "Whole volumes", "Training step"):
        assert title in text
    assert "Peak memory" not in text


def test_the_clock_of_the_processor_is_refused_for_a_gpu() -> None:
    with pytest.raises(SystemExit, match="clock cpu"):
        speed.main(["--clock", "cpu", "--device", "cuda"])
