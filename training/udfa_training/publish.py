"""From a training run to a checkpoint with full provenance."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udfa.checkpoint import CheckpointInfo, Description, read_info, save_checkpoint
from udfa.config import to_dict
from udfa.models import resolve_model
from udfa.networks.udfa import UDFA
from udfa_training.backbone_file import backbone_description, backbone_training
from udfa_training.dataset import MANIFEST, PreparedData
from udfa_training.misfits import learnt_patients
from udfa_training.validation import ValidationReport

if TYPE_CHECKING:
    from udfa_training.fit_config import FitConfig

PRIVATE = frozenset({"model", "data", "output", "init", "backbone_weights", "cache"})
"""Settings that are recorded elsewhere, or name folders of the machine."""

INTENDED_USE = "Research only. Not a medical device; not for diagnosis or treatment."


@dataclass(frozen=True)
class Provenance:
    """Where a set of weights stands in its run."""

    step: int
    report: ValidationReport
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Further entries of the run in the history."""
    further_data: tuple[PreparedData, ...] = ()
    """Other data sets that the same weights were trained on."""


def publish(path: Path, network: UDFA, config: FitConfig, data: PreparedData, provenance: Provenance) -> None:
    """Write a checkpoint with data set, split, settings, history and measured metrics."""
    source = read_info(resolve_model(config.init)) if config.init else None
    history = list(source.training.get("history", [])) if source else []
    settings = {k: v for k, v in to_dict(config).items() if k not in PRIVATE}
    run = {
        "stage": stage_name(config),
        "started_from": "scratch" if config.init is None else "the run before it in this list",
        "step": provenance.step,
        "settings": settings,
        **provenance.notes,
    }
    training: dict[str, Any] = {
        "data_set": _name(data),
        "train": sorted({case.patient for case in data.split("train")}),
        "validation": sorted({case.patient for case in data.split("val")}),
        "history": [*history, run],
    }
    before = set(learnt_patients(earlier_training(config, source))) - set(training["train"])
    if before:
        training["trained_before"] = sorted(before)
    if provenance.further_data:
        training["also_trained_on"] = [_name(other) for other in provenance.further_data]
    if config.model.network.backbone == "mini":
        training["backbone"] = backbone_origin(config, source, _name(data))
    terms = [*inherited_terms(config, source), data.licence, *(other.licence for other in provenance.further_data)]
    description = Description(joined_terms(terms), INTENDED_USE, training, measured(provenance.report), commit())
    save_checkpoint(path, network, config.model, description)


def backbone_origin(config: FitConfig, source: CheckpointInfo | None, data_set: str) -> str:
    """Return how the weights of the `mini` backbone came about."""
    if config.train_backbone:
        return (
            "mini: trained by this project from random weights, supervised by the labels of the same training split; "
            "frozen in the later stages"
        )
    if source is None and config.backbone_weights is not None:
        found = backbone_description(Path(config.backbone_weights))
        names = ", ".join(str(data["name"]) for data in found.get("data", [])) or Path(config.backbone_weights).name
        return f"mini: trained by this project ({found.get('method', 'from a checkpoint')}; data: {names}); frozen here"
    if source is None:
        return "mini: random weights, frozen"
    origin = str(source.training.get("backbone", "mini: as in the checkpoint that this one started from"))
    earlier = source.training.get("data_set", data_set)
    return origin if earlier == data_set or "data set" in origin else f"{origin} (training split of data set {earlier})"


def earlier_training(config: FitConfig, source: CheckpointInfo | None) -> Mapping[str, Any]:
    """Return what is recorded of the training of the weights that a run started from; empty for DINOv2's."""
    if source is not None:
        return source.training
    if config.model.network.backbone != "mini" or config.backbone_weights is None:
        return {}
    return backbone_training(Path(config.backbone_weights))


def inherited_terms(config: FitConfig, source: CheckpointInfo | None) -> list[str]:
    """Return the terms of the weights that a run started from."""
    if source is not None:
        return [source.licence]
    if config.model.network.backbone != "mini" or config.backbone_weights is None:
        return []
    path = Path(config.backbone_weights)
    found = backbone_description(path)
    if not found:
        return [read_info(path).licence]
    return [str(data["licence"]) for data in found.get("data", []) if "licence" in data]


def joined_terms(terms: Iterable[str]) -> str:
    """Return terms as one text, each once, also those that an earlier run has joined."""
    return "; ".join(dict.fromkeys(part for text in terms for part in text.split("; ")))


def _name(data: PreparedData) -> str:
    return str(json.loads((data.folder / MANIFEST).read_text(encoding="utf-8"))["name"])


def measured(report: ValidationReport) -> dict[str, Any]:
    """Return the metrics for the checkpoint: nothing without validation cases, and no entry for what was not there."""
    if not report.cases:
        return {}
    return {
        "protocol": "Dice of whole volumes at native resolution on the validation patients",
        **_rounded({"mean_dice": report.mean_dice}),
        "dice": _rounded(report.dice),
        "cases": {case: _rounded(scores) for case, scores in report.cases.items()},
    }


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(score, 4) for name, score in scores.items() if not math.isnan(score)}


def stage_name(config: FitConfig) -> str:
    """Return what the run trained, in words."""
    if config.stage == "clicks":
        return "prompt encoder"
    if config.train_backbone:
        return "pretrain (backbone and adapters)"
    return {"adapters": "adapters and heads", "decoder": "decoder", "heads": "heads"}.get(
        config.train, "adapters and decoder"
    )


def commit(file: Path = Path(__file__)) -> str:
    """Return the commit of the working tree that tracks a file, marked when it has changes.

    Empty where none does, such as for a package that is installed below the repository of another project.
    """
    try:
        for command in (["ls-files", "--error-unmatch", file.name], ["describe", "--always", "--dirty", "--abbrev=12"]):
            done = subprocess.run(["git", *command], cwd=file.parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
