"""Pairs of images and labels, read and split as `udfa-train prepare pairs SOURCE --validation PATIENT ...` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from udfa_training.readers.pairs import read_pairs
from udfa_training.readers.source import ReaderOptions, SourceData
from udfa_training.splits import SplitChoice, split_cases


def find_pairs(source: Path, validation_patients: Sequence[str] = ()) -> SourceData:
    """Describe a folder of pairs with a manifest.json, with these patients held out."""
    return split_cases(read_pairs(source, ReaderOptions()), SplitChoice(validation=tuple(validation_patients)))
