"""Bring data sets into the canonical form: nnU-Net raw layout plus a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from udfa.errors import InvalidInputError
from udfa.volume_io import write_array
from udfa_training.label_names import select_names
from udfa_training.manifest import MANIFEST
from udfa_training.readers.source import CaseVolumes, SourceCase, SourceData, same_place

INTEGER_TOLERANCE = 1e-2
"""Intensities that are all this near to whole numbers were whole numbers before they were scaled."""

MOST_LABELS = 255
"""Labelmaps are written with 8 bit."""


def select_labels(data: SourceData, names: Sequence[str]) -> SourceData:
    """Return the data with these labels in this order; the others become background.

    Raises:
        InvalidInputError: The data do not have all of them.
    """
    return replace(data, labels=select_names(data.labels, names)) if names else data


def prepare(data: SourceData, output: Path, link: bool = False) -> Path:
    """Check and write all cases; nothing is left behind when something is wrong.

    Layout: imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz, dataset.json (nnU-Net), manifest.json (ours). Cases for
    testing are in imagesTs and labelsTs, so that nnU-Net does not train on them. Files that need no conversion are
    taken over byte for byte.

    Args:
        data: The source.
        output: New folder.
        link: Take files over as hard links where the file system allows it, instead of copies.

    Raises:
        InvalidInputError: The output exists, or cases are broken; all of them are listed.
    """
    if output.exists():
        raise InvalidInputError(f"{output} exists already. Remove it, or give another folder.")
    if len(data.labels) > MOST_LABELS:
        raise InvalidInputError(f"{data.name} has {len(data.labels)} labels; at most {MOST_LABELS} can be stored.")
    aside = output.with_name(f".{output.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        rows = _write_cases(data, aside, link)
        _write_descriptions(data, rows, aside)
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return output


def _write_cases(data: SourceData, folder: Path, link: bool) -> list[dict[str, Any]]:
    """Write the cases and return their rows of the manifest; after the first problem, only look for more."""
    rows: list[dict[str, Any]] = []
    problems = [*data.problems, *_repeated(data)]
    seen: dict[bytes, SourceCase] = {}
    parts = {"Tr", *(_part(case) for case in data.cases)}
    for name in (kind + part for kind in ("images", "labels") for part in parts):
        (folder / name).mkdir(parents=True)
    for case in tqdm(data.cases, desc=f"preparing {data.name}", unit="case", disable=None):
        try:
            checked = _check_case(case, data)
            problems += _seen_elsewhere(case, seen.setdefault(_content(checked.volumes.image.array), case))
            if not problems:
                rows.append(_write_case(case, checked, data.labels, folder, link))
        except InvalidInputError as error:
            problems.append(f"{case.name}: {error}")
    if not problems and data.cases:
        problems += _doubtful_order(data, rows)
    if problems or not data.cases:
        problems = problems or [f"{data.name} has no cases."]
        raise InvalidInputError("\n".join([f"{len(problems)} problems, nothing was written:", *problems]))
    return rows


def _part(case: SourceCase) -> str:
    """Ending of the folders that a case belongs to."""
    return "Ts" if case.split == "test" else "Tr"


def _repeated(data: SourceData) -> list[str]:
    counts = Counter(case.name for case in data.cases)
    return [f"{name}: there are {count} cases of this name." for name, count in sorted(counts.items()) if count > 1]


def _content(array: NDArray[np.generic]) -> bytes:
    """Digest of the voxels, which tells one image in two files."""
    digest = hashlib.sha256(str((array.shape, array.dtype)).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _seen_elsewhere(case: SourceCase, first: SourceCase) -> list[str]:
    """Return a problem if a case's image is that of a patient on another side of the split."""
    if case.patient == first.patient or (case.split, case.fold) == (first.split, first.fold):
        return []
    return [
        f"{case.name}: the image is that of {first.name}, but patient {case.patient} is in {_side(case)} and "
        f"{first.patient} in {_side(first)}. Leave one of them out, or give both the same patient."
    ]


def _side(case: SourceCase) -> str:
    return case.split if case.fold is None else f"{case.split} (fold {case.fold})"


def _doubtful_order(data: SourceData, rows: list[dict[str, Any]]) -> list[str]:
    """Return a problem if another label has more voxels than the one that must have the most."""
    if data.largest is None or data.largest not in data.labels:
        return []
    totals = {name: sum(row["voxels"][name] for row in rows) for name in data.labels}
    most = max(totals, key=lambda name: totals[name])
    if totals[most] == totals[data.largest]:
        return []
    return [
        f"By the assumed label order, {most} has {totals[most]} voxels and {data.largest} {totals[data.largest]}: the "
        f"values must have another order. Give it with --label-order."
    ]


@dataclass(frozen=True)
class _Checked:
    """A case that fits."""

    volumes: CaseVolumes
    label: NDArray[np.uint8]
    """Labels 0..K of the result."""
    label_kept: bool
    """Whether the label file's values are those of the result already."""


