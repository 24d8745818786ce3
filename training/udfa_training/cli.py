"""Command line of the training package: udfa-train prepare, pretrain, fit, evaluate, ablate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from udfa.errors import UDFAError
from udfa_training.commands import ablate, evaluate, fit, prepare, pretrain

COMMANDS = (prepare, pretrain, fit, evaluate, ablate)
"""Modules of the subcommands, in the order of the help."""

EXAMPLES = """examples:
  udfa-train prepare synapse ../shared/data/btcv data/btcv --validation btcv0010 btcv0027 btcv0037
  udfa-train prepare acdc ../shared/data/acdc data/acdc
  udfa-train prepare nnunet nnUNet_raw/Dataset042_Ward data/ward --folds 5 --fold 0
  udfa-train fit --config training/configs/abdomen-ct-mini-pretrain.yaml
  udfa-train fit --config training/configs/abdomen-ct-mini.yaml --steps 2000 --seed 1
  udfa-train fit --init abdomen-ct-mini --data data/mine --output runs/mine --steps 400
  udfa-train evaluate --checkpoint runs/mine/best.safetensors --against abdomen-ct-mini --data data/mine
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl+C."""
    for stream in (sys.stdout, sys.stderr):
        # A label name that the terminal's encoding lacks must not end the run.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not getattr(options, "takes_overrides", False):
        parser.error(f"unrecognised arguments: {' '.join(rest)}")
    options.overrides = rest
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("udfa-train: stopped.", file=sys.stderr)
        return fit.INTERRUPTED
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
    for module in COMMANDS:
        module.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
