"""udfa-train prepare: bring a data set into the canonical form."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udfa_training.readers.source import SourceData

KINDS = ("synapse", "acdc", "nnunet", "sunnybrook", "totalsegmentator", "corrections", "pairs", "mscmr")
SPLITS = ("folders", "none", "transunet", "acdc", "acdc-npz")
LABEL_ORDERS = ("btcv", "transunet", "emcad")

DESCRIPTION = f"""Bring a data set into the canonical form: nnU-Net raw layout plus a manifest.

KIND is {", ".join(KINDS)};
without it, it is found out from the files. The form in which the data come (original archive,
slices, HDF5, ...) is found out always. Broken cases are listed all at once, and then nothing is written."""


def add_to(commands: Any) -> None:
    """Add the subcommand's parser."""
    parser = commands.add_parser(
        "prepare",
        help="bring a data set into the canonical form",
        usage="udfa-train prepare [KIND] SOURCE OUTPUT [options]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "places", nargs="+", action=_Places, metavar="KIND SOURCE OUTPUT", help="kind of data, its folder, new folder"
    )
    split = parser.add_argument_group("who trains, validates, tests (always whole patients)")
    split.add_argument(
        "--split", choices=SPLITS, default="folders", help="a published list (default: as the source has it)"
    )
    split.add_argument("--validation", nargs="+", default=[], metavar="PATIENT", help="patients to hold out")
    split.add_argument("--folds", type=int, default=0, metavar="K", help="record K folds for cross-validation")
    split.add_argument("--fold", type=int, metavar="I", help="validate on fold I (from 0)")
    split.add_argument("--seed", type=int, default=0, help="seed of the folds (default: 0)")
    split.add_argument("--patient-pattern", metavar="REGEX", help="its first group is the patient in a case name")
    labels = parser.add_argument_group("labels")
    labels.add_argument("--labels", default="", metavar="A,B,C", help="keep these, in this order; the rest: background")
    labels.add_argument("--label-order", choices=LABEL_ORDERS, help="synapse arrays: whose values (default: transunet)")
    facts = parser.add_argument_group("other")
    facts.add_argument("--modality", choices=("CT", "MR"), help="default: as the data say")
    facts.add_argument("--licence", help="terms for weights trained on the data (default: as the data say)")
    facts.add_argument("--link", action="store_true", help="hard links instead of copies where possible")
    parser.set_defaults(run=run)


class _Places(argparse.Action):
    """Takes [KIND] SOURCE OUTPUT apart."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        kind, folders = (values[0], values[1:]) if len(values) == 3 else (None, values)
        if len(folders) != 2:
            parser.error(f"expected [KIND] SOURCE OUTPUT; got {len(values)} words: {' '.join(values)}")
        if kind not in (None, *KINDS):
            parser.error(f"unknown kind of data '{kind}'; choose from {', '.join(KINDS)}")
        namespace.kind = kind
        namespace.source, namespace.output = Path(folders[0]), Path(folders[1])


def run(options: argparse.Namespace) -> None:
    """Run the subcommand."""
    from udfa_training.prepare import prepare, select_labels
    from udfa_training.readers import read_source
    from udfa_training.readers.source import ReaderOptions
    from udfa_training.splits import SplitChoice, split_cases

    wanted = tuple(name for name in options.labels.split(",") if name.strip())
    reading = ReaderOptions(options.modality, options.licence, options.label_order, options.patient_pattern, wanted)
    data = select_labels(read_source(options.source, options.kind, reading), wanted)
    choice = SplitChoice(options.split, tuple(options.validation), options.folds, options.fold, options.seed)
    data = split_cases(data, choice)
    print(f"{prepare(data, options.output, options.link)}: {summary(data)}")


def summary(data: SourceData) -> str:
    """Return what was prepared: kind, cases per split, labels, notes."""
    splits = [(split, [case for case in data.cases if case.split == split]) for split in ("train", "val", "test")]
    counts = ", ".join(
        f"{len(cases)} {split} ({len({case.patient for case in cases})} patients)" for split, cases in splits if cases
    )
    lines = [f"{data.kind}, {len(data.cases)} cases: {counts}", f"labels: {', '.join(data.labels)}", *data.notes]
    return "\n".join(lines)
