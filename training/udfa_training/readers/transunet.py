"""Synapse as TransUNet and its successors hand it out: slices in train_npz, volumes in test_vol_h5."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from udfa.errors import InvalidInputError
from udfa_training.label_names import SYNAPSE_ORDERS, numbered
from udfa_training.readers.arrays import Arrays, as_volumes, read_arrays, read_slices, slices_first
from udfa_training.readers.btcv import btcv_name
from udfa_training.readers.licences import LICENCES
from udfa_training.readers.source import (
    UNKNOWN_ORIENTATION,
    UNKNOWN_SPACING,
    CaseVolumes,
    Form,
    ReaderOptions,
    SourceCase,
    SourceData,
    gaps,
)

TRAIN, TEST = "train_npz", "test_vol_h5"
WINDOW_HU = (-125.0, 275.0)
"""TransUNet clips to this range and scales it to 0..1 (Beckschen/TransUNet, datasets/README.md)."""


def found_transunet(source: Path) -> bool:
    """Whether the folder has train_npz/ or test_vol_h5/, with an ending such as _new or not."""
    return bool(_slices(source) or _volumes(source))


def read_transunet(source: Path, options: ReaderOptions) -> SourceData:
    """Describe slices caseXXXX_sliceYYY.npz (split train) and volumes caseXXXX.npy.h5 (split test).

    Intensities 0..1 become HU again. Label values are those of `options.label_order`, by default TransUNet's; that the
    liver is the largest organ is checked, because the files do not say their order.
    """
    slices, volumes = _slices(source), _volumes(source)
    problems = [f"case{n:04d} is both in {TRAIN} and in {TEST}." for n in sorted(set(slices) & set(volumes))]
    problems += _doubled_folders(source)
    cases: list[SourceCase] = []
    for number, by_index in sorted(slices.items()):
        missing = gaps([0, *by_index])
        if missing:
            problems.append(f"case{number:04d} lacks slices {missing} in {TRAIN}.")
        paths = [by_index[index] for index in sorted(by_index)]
        cases.append(_case(number, "train", partial(_read_train, paths)))
    cases += [_case(number, "test", partial(_read_test, path)) for number, path in sorted(volumes.items())]
    order = options.label_order or "transunet"
    values = numbered(SYNAPSE_ORDERS[order])
    return SourceData(
        source.name,
        f"synapse (TransUNet, label order {order})",
        values,
        options.licence or LICENCES["synapse"],
        "CT",
        tuple(cases),
        notes=(UNKNOWN_SPACING, UNKNOWN_ORIENTATION, f"Intensities are clipped to {WINDOW_HU} HU."),
        problems=tuple(problems),
        largest="liver",
    )


def _slices(source: Path) -> dict[int, dict[int, Path]]:
    """Return case -> slice -> file."""
    found: dict[int, dict[int, Path]] = {}
    for path in sorted(source.glob(f"{TRAIN}*/*.npz")):
        match = re.fullmatch(r"case(\d+)_slice(\d+)\.npz", path.name)
        if match:
            found.setdefault(int(match[1]), {})[int(match[2])] = path
    return found


def _volumes(source: Path) -> dict[int, Path]:
    matches = ((re.fullmatch(r"case(\d+)(\.npy)?\.h5", p.name), p) for p in sorted(source.glob(f"{TEST}*/*.h5")))
    return {int(match[1]): path for match, path in matches if match}


def _doubled_folders(source: Path) -> list[str]:
    """What is wrong if there are two folders of a kind, such as train_npz and train_npz_new."""
    folders = {start: sorted(p.name for p in source.glob(start + "*") if p.is_dir()) for start in (TRAIN, TEST)}
    return [f"{source} has several folders {names}; keep one." for names in folders.values() if len(names) > 1]


def _case(number: int, split: str, read: partial[CaseVolumes]) -> SourceCase:
    name = btcv_name(number)
    return SourceCase(name, name, split, read, spacing_known=False)


def _read_train(paths: list[Path]) -> CaseVolumes:
    return as_volumes(_in_hu(read_slices(paths), paths[0]))


def _read_test(path: Path) -> CaseVolumes:
    return as_volumes(_in_hu(slices_first(read_arrays(path), path), path))


def _in_hu(arrays: Arrays, path: Path) -> Arrays:
    """Return the arrays with intensities 0..1 scaled back to HU."""
    image = arrays[0].astype(np.float32)
    low, high = float(image.min()), float(image.max())
    if not (low > -1e-3 and high < 1 + 1e-3):
        raise InvalidInputError(f"{path.name}: intensities run from {low:g} to {high:g}; TransUNet's run from 0 to 1.")
    return image * np.float32(WINDOW_HU[1] - WINDOW_HU[0]) + np.float32(WINDOW_HU[0]), arrays[1]


FORMS = (
    Form(
        "synapse",
        f"{TRAIN}/case0005_slice000.npz and {TEST}/case0001.npy.h5, as TransUNet hands them out",
        found_transunet,
        read_transunet,
    ),
)