def _check_case(case: SourceCase, data: SourceData) -> _Checked:
    """Read a case; InvalidInputError if image and label do not fit together, or the values are not as described."""
    volumes = case.read()
    image, label = volumes.image, volumes.label
    if image.array.shape != label.array.shape:
        raise InvalidInputError(f"image has shape {image.array.shape}, label {label.array.shape}.")
    if not same_place(image, label):
        raise InvalidInputError("image and label lie at different places (spacing, origin or direction differ).")
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise InvalidInputError("the image has voxels that are infinite or no numbers. Replace them.")
    present = _present(label.array)
    table = _renumbering(present, data)
    integers = label.array.dtype.kind in "iu"
    kept = integers and all(table[int(value)] == value for value in present)
    return _Checked(volumes, table[label.array if integers else label.array.astype(np.int64)], kept)


def _present(label: NDArray[np.generic]) -> Sequence[float]:
    """Return the values in a labelmap; as np.unique, but without sorting the voxels of integer types."""
    if label.dtype.kind in "iu" and label.size and label.min() >= 0 and label.max() < 2**16:
        return np.flatnonzero(np.bincount(label.ravel())).tolist()
    return np.unique(label).tolist()


def _renumbering(present: Sequence[float], data: SourceData) -> NDArray[np.uint8]:
    """Return the table from value on disk to label of the result, for the values that are present.

    Raises:
        InvalidInputError: Values have no name.
    """
    unknown = [value for value in present if value != 0 and value not in data.values and value not in data.ignored]
    if unknown:
        shown = [int(value) if value == int(value) else value for value in unknown[:10]]
        known = ", ".join(f"{value} {name}" for value, name in sorted(data.values.items()))
        hint = " Files with BTCV's 13 labels need --label-order btcv." if data.largest is not None else ""
        raise InvalidInputError(f"label values {shown} have no name. Known: 0 background, {known}.{hint}")
    number = {name: index for index, name in enumerate(data.labels, start=1)}
    table = np.zeros(int(max(present, default=0)) + 1, dtype=np.uint8)
    for value in present:
        table[int(value)] = number.get(data.values.get(int(value), ""), 0)
    return table


def _write_case(case: SourceCase, checked: _Checked, labels: Sequence[str], folder: Path, link: bool) -> dict[str, Any]:
    """Write image and label, and return what the manifest says of the case."""
    image = folder / f"images{_part(case)}" / f"{case.name}_0000.nii.gz"
    label = folder / f"labels{_part(case)}" / f"{case.name}.nii.gz"
    if case.image_file is not None:
        _take_over(case.image_file, image, link)
    else:
        write_array(image, fitting_type(checked.volumes.image.array), checked.volumes.image)
    if case.label_file is not None and checked.label_kept:
        _take_over(case.label_file, label, link)
    else:
        write_array(label, checked.label, checked.volumes.image)
    volume = checked.volumes.image
    counts = np.bincount(checked.label.ravel(), minlength=len(labels) + 1)
    return {
        "name": case.name,
        "patient": case.patient,
        "split": case.split,
        "image": image.relative_to(folder).as_posix(),
        "label": label.relative_to(folder).as_posix(),
        "shape": list(volume.array.shape),
        "spacing_mm": list(volume.spacing_mm) if case.spacing_known else None,
        "spacing_known": case.spacing_known,
        "image_sha256": _sha256(image),
        "label_sha256": _sha256(label),
        **({"fold": case.fold} if case.fold is not None else {}),
        **({"facts": dict(case.facts)} if case.facts else {}),
        "voxels": dict(zip(labels, counts[1:].tolist())),
    }


def fitting_type(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return intensities as int16 if they are (nearly) whole numbers in its range, else as float32.

    Fractions within one step, such as 0..1 scaled images, always stay fractions.
    """
    values = array.astype(np.float32)
    whole = np.rint(values)
    limits = np.iinfo(np.int16)
    fits = limits.min <= whole.min() and whole.max() <= limits.max
    if fits and np.abs(values - whole).max() <= INTEGER_TOLERANCE and (array.dtype.kind != "f" or np.ptp(whole) > 1):
        return whole.astype(np.int16)
    return values


def _take_over(source: Path, target: Path, link: bool) -> None:
    if link:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # Another file system, or one without links.
    shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_descriptions(data: SourceData, rows: list[dict[str, Any]], folder: Path) -> None:
    """Write dataset.json and manifest.json."""
    nnunet = {
        "channel_names": {"0": data.modality},
        "labels": {"background": 0} | {name: value for value, name in enumerate(data.labels, start=1)},
        "numTraining": sum(row["split"] != "test" for row in rows),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(nnunet, indent=1))
    manifest = {
        "name": data.name,
        "kind": data.kind,
        "modality": data.modality,
        "licence": data.licence,
        "notes": list(data.notes),
        "split": dict(data.split),
        "labels": list(data.labels),
        "cases": rows,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
