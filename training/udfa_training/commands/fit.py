"""udfa-train fit: train a checkpoint."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

FIELDS = """fields that are given most often (all, with meaning and default: udfa_training/fit_config.py):
  --data FOLDER --output FOLDER    what 'udfa-train prepare' wrote; where the run goes
  --init CHECKPOINT                start from a file, or from a bundled model by its name
  --train PART                     everything-but-backbone (default), adapters, decoder or heads
  --size S --batch_size N          side of the crops in pixels, slices per pass: less of both needs less memory
  --steps N --learning_rate RATE --validate_every N
  --accelerator cuda --devices N   graphics cards

examples:
  udfa-train fit --config training/configs/abdomen-ct-mini.yaml --steps 2000 --augment.scale 0.1
  udfa-train fit --init abdomen-ct-mini --data data/mine --output runs/mine --size 256 --batch_size 4 --steps 40
"""

INTERRUPTED = 130
"""Exit code of a program that Ctrl+C stopped, as shells have it."""


def add_to(commands: Any) -> None:
    """Add the subcommand's parser."""
    parser = commands.add_parser(
        "fit",
        help="train; any config field can follow as --field value",
        description="Train a checkpoint, or go on with the run in the output folder. Any field of the configuration\n"
        "can follow as --field value. To fine-tune a checkpoint, --init, --data and --output are enough.",
        epilog=FIELDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, help="YAML file with the fields of FitConfig, or with several tasks")
    parser.set_defaults(run=run, takes_overrides=True)


def run(options: argparse.Namespace) -> None:
    """Run the subcommand; `options.overrides` holds what followed the known options.

    Raises:
        SystemExit: With code 130 after Ctrl+C.
    """
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    from udfa.errors import CancelledError
    from udfa_training.config_file import load_run
    from udfa_training.fit import execute

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("udfa_training").setLevel(logging.INFO if is_first_process() else logging.ERROR)
    try:
        published = execute(load_run(options.config, options.overrides))
    except CancelledError as error:
        if rank_zero_only.rank != 0:
            return
        print(f"udfa-train: {error}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from error
    if rank_zero_only.rank == 0:
        print(*published, sep="\n")


def is_first_process() -> bool:
    """Whether this is the process that reports, before Fabric has set anything up."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
