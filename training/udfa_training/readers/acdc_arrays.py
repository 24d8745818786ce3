"""ACDC as arrays: the h5 files of SSL4MIS, and the npz files that come with MT-UNet, MERIT, EMCAD and others."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from udfa_training.label_names import CARDIAC_LABELS, numbered
from udfa_training.readers.arrays import as_volumes, read_arrays, read_slices, slices_first
from udfa_training.readers.licences import LICENCES
from udfa_training.readers.source import (
    UNKNOWN_ORIENTATION,
    UNKNOWN_SPACING,
    CaseVolumes,
    Fact,
    Form,
    ReaderOptions,
    SourceCase,
    SourceData,
    gaps,
)

H5_NAME = re.compile(r"(?P<patient>patient\d+)_frame(?P<instant>\d+)(_slice_(?P<slice>\d+))?\.h5")
NPZ_NAME = re.compile(r"case_(?P<patient>\d+)_(slice|volume_)(?P<instant>ED|ES)(_(?P<slice>\d+))?\.npz")
SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
"""Folder -> split; files elsewhere are for training."""


@dataclass
class _Found:
    """The files of one case."""

    patient: str
    facts: dict[str, Fact]
    splits: set[str] = field(default_factory=set)
    volumes: list[Path] = field(default_factory=list)
    slices: dict[int, list[Path]] = field(default_factory=dict)


def read_ssl4mis(source: Path, options: ReaderOptions) -> SourceData:
    """Describe patient001_frame01.h5 with image (D, H, W) and label, or else its patient001_frame01_slice_1.h5.

    The files (HiLab-git/SSL4MIS, code/dataloaders/acdc_data_processing.py) number the two labelled frames 01 and 02.
    """
    return _describe(source, options, "h5")


def read_acdc_npz(source: Path, options: ReaderOptions) -> SourceData:
    """Describe case_001_volume_ED.npz with img (D, H, W) and label, or else its case_001_sliceED_0.npz.

    The folders train, valid and test are the split.
    """
    return _describe(source, options, "npz")


def _describe(source: Path, options: ReaderOptions, suffix: str) -> SourceData:
    cases: list[SourceCase] = []
    problems: list[str] = []
    for name, found in sorted(_find(source, suffix).items()):
        problems += _problems(name, found)
        key = "image" if suffix == "h5" else "img"
        if found.volumes:
            read = partial(_read_volume, found.volumes[0], key)
        else:
            read = partial(_read_stack, [found.slices[index][0] for index in sorted(found.slices)], key)
        split = sorted(found.splits)[0]
        cases.append(SourceCase(name, found.patient, split, read, facts=found.facts, spacing_known=False))
    values = numbered(CARDIAC_LABELS)
    return SourceData(
        source.name,
        f"acdc ({'SSL4MIS h5' if suffix == 'h5' else 'npz'})",
        values,
        options.licence or LICENCES["acdc"],
        "MR",
        tuple(cases),
        notes=(UNKNOWN_SPACING, UNKNOWN_ORIENTATION),
        problems=tuple(problems),
    )


def _find(source: Path, suffix: str) -> dict[str, _Found]:
    """Return the files by case, wherever they lie."""
    cases: dict[str, _Found] = {}
    for path in sorted(source.rglob(f"*.{suffix}")):
        match = (H5_NAME if suffix == "h5" else NPZ_NAME).fullmatch(path.name)
        if match is None:
            continue
        patient, instant = match["patient"], match["instant"]
        if suffix == "h5":
            name, facts = f"{patient}_frame{instant}", dict[str, Fact](frame=int(instant))
        else:
            patient = f"patient{int(patient):03d}"
            name, facts = f"{patient}_{instant}", dict[str, Fact](phase=instant)
        case = cases.setdefault(name, _Found(patient, facts))
        case.splits.add(SPLITS.get(path.parent.name, "train"))
        if match["slice"] is None:
            case.volumes.append(path)
        else:
            case.slices.setdefault(int(match["slice"]), []).append(path)
    return cases


def _problems(name: str, found: _Found) -> list[str]:
    """What is wrong with the files of a case."""
    problems = []
    files = found.volumes if found.volumes else max(found.slices.values(), key=len)
    if len(files) > 1:
        problems.append(f"{name} is there {len(files)} times: {[str(path) for path in files]}.")
    if len(found.splits) > 1:
        problems.append(f"{name} is in several splits: {sorted(found.splits)}.")
    if not found.volumes and gaps(list(found.slices)):
        problems.append(f"{name} lacks slices {gaps(list(found.slices))}.")
    return problems


def _read_volume(path: Path, key: str) -> CaseVolumes:
    return as_volumes(slices_first(read_arrays(path, key), path))


def _read_stack(paths: list[Path], key: str) -> CaseVolumes:
    return as_volumes(read_slices(paths, key))


def _has(source: Path, suffix: str) -> bool:
    pattern = H5_NAME if suffix == "h5" else NPZ_NAME
    return any(pattern.fullmatch(path.name) for path in source.rglob(f"*.{suffix}"))


FORMS = (
    Form("acdc", "patient001_frame01.h5 or its slices, as in SSL4MIS", lambda source: _has(source, "h5"), read_ssl4mis),
    Form(
        "acdc",
        "case_001_volume_ED.npz and case_001_sliceED_0.npz in train/, valid/, test/",
        lambda source: _has(source, "npz"),
        read_acdc_npz,
    ),
)
