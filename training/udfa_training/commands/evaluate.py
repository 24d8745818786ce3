"""udfa-train evaluate: measure a checkpoint on a prepared data set."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from udfa.errors import InvalidInputError


def add_to(commands: Any) -> None:
    """Add the subcommand's parser."""
    parser = commands.add_parser("evaluate", help="Dice of a checkpoint on a prepared data set")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val", help="split to use (default: val)")
    parser.add_argument("--output", type=Path, help="also write the scores to this JSON file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the subcommand."""
    from udfa.checkpoint import load_checkpoint
    from udfa.volume_io import written_aside
    from udfa_training.dataset import open_prepared
    from udfa_training.validation import validate

    checkpoint = load_checkpoint(options.checkpoint)
    data = open_prepared(options.data)
    cases = data.split(options.split)
    if not cases:
        raise InvalidInputError(f"{options.data} has no case in split '{options.split}'.")
    if data.labels != checkpoint.info.config.labels:
        raise InvalidInputError("The labels of the data and of the checkpoint differ; they cannot be compared.")
    report = validate(checkpoint.network, checkpoint.info.config, cases)
    for name, scores in report.cases.items():
        print(name, " ".join(f"{label}={score:.3f}" for label, score in scores.items()))
    print("mean", " ".join(f"{label}={score:.3f}" for label, score in report.dice.items()))
    print(f"mean over {len(report.dice)} labels: {report.mean_dice:.4f}")
    if options.output is not None:
        record = {"mean_dice": report.mean_dice, **dataclasses.asdict(report)}
        with written_aside(options.output) as aside:
            aside.write_text(json.dumps(record, indent=1))
