"""Ablations: train variants one after another with the same budget, validate them alike, write one table."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from tqdm import tqdm

from udfa.config import PreprocessingConfig, to_dict
from udfa.errors import InvalidInputError
from udfa.volume_io import written_aside
from udfa_training.ablation_config import AblationConfig, Variant
from udfa_training.ablation_variants import build_variant, total_parameters, trainable_parameters
from udfa_training.augment import Augmentation
from udfa_training.budget_loop import LoopState, run_budget, take_average
from udfa_training.dataset import PreparedData, SliceDataset, SliceStack, load_stack, open_prepared
from udfa_training.evaluation.statistics import Bootstrap, summarise
from udfa_training.misfits import other_labels
from udfa_training.publish import commit
from udfa_training.resume_rules import FREE, check_settings, fixed_settings
from udfa_training.stack_cache import training_content
from udfa_training.validation import validate


class PlainObjective(nn.Module):
    """Dice plus cross-entropy of the logits at full resolution: a loss that every network has.

    Args:
        network: Maps (B, 3, S, S) to logits (B, K, S, S).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)

    def forward(self, image: Tensor, label: Tensor, seed: int) -> Tensor:
        """Return the loss. Image (B, 3, S, S), label (B, 1, S, S) int64; nothing is drawn, so seed is unused."""
        image = image.contiguous(memory_format=torch.channels_last)
        loss: Tensor = self.criterion(self.network(image).float(), label)
        return loss


def ablate(config: AblationConfig, only: Sequence[str] = ()) -> Path:
    """Run the variants that have no result yet, resuming one that was interrupted.

    Args:
        config: Settings.
        only: Names of the variants to run; empty for all. The table holds all that have a result.

    Returns:
        Path of the table, `<output>/table.md`.

    Raises:
        InvalidInputError: Data and settings do not fit, an unknown variant is named, or there are results of other
            settings.
    """
    data = open_prepared(Path(config.data))
    if data.labels != config.model.labels:
        raise InvalidInputError(other_labels(data.labels, config.model.labels))
    if not data.split("val"):
        raise InvalidInputError(f"{data.folder} has no case in its 'val' split, by which the variants are compared.")
    unknown = sorted(set(only) - {variant.name for variant in config.variants})
    if unknown:
        raise InvalidInputError(f"Unknown variants {unknown}. Known: {[v.name for v in config.variants]}.")
    open_variants = [variant for variant in config.variants if not _is_done(config, variant, data)]
    stacks: dict[str, list[SliceStack]] = {}
    for variant in open_variants:
        if not only or variant.name in only:
            _run(config, variant, data, _stacks(config, variant, data, stacks))
    return write_table(config)


def result_path(config: AblationConfig, variant: Variant) -> Path:
    """Where a variant's result is or will be."""
    return Path(config.output) / variant.name / "result.json"


def _is_done(config: AblationConfig, variant: Variant, data: PreparedData) -> bool:
    """Whether a variant has a result; InvalidInputError if that is one of other settings, which no row may mix with."""
    path = result_path(config, variant)
    if path.is_file():
        check_settings(json.loads(path.read_text())["identity"], identity(config, variant, data), path)
    return path.is_file()


def _stacks(
    config: AblationConfig, variant: Variant, data: PreparedData, cache: dict[str, list[SliceStack]]
) -> list[SliceStack]:
    """Training cases on the variant's grid; read once for variants that share it."""
    model = config.model_of(variant)
    key = _grid_key(model.preprocessing)
    if key not in cache:
        cache.clear()
        cases = tqdm(data.split("train"), desc="reading cases")
        cache[key] = [load_stack(case, model.preprocessing, model.network.num_classes) for case in cases]
    return cache[key]


def _grid_key(preprocessing: PreprocessingConfig) -> str:
    return json.dumps({name: value for name, value in to_dict(preprocessing).items() if name != "in_slices"})


