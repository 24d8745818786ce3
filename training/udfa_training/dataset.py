"""Prepared data sets (nnU-Net raw layout plus a manifest) and the slices that training draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from udfa.config import PreprocessingConfig
from udfa.errors import InvalidInputError
from udfa.geometry import canonical_orientation, reorient
from udfa.preprocessing import intensity_rule, network_slices, plane_grid
from udfa.volume_io import read_volume
from udfa_training.augment import Augmentation
from udfa_training.manifest import MANIFEST as MANIFEST
from udfa_training.manifest import read_json
from udfa_training.splits import on_two_sides

NO_LABEL = 255
"""Label value of a neighbouring slice that does not exist."""


@dataclass(frozen=True)
class CaseEntry:
    """One case of a prepared data set."""

    name: str
    patient: str
    split: str
    image: Path
    label: Path
    spacing_known: bool = True
    """False: the header's 1 mm is a placeholder, and distances can be given in voxels only."""
    fold: Optional[int] = None
    """Fold of the patient in cross-validation, from 0; None when the data were prepared without folds, or in test."""


@dataclass(frozen=True)
class PreparedData:
    """A prepared data set on disk."""

    folder: Path
    labels: tuple[str, ...]
    """Names of labels 1..K."""
    licence: str
    cases: tuple[CaseEntry, ...]

    def split(self, name: str) -> list[CaseEntry]:
        """Return the cases of a split, such as "train" or "val"."""
        return [case for case in self.cases if case.split == name]


def open_prepared(folder: Path, fold: Optional[int] = None) -> PreparedData:
    """Read the manifest of a prepared data set.

    Args:
        folder: The prepared data set.
        fold: Validate on this fold and train on the others, instead of the split that the manifest records. Cases
            without a fold, such as those for testing, stay where they are.

    Raises:
        InvalidInputError: There is no manifest, files that it names are missing, it has no such fold, or a patient is
            in several splits.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InvalidInputError(f"{folder} is no prepared data set: it has no {MANIFEST}. Run 'udfa-train prepare'.")
    manifest = read_json(path)
    if "cases" not in manifest:
        raise InvalidInputError(f"{path} lists no cases: run 'udfa-train prepare' on {folder} first.")
    cases = tuple(_case_entry(folder, entry) for entry in manifest["cases"])
    missing = [str(p) for case in cases for p in (case.image, case.label) if not p.is_file()]
    if missing:
        raise InvalidInputError(f"{folder}: {len(missing)} files of the manifest are missing: {missing[:5]}.")
    if fold is not None:
        cases = _hold_out(cases, fold, folder)
    problems = on_two_sides((case.patient, case.split) for case in cases)
    if problems:
        raise InvalidInputError(f"{path}: {' '.join(problems)} Run 'udfa-train prepare' again.")
    return PreparedData(folder, tuple(manifest["labels"]), manifest["licence"], cases)


def _case_entry(folder: Path, entry: dict[str, Any]) -> CaseEntry:
    """Return a case of the manifest; manifests of earlier versions know neither spacing_known nor folds."""
    return CaseEntry(
        name=entry["name"],
        patient=entry["patient"],
        split=entry["split"],
        image=folder / entry["image"],
        label=folder / entry["label"],
        spacing_known=entry.get("spacing_known", True),
        fold=entry.get("fold"),
    )


def _hold_out(cases: Sequence[CaseEntry], fold: int, folder: Path) -> tuple[CaseEntry, ...]:
    """Return the cases with fold `fold` for validation and the other folds for training."""
    known = sorted({case.fold for case in cases if case.fold is not None})
    if fold not in known:
        raise InvalidInputError(
            f"{folder} has no fold {fold}; its folds are {known or 'none'}. Run 'udfa-train prepare' with --folds."
        )
    return tuple(
        case if case.fold is None else replace(case, split="val" if case.fold == fold else "train") for case in cases
    )


@dataclass(frozen=True)
class SliceStack:
    """One case on the network's pixel grid: images (D, h, w) float16 and labels (D, h, w) uint8."""

    images: NDArray[np.float16]
    labels: NDArray[np.uint8]


