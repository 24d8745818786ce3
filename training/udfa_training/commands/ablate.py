"""udfa-train ablate: does each part of the design help?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the subcommand's parser."""
    parser = commands.add_parser(
        "ablate",
        help="train variants with one budget and compare them in a table",
        description="Train variants of the network with one budget and compare them in a table; variants that are "
        "done are not repeated. Any field of the configuration can follow as --field value, such as --budget.steps "
        "500; udfa_training/ablation_config.py documents them.",
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file with the fields of AblationConfig")
    parser.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="run these variants only")
    parser.set_defaults(run=run, takes_overrides=True)


def run(options: argparse.Namespace) -> None:
    """Run the subcommand; `options.overrides` holds what followed the known options."""
    from udfa_training.ablation import ablate
    from udfa_training.ablation_config import AblationConfig
    from udfa_training.config_file import load_config

    path = ablate(load_config(options.config, options.overrides, AblationConfig), options.only)
    print(path.read_text(), end="")
