"""Sunnybrook Cardiac Data as PNG slices with masks of the left ventricle's cavity."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
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
    plain_volume,
)

NAME = re.compile(r"(?P<patient>SC-.+)-IM-(?P<series>\d+)-(?P<number>\d+)\.dcm\.png")
PHASES_PER_SLICE = 20
"""The cine series number their images phase by phase within a slice: 1 to 20 are the phases of the first slice."""


def read_sunnybrook(source: Path, options: ReaderOptions) -> SourceData:
    """Describe Images/**/*.png with masks of the same names in Labels/: a volume per patient and phase.

    Volumes have the slices that have a mask, in the order of their numbers; the manifest says which phase it is and
    which slices.
    """
    root = _root(source)
    images, masks = _files(root / "Images"), _files(root / "Labels")
    problems = [f"{images[key]} has no mask of the same name." for key in sorted(set(images) - set(masks))]
    problems += [f"{masks[key]} has no image of the same name." for key in sorted(set(masks) - set(images))]
    volumes: dict[tuple[str, str, int], dict[int, str]] = {}
    for key in sorted(set(images) & set(masks)):
        match = NAME.fullmatch(images[key].name)
        if match is None:
            problems.append(f"{images[key]} is not named like SC-HF-I-01-IM-0001-0048.dcm.png.")
            continue
        index, phase = divmod(int(match["number"]) - 1, PHASES_PER_SLICE)
        volumes.setdefault((match["patient"], match["series"], phase + 1), {})[index + 1] = key
    cases: list[SourceCase] = []
    for (patient, series, phase), slices in sorted(volumes.items()):
        name = f"{patient}_{series}_phase{phase:02d}"
        if gaps(list(slices)):
            problems.append(f"{name} lacks slices {gaps(list(slices))} between others.")
        keys = [slices[index] for index in sorted(slices)]
        read = partial(_read, [images[key] for key in keys], [masks[key] for key in keys])
        facts = {"phase_number": phase, "first_slice": min(slices), "last_slice": max(slices)}
        cases.append(SourceCase(name, patient, "train", read, facts=facts, spacing_known=False))
    values = {255: "left_ventricle"}
    return SourceData(
        source.name,
        "sunnybrook (PNG)",
        values,
        options.licence or LICENCES["sunnybrook"],
        "MR",
        tuple(cases),
        notes=(UNKNOWN_SPACING, UNKNOWN_ORIENTATION),
        problems=tuple(problems),
    )


def _root(source: Path) -> Path:
    """Return the folder with Images/ and Labels/: the source itself or its train/."""
    return source / "train" if (source / "train" / "Images").is_dir() else source


def _files(folder: Path) -> dict[str, Path]:
    """Return path relative to the folder -> PNG file."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.png"))}


def _read(images: list[Path], masks: list[Path]) -> CaseVolumes:
    volumes = []
    for paths in (images, masks):
        planes = [_read_png(path) for path in paths]
        shapes = {plane.shape for plane in planes}
        if len(shapes) > 1:
            raise InvalidInputError(f"{paths[0].name} and the other slices have different shapes: {sorted(shapes)}.")
        volumes.append(plain_volume(np.stack(planes)))
    return CaseVolumes(*volumes)


def _read_png(path: Path) -> NDArray[np.uint8]:
    """Return a grey picture (H, W); colour pictures must have three equal channels."""
    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise InvalidInputError(f"{path} cannot be read as a picture; copy it again.") from error
    if array.ndim == 3:
        if not (array == array[..., :1]).all():
            raise InvalidInputError(f"{path} has colours; a grey picture was expected.")
        array = array[..., 0]
    return np.asarray(array, dtype=np.uint8)


FORMS = (
    Form(
        "sunnybrook",
        "Images/ and Labels/ with PNG slices such as SC-HF-I-01-IM-0001-0048.dcm.png, in it or in train/",
        lambda source: (_root(source) / "Images").is_dir() and (_root(source) / "Labels").is_dir(),
        read_sunnybrook,
    ),
)
