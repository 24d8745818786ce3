"""Command line of the training package: udfa-train prepare, fit, evaluate."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from udfa.errors import InvalidInputError, UDFAError

EXAMPLES = """examples:
  udfa-train prepare ../shared/data/btcv data/btcv --validation btcv0010 btcv0027 btcv0037
  udfa-train prepare ../shared/data/acdc data/acdc --modality MR
  udfa-train fit --config training/configs/abdomen-ct-mini-pretrain.yaml
  udfa-train fit --config training/configs/abdomen-ct-mini.yaml --steps 2000 --seed 1
  udfa-train evaluate --checkpoint runs/abdomen/model.safetensors --data data/btcv --split val
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "fit":
        parser.error(f"unrecognised arguments: {' '.join(rest)}")
    try:
        if options.command == "prepare":
            _prepare(options)
        elif options.command == "fit":
            _fit(options, rest)
        else:
            _evaluate(options)
    except (UDFAError, OSError) as error:
        print(f"udfa-train: {error}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    parser = argparse.ArgumentParser(
        prog="udfa-train",
        description="Prepare data, train U-DFA checkpoints, evaluate them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="bring a folder of image/label pairs into the canonical form")
    prepare.add_argument("source", type=Path, help="folder with *_image.nii.gz, *_label.nii.gz and manifest.json")
    prepare.add_argument("output", type=Path, help="new folder in nnU-Net raw layout with a manifest")
    prepare.add_argument("--validation", nargs="+", default=[], metavar="PATIENT", help="patients to hold out")
    prepare.add_argument("--modality", choices=("CT", "MR"), default="CT")
    prepare.add_argument("--licence", help="terms for weights trained on the data (default: the manifest's words)")
    fit = commands.add_parser("fit", help="train; any config field can follow as --field value")
    fit.add_argument("--config", type=Path, required=True, help="YAML file with the fields of FitConfig")
    evaluate = commands.add_parser("evaluate", help="Dice of a checkpoint on a prepared data set")
    evaluate.add_argument("--checkpoint", type=Path, required=True)
    evaluate.add_argument("--data", type=Path, required=True)
    evaluate.add_argument("--split", default="val", help="split to use (default: val)")
    evaluate.add_argument("--output", type=Path, help="also write the scores to this JSON file")
    return parser


def _prepare(options: argparse.Namespace) -> None:
    from udfa_training.prepare import find_pairs, prepare

    data = find_pairs(options.source, options.validation, options.modality, options.licence)
    held_out = sum(case.split == "val" for case in data.cases)
    print(f"{prepare(data, options.output)}: {len(data.cases)} cases, {held_out} of them for validation")


def _fit(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    from udfa_training.fit import fit

    print(fit(load_config(options.config, overrides)))


def load_config(path: Path, overrides: Sequence[str] = ()) -> Any:
    """Read a YAML file of FitConfig fields and apply overrides like ["--steps", "200", "--augment.scale", "0.1"].

    Raises:
        InvalidInputError: Unreadable file, unknown field, wrong type, or an override without a value.
    """
    import yaml

    from udfa.config import from_dict
    from udfa_training.fit_config import FitConfig

    if not path.is_file():
        raise InvalidInputError(f"{path} does not exist. Examples are in training/configs.")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is no valid YAML file: {error}.") from error
    if len(overrides) % 2 or any(not name.startswith("--") for name in overrides[::2]):
        raise InvalidInputError(f"Give overrides as --field value, got: {' '.join(overrides)}.")
    for name, value in zip(overrides[::2], overrides[1::2]):
        *parents, last = name[2:].replace("-", "_").split(".")
        target = fields
        for parent in parents:
            target = target.setdefault(parent, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            raise InvalidInputError(f"{name} cannot be set: {'.'.join(parents)} is a single value.")
        target[last] = _override_value(value)
    return from_dict(FitConfig, fields, str(path))


def _override_value(text: str) -> Any:
    """Read an override as JSON or else as YAML, whose numbers such as 1e-3 would be text."""
    import yaml

    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def _evaluate(options: argparse.Namespace) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