def _run(config: AblationConfig, variant: Variant, data: PreparedData, stacks: list[SliceStack]) -> None:
    model, budget = config.model_of(variant), config.budget_of(variant)
    torch.manual_seed(budget.seed)
    network = build_variant(variant, model.network)
    _leave_out_auxiliary_heads(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dataset = SliceDataset(
        stacks,
        model.network.num_classes,
        model.preprocessing.in_slices,
        Augmentation(variant.size or config.size, config.augment),
        config.foreground_share,
        budget.seed,
    )
    path = result_path(config, variant)
    own = identity(config, variant, data)
    state = run_budget(PlainObjective(network), dataset, budget, path.parent, own)
    take_average(state)
    network.cpu()
    report = validate(network, model, data.split("val"))  # type: ignore[arg-type]
    patients = {case.name: case.patient for case in data.split("val")}
    result = {
        "variant": to_dict(variant),
        "identity": own,
        "cases": report.cases,
        "dice": report.dice,
        "mean_dice": report.mean_dice,
        "interval": patient_interval(report.cases, patients),
        "commit": commit(),
        **costs(state, network),
    }
    with written_aside(path) as aside:
        aside.write_text(json.dumps(result, indent=1))


def _leave_out_auxiliary_heads(network: nn.Module) -> None:
    """Freeze the deep-supervision heads, which the common loss does not use."""
    for name, parameter in network.named_parameters():
        if "auxiliary_heads" in name:
            parameter.requires_grad_(False)


def identity(config: AblationConfig, variant: Variant, data: PreparedData) -> dict[str, Any]:
    """Everything that decides the outcome of a variant's run, as plain types."""
    shared = {
        name: value for name, value in to_dict(config).items() if name not in ("data", "output", "variants", "budget")
    }
    budget = fixed_settings(config.budget_of(variant), FREE - {"steps"})
    own = to_dict(variant)
    if variant.backbone is not None:
        own["backbone"] = hashlib.sha256(Path(variant.backbone).read_bytes()).hexdigest()
    return {**shared, "budget": budget, "variant": own, "training_cases": training_content(data)}


def costs(state: LoopState, network: nn.Module) -> dict[str, Any]:
    """Parameters and time per step."""
    return {
        "trainable_parameters": trainable_parameters(network),
        "total_parameters": total_parameters(network),
        "steps": state.step,
        "median_wall_seconds_per_step": statistics.median(state.wall_seconds),
        "median_cpu_seconds_per_step": statistics.median(state.cpu_seconds),
    }


def patient_interval(cases: dict[str, dict[str, float]], patients: dict[str, str]) -> list[float] | None:
    """95 % bootstrap interval of the mean Dice, as `evaluate` makes it; None with a single patient."""
    scores = np.array([list(case.values()) for case in cases.values()], dtype=np.float64)
    overall = summarise(scores, [patients[name] for name in cases], Bootstrap()).overall
    return None if math.isnan(overall.low) else [overall.low, overall.high]


def write_table(config: AblationConfig) -> Path:
    """Write `results.json` and `table.md` with all results that are there."""
    output = Path(config.output)
    paths = [result_path(config, variant) for variant in config.variants]
    results = [json.loads(path.read_text()) for path in paths if path.is_file()]
    output.mkdir(parents=True, exist_ok=True)
    with written_aside(output / "results.json") as aside:
        aside.write_text(json.dumps(results, indent=1))
    with written_aside(output / "table.md") as aside:
        aside.write_text(table(results, config.model.labels))
    return output / "table.md"


def table(results: Sequence[dict[str, Any]], labels: Sequence[str]) -> str:
    """Return the Markdown table; with many labels only their mean."""
    shown = list(labels) if len(labels) <= 4 else []
    head = ["variant", *(name.replace("_", " ") for name in shown), "mean", "95 % interval", "trainable", "all weights"]
    lines = ["| " + " | ".join([*head, "CPU s/step"]) + " |", "|---" * (len(head) + 1) + "|"]
    for result in results:
        cells = [
            result["variant"]["name"],
            *(f"{result['dice'][name]:.3f}" for name in shown),
            f"{result['mean_dice']:.3f}",
            "-".join(f"{end:.3f}" for end in result["interval"] or ()) or "-",
            f"{result['trainable_parameters'] / 1e6:.2f} M",
            f"{result['total_parameters'] / 1e6:.2f} M",
            f"{result['median_cpu_seconds_per_step']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