def load_stack(case: CaseEntry, config: PreprocessingConfig, num_classes: int) -> SliceStack:
    """Read a case and bring all its slices to the network's grid, exactly as inference does."""
    volume, label = read_volume(case.image), read_volume(case.label)
    if volume.array.shape != label.array.shape:
        raise InvalidInputError(f"{case.name}: image {volume.array.shape} and label {label.array.shape} differ.")
    orientation = canonical_orientation(volume, config.slice_axis)
    canonical, label_array = reorient(volume, orientation), orientation.apply(label.array)
    grid = plane_grid(canonical.array, canonical.spacing_mm, config)
    rule = intensity_rule(canonical.array, config)
    row, row_end, column, column_end = grid.crop
    images, labels = [], []
    for z in range(canonical.array.shape[0]):
        images.append(network_slices(canonical.array, z, z + 1, grid, rule, in_slices=1)[0, 0].numpy())
        plane = np.ascontiguousarray(label_array[z, row:row_end, column:column_end])
        labels.append(_resize_label(torch.from_numpy(plane.astype(np.int64)), grid.network_shape, num_classes).numpy())
    return SliceStack(np.stack(images).astype(np.float16), np.stack(labels).astype(np.uint8))


def _resize_label(plane: Tensor, shape: tuple[int, int], num_classes: int) -> Tensor:
    """Resample a label plane by the largest bilinear share of each class. (H, W) int -> (h, w) int."""
    if tuple(plane.shape) == shape or not plane.any():
        return plane if tuple(plane.shape) == shape else torch.zeros(shape, dtype=plane.dtype)
    one_hot = F.one_hot(plane, num_classes).movedim(-1, 0)[None].float()
    return F.interpolate(one_hot, size=shape, mode="bilinear", antialias=True)[0].argmax(dim=0)


class SliceDataset(Dataset[tuple[Tensor, Tensor]]):
    """Augmented training slices; item i depends only on (seed, i), so a resumed run draws what it would have drawn.

    Slices are balanced by class: with probability `foreground_share` a label is drawn, rare and frequent labels alike,
    then a slice that contains it; otherwise any slice. The crop is centred near the drawn label.

    Args:
        stacks: Cases on the network's grid.
        num_classes: Classes, background included.
        in_slices: 3 for neighbouring slices as channels, 1 for one slice three times.
        augmentation: Random transform to S x S.
        foreground_share: Share of class-balanced draws.
        seed: Seed of all draws.
        neighbour_labels: Also return the labels of the slice above or below, whichever is drawn.
    """

    def __init__(
        self,
        stacks: Sequence[SliceStack],
        num_classes: int,
        in_slices: int,
        augmentation: Augmentation,
        foreground_share: float,
        seed: int,
        neighbour_labels: bool = False,
    ) -> None:
        self.neighbour_labels = neighbour_labels
        self.stacks = stacks
        self.in_slices = in_slices
        self.augmentation = augmentation
        self.foreground_share = foreground_share
        self.seed = seed
        self.places = [(s, z) for s, stack in enumerate(stacks) for z in range(len(stack.images))]
        self.by_label: dict[int, list[tuple[int, int]]] = {}
        for s, z in self.places:
            for label in np.unique(stacks[s].labels[z]):
                if 0 < label < num_classes:
                    self.by_label.setdefault(int(label), []).append((s, z))
        if not self.places:
            raise InvalidInputError("The training split has no slices.")
        self.present = sorted(self.by_label)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image (3, S, S) float32 and label (1, S, S) int64, or (2, S, S) with those of a neighbouring slice."""
        random = np.random.default_rng((self.seed, index))
        label = 0
        if self.present and random.random() < self.foreground_share:
            label = int(random.choice(self.present))
        places = self.by_label[label] if label else self.places
        s, z = places[random.integers(len(places))]
        stack = self.stacks[s]
        depth, height, width = stack.images.shape
        neighbours = [max(0, z - 1), z, min(depth - 1, z + 1)] if self.in_slices == 3 else [z, z, z]
        image = torch.from_numpy(stack.images[neighbours].astype(np.float32))
        planes = [stack.labels[z]]
        if self.neighbour_labels:
            beside = z + int(random.choice((-1, 1)))
            planes.append(stack.labels[beside] if 0 <= beside < depth else np.full_like(planes[0], NO_LABEL))
        target = torch.from_numpy(np.stack(planes).astype(np.float32))
        centre = (height / 2, width / 2)
        if label:
            rows, columns = np.nonzero(stack.labels[z] == label)
            pick = random.integers(len(rows))
            centre = (float(rows[pick]), float(columns[pick]))
        return self.augmentation(image, target, centre, random)
