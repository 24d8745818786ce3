"""udfa-train fit: train a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the subcommand's parser."""
    parser = commands.add_parser("fit", help="train; any config field can follow as --field value")
    parser.add_argument("--config", type=Path, required=True, help="YAML file with the fields of FitConfig")
    parser.set_defaults(run=run, takes_overrides=True)


def run(options: argparse.Namespace) -> None:
    """Run the subcommand; `options.overrides` holds what followed the known options."""
    from udfa_training.config_file import load_config
    from udfa_training.fit import fit

    print(fit(load_config(options.config, options.overrides)))
