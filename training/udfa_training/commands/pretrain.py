"""udfa-train pretrain: train the `mini` backbone on volumes without labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the subcommand's parser."""
    parser = commands.add_parser(
        "pretrain",
        help="train the mini backbone on volumes without labels",
        description="Train the mini backbone on volumes without labels, or go on with the run in the output folder. "
        "Any field of the configuration can follow as --field value, such as --budget.steps 2000 --output runs/mine; "
        "udfa_training/pretrain_config.py documents them.",
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file with the fields of PretrainConfig")
    parser.set_defaults(run=run, takes_overrides=True)


def run(options: argparse.Namespace) -> None:
    """Run the subcommand; `options.overrides` holds what followed the known options."""
    from udfa_training.config_file import load_config
    from udfa_training.pretrain import pretrain
    from udfa_training.pretrain_config import PretrainConfig

    print(pretrain(load_config(options.config, options.overrides, PretrainConfig)))
