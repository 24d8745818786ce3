"""udfa-train prepare: bring a data set into the canonical form."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the subcommand's parser."""
    parser = commands.add_parser("prepare", help="bring a folder of image/label pairs into the canonical form")
    parser.add_argument("source", type=Path, help="folder with *_image.nii.gz, *_label.nii.gz and manifest.json")
    parser.add_argument("output", type=Path, help="new folder in nnU-Net raw layout with a manifest")
    parser.add_argument("--validation", nargs="+", default=[], metavar="PATIENT", help="patients to hold out")
    parser.add_argument("--modality", choices=("CT", "MR"), default="CT")
    parser.add_argument("--licence", help="terms for weights trained on the data (default: the manifest's words)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the subcommand."""
    from udfa_training.prepare import find_pairs, prepare

    data = find_pairs(options.source, options.validation, options.modality, options.licence)
    held_out = sum(case.split == "val" for case in data.cases)
    print(f"{prepare(data, options.output)}: {len(data.cases)} cases, {held_out} of them for validation")
