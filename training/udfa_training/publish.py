"""From a training run to a checkpoint with full provenance."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udfa.checkpoint import Description, read_info, save_checkpoint
from udfa.config import to_dict
from udfa.networks.udfa import UDFA
from udfa_training.dataset import MANIFEST, PreparedData
from udfa_training.validation import ValidationReport

if TYPE_CHECKING:
    from udfa_training.fit_config import FitConfig

INTENDED_USE = "Research only. Not a medical device; not for diagnosis or treatment."


@dataclass(frozen=True)
class Provenance:
    """Where a set of weights stands in its run."""

    step: int
    report: ValidationReport


def publish(path: Path, network: UDFA, config: FitConfig, data: PreparedData, provenance: Provenance) -> None:
    """Write a checkpoint with data set, split, settings, history and measured metrics."""
    manifest = json.loads((data.folder / MANIFEST).read_text())
    history = list(read_info(Path(config.init)).training.get("history", [])) if config.init else []
    settings = {k: v for k, v in to_dict(config).items() if k not in ("model", "data", "output", "init")}
    run = {
        "stage": stage_name(config),
        "started_from": "scratch" if config.init is None else "the run before it in this list",
        "step": provenance.step,
        "settings": settings,
    }
    training = {
        "data_set": manifest["name"],
        "train": sorted({case.patient for case in data.split("train")}),
        "validation": sorted({case.patient for case in data.split("val")}),
        "history": [*history, run],
    }
    if config.model.network.backbone == "mini":
        training["backbone"] = (
            "mini: trained by this project from random weights, supervised by the labels of the same training split; "
            "frozen in the later stages"
        )
    description = Description(data.licence, INTENDED_USE, training, measured(provenance.report), commit())
    save_checkpoint(path, network, config.model, description)


def measured(report: ValidationReport) -> dict[str, Any]:
    """Return the metrics for the checkpoint: nothing without validation cases, and no entry for what was not there."""
    if not report.cases:
        return {}
    return {
        "protocol": "Dice of whole volumes at native resolution on the validation patients",
        "mean_dice": round(report.mean_dice, 4),
        "dice": _rounded(report.dice),
        "cases": {case: _rounded(scores) for case, scores in report.cases.items()},
    }


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(score, 4) for name, score in scores.items() if not math.isnan(score)}


def stage_name(config: FitConfig) -> str:
    """Return what the run trained, in words."""
    if config.stage == "clicks":
        return "prompt encoder"
    return "pretrain (backbone and adapters)" if config.train_backbone else "adapters and decoder"


def commit() -> str:
    """Return the commit of this working tree, marked when it has changes; empty outside a repository."""
    folder = Path(__file__).parent
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
