"""udfa-train evaluate: measure segmentations on a prepared data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udfa.errors import InvalidInputError

if TYPE_CHECKING:
    from udfa_training.dataset import CaseEntry, PreparedData
    from udfa_training.evaluation.label_matching import LabelTable
    from udfa_training.evaluation.record import Evaluation
    from udfa_training.evaluation.run import Rules, SourceResult
    from udfa_training.evaluation.sources import PredictionSource

PROTOCOL_NAMES = ("standard", "transunet")

DEFAULTS = {"split": "val", "protocol": "standard", "tolerance": 2.0, "seed": 0, "device": "auto"}

OPTION_NAMES = (
    "checkpoint",
    "predictions",
    "data",
    "against",
    "fold",
    "cases",
    "labels",
    "unknown_spacing",
    "backbone_weights",
    "output",
)
"""Options without a default, as the parsed namespace names them, in the order of the recorded command."""

FIT_NAMES = ("model", "best")
"""Checkpoints of every run are called so."""


def add_to(commands: Any) -> None:
    """Add the subcommand's parser."""
    parser = commands.add_parser(
        "evaluate", help="Dice, HD95, NSD and volumes of a checkpoint, or of any labelmaps, on a prepared data set"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", help="checkpoint to measure: a file, or the name of a bundled one")
    what.add_argument("--predictions", type=Path, metavar="FOLDER", help="or labelmaps <case>.nii.gz of any method")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="prepared data set")
    add("--against", metavar="B", help="second checkpoint, or folder of labelmaps, to compare with")
    add("--split", help="split to use, or all (default: val)")
    add("--fold", type=int, metavar="I", help="take fold I of the cross-validation as split val")
    add("--cases", type=int, metavar="N", help="only the first N cases of the split")
    add("--labels", nargs="+", metavar="A,B", help="only these labels")
    add("--protocol", choices=PROTOCOL_NAMES, help="rules of the measurement (default: standard)")
    add("--tolerance", type=float, help="tolerance of NSD in mm, in voxels if the spacing is unknown (default: 2)")
    add("--unknown-spacing", action="store_true", help="the spacing in the headers means nothing: measure in voxels")
    add("--seed", type=int, help="seed of the bootstrap (default: 0)")
    add("--device", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--backbone-weights", type=Path, metavar="FILE", help="local file with the DINOv2 weights")
    add("--output", type=Path, help="new folder for JSON, CSV, tables and pictures; or a .json file for JSON alone")
    parser.set_defaults(run=run, **DEFAULTS)


def run(options: argparse.Namespace) -> None:
    """Run the subcommand."""
    from udfa_training.dataset import open_prepared
    from udfa_training.evaluation.label_matching import match_labels
    from udfa_training.evaluation.outputs import check_output, write_outputs
    from udfa_training.evaluation.protocols import PROTOCOLS
    from udfa_training.evaluation.record import Evaluation
    from udfa_training.evaluation.run import Rules, spacing_is_known
    from udfa_training.evaluation.statistics import Bootstrap

    if options.output is not None:
        check_output(options.output)
    if not options.tolerance >= 0:
        raise InvalidInputError(f"--tolerance is {options.tolerance}, but must be at least 0.")
    if options.seed < 0:
        raise InvalidInputError(f"--seed is {options.seed}, but must be at least 0.")
    data = open_prepared(options.data, options.fold)
    cases = chosen_cases(data, options)
    sources = opened(options, data, cases)
    protocol = PROTOCOLS[options.protocol]
    labels = match_labels(data.labels, sources, wanted_labels(options.labels), protocol.preferred_labels)
    rules = Rules(protocol, options.tolerance, spacing_is_known(cases) and not options.unknown_spacing)
    results = [measured(source, cases, labels, rules) for source in sources]
    bootstrap = Bootstrap(seed=options.seed)
    evaluation = Evaluation(data, options.split, labels, rules, bootstrap, results, command_line(options))
    tell(evaluation)
    if options.output is not None:
        write_outputs(options.output, evaluation)
        print(f"Written: {options.output}")


def chosen_cases(data: PreparedData, options: argparse.Namespace) -> list[CaseEntry]:
    """Return the cases of the split, the first N if the user gave a number.

    Raises:
        InvalidInputError: There are none, or the number is not positive.
    """
    if options.cases is not None and options.cases < 1:
        raise InvalidInputError(f"--cases is {options.cases}, but must be at least 1.")
    cases = list(data.cases) if options.split == "all" else data.split(options.split)
    if not cases:
        known = ", ".join(sorted({case.split for case in data.cases})) or "none"
        raise InvalidInputError(
            f"{data.folder} has no case in split '{options.split}'. Splits: {known}. Choose one with --split, or all."
        )
    return cases[: options.cases]


def wanted_labels(words: Sequence[str] | None) -> list[str] | None:
    """Return the names that the user gave, separated by commas or spaces; None without any."""
    if words is None:
        return None
    return [name for word in words for name in word.split(",") if name]


def located(options: argparse.Namespace) -> list[Path]:
    """Return the files or folders of the one or two sources.

    Raises:
        UDFAError: One of them does not exist.
    """
    from udfa.models import resolve_model

    if options.predictions is not None and not options.predictions.is_dir():
        raise InvalidInputError(f"{options.predictions} is no folder. Give the folder with the labelmaps.")
    paths = [options.predictions or resolve_model(options.checkpoint)]
    if options.against is not None:
        second = Path(options.against)
        paths.append(second if second.is_dir() else resolve_model(options.against))
    return paths


def opened(options: argparse.Namespace, data: PreparedData, cases: Sequence[CaseEntry]) -> list[PredictionSource]:
    """Return the one or two sources of predictions, with names that differ."""
    from udfa_training.evaluation.sources import CheckpointSource, FolderSource

    paths = located(options)
    sources: list[PredictionSource] = [
        FolderSource(path, data.labels, cases)
        if path.is_dir()
        else CheckpointSource(path, options.device, options.backbone_weights)
        for path in paths
    ]
    name_apart(sources, paths)
    return sources


def name_apart(sources: Sequence[PredictionSource], paths: Sequence[Path]) -> None:
    """Put the folder before names that say too little: those that `fit` gives to its files, and equal ones."""
    equal = len({source.name for source in sources}) < len(sources)
    for source, path in zip(sources, paths):
        if equal or source.name in FIT_NAMES:
            source.name = f"{path.resolve().parent.name}/{source.name}"


def measured(source: PredictionSource, cases: Sequence[CaseEntry], labels: LabelTable, rules: Rules) -> SourceResult:
    """Measure a source with a progress bar, and print a line per case."""
    from tqdm import tqdm

    from udfa_training.evaluation.run import CaseResult, evaluate
    from udfa_training.evaluation.tables import case_line

    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total:.0f} cases, {remaining} left"
    with tqdm(total=len(cases), desc=source.name, bar_format=form, disable=None, file=sys.stderr) as bar:

        def progress(done: float) -> None:
            bar.update(done - bar.n)

        def finished(case: CaseResult) -> None:
            tqdm.write(case_line(case), file=sys.stdout)

        return evaluate(source, cases, labels, rules, progress, finished)


def tell(evaluation: Evaluation) -> None:
    """Print tables and notes."""
    from udfa_training.evaluation.tables import report

    print(report(evaluation))
    mean = evaluation.summary("dice").overall.mean
    print(f"Dice of {evaluation.results[0].source.name}, mean over {len(evaluation.labels.names)} labels: {mean:.4f}")


def command_line(options: argparse.Namespace) -> list[str]:
    """Return the command line that the options stand for; defaults are left out."""
    words = ["udfa-train", "evaluate"]
    for name in (*OPTION_NAMES, *DEFAULTS):
        value, default = getattr(options, name), DEFAULTS.get(name)
        if value is None or value is False or value == default:
            continue
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words += [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return words
