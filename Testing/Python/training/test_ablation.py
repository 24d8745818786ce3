"""Ablations: variants differ in what they name and in nothing else, runs resume, the table says what was measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from fakes.pairs import find_pairs
from udfa.config import NetworkConfig, to_dict
from udfa.errors import InvalidInputError, UDFAError
from udfa.networks.backbone import FrozenBackbone
from udfa.networks.udfa import UDFA
from udfa_training.ablation import PlainObjective, ablate, identity, patient_interval, result_path, table
from udfa_training.ablation_config import AblationConfig, Variant
from udfa_training.ablation_variants import (
    SpaUNet,
    build_variant,
    plain_unet,
    reference_size,
    swin_unetr,
    total_parameters,
    trainable_parameters,
)
from udfa_training.backbone_file import save_backbone
from udfa_training.budget_loop import Budget
from udfa_training.cli import main
from udfa_training.config_file import load_config
from udfa_training.dataset import open_prepared
from udfa_training.fit_config import FitConfig
from udfa_training.loop_parts import warmup_cosine
from udfa_training.prepare import prepare

Ablation = Callable[..., AblationConfig]
SMALL = NetworkConfig(num_classes=4, spa_channels=(8, 8, 16, 16, 16), lgfa_width=16, decoder_channels=(16, 16, 8, 8))
BUDGET = Budget(steps=2, batch_size=1, warmup_steps=1, accelerator="cpu", precision="32-true", save_every=1)


@pytest.fixture
def ablation(settings: Callable[..., FitConfig], prepared: Path, tmp_path: Path) -> Ablation:
    """Return settings of a tiny ablation; any field can be given another value."""
    tiny = AblationConfig(
        data=str(prepared),
        output=str(tmp_path / "ablation"),
        model=settings().model,
        variants=(Variant("parts", kind="spa_unet"), Variant("coarse", kind="spa_unet", in_plane_spacing_mm=8.0)),
        size=64,
        budget=BUDGET,
    )
    return lambda **changes: dataclasses.replace(tiny, **changes)


def test_every_variant_is_trained_and_validated_and_stands_in_the_table(ablation: Ablation) -> None:
    config = ablation()
    lines = ablate(config).read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["parts", "coarse"]
    results = json.loads((Path(config.output) / "results.json").read_text())
    assert [set(result["cases"]) for result in results] == [{"c"}, {"c"}]
    assert [result["steps"] for result in results] == [2, 2]


def test_variants_that_are_done_are_not_run_again(ablation: Ablation) -> None:
    config = ablation()
    ablate(config, ["parts"])
    first = result_path(config, config.variants[0])
    before = first.stat().st_mtime_ns
    assert not result_path(config, config.variants[1]).exists()
    ablate(config)
    assert first.stat().st_mtime_ns == before
    assert result_path(config, config.variants[1]).exists()


def test_a_saved_run_with_another_budget_is_refused(ablation: Ablation) -> None:
    config = ablation(variants=(Variant("parts", kind="spa_unet"),))
    ablate(config)
    result_path(config, config.variants[0]).unlink()
    other = dataclasses.replace(config, budget=dataclasses.replace(BUDGET, learning_rate=0.5))
    with pytest.raises(InvalidInputError, match=r"last.pt holds.*budget.learning_rate was 0.001, now 0.5"):
        ablate(other)


def test_a_row_of_another_budget_does_not_enter_the_table(ablation: Ablation) -> None:
    config = ablation()
    ablate(config, ["parts"])
    longer = dataclasses.replace(config, budget=dataclasses.replace(BUDGET, steps=3))
    with pytest.raises(InvalidInputError, match=r"parts/result.json holds.*budget.steps was 2, now 3"):
        ablate(longer, ["coarse"])


def test_data_without_validation_cases_are_refused_before_anything_trains(
    ablation: Ablation, source: Path, tmp_path: Path
) -> None:
    data = prepare(find_pairs(source, []), tmp_path / "all-train")
    with pytest.raises(InvalidInputError, match="no case in its 'val' split"):
        ablate(ablation(data=str(data)))


def test_an_unknown_variant_is_refused(ablation: Ablation) -> None:
    with pytest.raises(InvalidInputError, match=r"Unknown variants \['nothing'\].*parts"):
        ablate(ablation(), ["nothing"])


def test_labels_of_data_and_model_must_agree(ablation: Ablation) -> None:
    config = ablation()
    model = dataclasses.replace(config.model, labels=tuple(reversed(config.model.labels)))
    with pytest.raises(InvalidInputError, match="gallbladder"):
        ablate(ablation(model=model))


def test_a_loss_that_is_not_finite_stops_the_run(ablation: Ablation) -> None:
    budget = dataclasses.replace(BUDGET, steps=9, learning_rate=1e30)
    with pytest.raises(UDFAError, match=r"loss became nan at step \d.*learning_rate"):
        ablate(ablation(budget=budget))


def test_a_variant_changes_what_it_names_and_nothing_else(ablation: Ablation) -> None:
    config = ablation()
    assert config.model_of(Variant("same")) == config.model
    changed = config.model_of(Variant("other", in_slices=1, lgfa_direction="none", norm="group"))
    assert changed.preprocessing == dataclasses.replace(config.model.preprocessing, in_slices=1)
    assert changed.network == dataclasses.replace(config.model.network, lgfa_direction="none", norm="group")
    assert config.budget_of(Variant("same")) == config.budget
    assert config.budget_of(Variant("other", batch_size=7)).batch_size == 7


@pytest.mark.parametrize("kind", ["udfa", "spa_unet", "unet", "swin_unetr"])
def test_every_network_maps_an_image_to_logits_of_its_size(kind: str) -> None:
    network = build_variant(Variant("any", kind=kind), SMALL).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        assert network(torch.randn(1, 3, 64, 96)).shape == (1, 4, 64, 96)


def test_foreign_networks_are_as_large_as_asked() -> None:
    trainable, total = (reference_size(NetworkConfig(num_classes=4), match) for match in ("trainable", "total"))
    assert (trainable, total) == UDFA(NetworkConfig(num_classes=4)).parameter_counts()
    assert total_parameters(plain_unet(4, trainable)) == pytest.approx(trainable, rel=0.08)
    assert total_parameters(plain_unet(4, total)) == pytest.approx(total, rel=0.08)
    assert total_parameters(swin_unetr(4, trainable)) == pytest.approx(trainable, rel=0.08)


def test_the_network_without_backbone_is_made_of_the_same_parts() -> None:
    whole, parts = UDFA(SMALL), SpaUNet(SMALL)
    assert {k: v.shape for k, v in parts.spa.state_dict().items()} == {
        k: v.shape for k, v in whole.spa.state_dict().items()
    }
    missing = set(whole.decoder.state_dict()) - set(parts.decoder.state_dict())
    assert missing == {"tokens.weight", "tokens.bias"}


def test_a_variant_starts_from_the_backbone_that_it_names(tmp_path: Path) -> None:
    source = FrozenBackbone("mini")
    path = tmp_path / "backbone.safetensors"
    save_backbone(path, source, {})
    network = build_variant(Variant("with backbone", backbone=str(path)), SMALL)
    assert isinstance(network, UDFA)
    assert torch.equal(network.backbone.vit.cls_token, source.vit.cls_token)
    assert torch.equal(network.backbone.vit.blocks[5].mlp.fc1.weight, source.vit.blocks[5].mlp.fc1.weight)
    assert trainable_parameters(network) < total_parameters(network) - total_parameters(source) + 1


def test_the_identity_of_a_run_knows_the_content_of_the_backbone(ablation: Ablation, tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    variant = Variant("with backbone", backbone=str(path))
    found = []
    for content in (b"one", b"two"):
        path.write_bytes(content)
        found.append(identity(ablation(), variant, open_prepared(Path(ablation().data))))
    assert found[0] != found[1]
    assert found[0]["variant"]["name"] == found[1]["variant"]["name"]


def test_the_objective_is_near_zero_for_the_right_answer_and_large_for_a_wrong_one() -> None:
    label = torch.zeros(1, 1, 32, 32, dtype=torch.int64)
    label[..., 8:24, 8:24] = 1
    right = torch.nn.functional.one_hot(label[:, 0], 2).movedim(-1, 1).float() * 40 - 20

    class Fixed(torch.nn.Module):
        def __init__(self, logits: torch.Tensor) -> None:
            super().__init__()
            self.logits = logits

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.logits

    image = torch.zeros(1, 3, 32, 32)
    assert PlainObjective(Fixed(right))(image, label, seed=0).item() < 0.01
    assert PlainObjective(Fixed(-right))(image, label, seed=0).item() > 10


def test_the_interval_resamples_patients_and_not_cases() -> None:
    cases = {"a1": {"x": 0.2}, "a2": {"x": 0.4}, "b1": {"x": 0.8}, "b2": {"x": 1.0}}
    patients = {name: name[0] for name in cases}
    # With two patients a resample is (a, a), (a, b) or (b, b): means 0.3, 0.6, 0.9.
    assert patient_interval(cases, patients) == pytest.approx([0.3, 0.9])
    some = {"a": {"x": float("nan"), "y": 0.5}, "b": {"x": float("nan"), "y": 0.5}}
    assert patient_interval(some, {"a": "a", "b": "b"}) == pytest.approx([0.5, 0.5])
    assert patient_interval({"a": {"x": 0.5}}, {"a": "a"}) is None


def test_the_table_shows_each_label_when_there_are_few() -> None:
    result = {
        "variant": {"name": "U-DFA"},
        "dice": {"left_ventricle": 0.9, "myocardium": 0.7},
        "mean_dice": 0.8,
        "interval": [0.75, 0.85],
        "trainable_parameters": 1_670_000,
        "total_parameters": 7_180_000,
        "median_cpu_seconds_per_step": 0.25,
    }
    lines = table([result], ["left_ventricle", "myocardium"]).splitlines()
    assert lines[0].startswith("| variant | left ventricle | myocardium | mean |")
    assert lines[2] == "| U-DFA | 0.900 | 0.700 | 0.800 | 0.750-0.850 | 1.67 M | 7.18 M | 0.25 |"
    assert "left ventricle" not in table([result], ["a", "b", "c", "d", "e"])
    assert "| 0.800 | - | 1.67 M |" in table([{**result, "interval": None}], ["left_ventricle", "myocardium"])


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.505), (110, 0.01)])
def test_the_learning_rate_warms_up_and_falls_as_a_cosine(step: int, factor: float) -> None:
    assert warmup_cosine(step, 10, 110) == pytest.approx(factor)


@pytest.mark.parametrize("names", [(), ("same", "same")])
def test_variants_need_different_names(ablation: Ablation, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match="variants with different names"):
        ablation(variants=tuple(Variant(name) for name in names))


def test_the_command_prints_the_table(ablation: Ablation, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(to_dict(ablation())))))
    assert main(["ablate", "--config", str(path), "--only", "parts", "--budget.steps", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| parts | ")


def test_the_configurations_of_the_package_are_valid() -> None:
    folder = Path(__file__).resolve().parents[3] / "training" / "configs" / "ablation"
    paths = sorted(folder.glob("*.yaml"))
    assert paths
    for path in paths:
        config = load_config(path, (), AblationConfig)
        assert config.variants
