"""Where predictions come from: a network, a checkpoint file, or a folder of labelmaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from udfa.checkpoint import load_checkpoint
from udfa.config import ModelConfig
from udfa.devices import ExecutionPlan, make_plan
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.inference import Progress, Segmenter
from udfa.models import file_sha256
from udfa.networks.udfa import UDFA
from udfa.volume_io import read_volume
from udfa_training.dataset import CaseEntry
from udfa_training.label_names import canonical_name
from udfa_training.manifest import read_json
from udfa_training.misfits import learnt_patients

GRID_TOLERANCES = {"spacing_mm": 1e-2, "origin_mm": 1e-2, "direction": 1e-3}
"""Largest differences that rounding in headers explains."""

NNUNET_DESCRIPTION = "dataset.json"
"""File by which nnU-Net names the labels of its predictions."""

ShareDone = Callable[[float], None]


class PredictionSource(Protocol):
    """Gives the labelmaps that are measured."""

    name: str
    """Short name for tables."""
    values: Mapping[str, int]
    """Label name to value in the labelmaps."""
    slice_axis: str
    """Rule for the slices that pictures show: axial or acquisition."""

    def predict(self, case: CaseEntry, image: Volume, progress: Optional[ShareDone] = None) -> NDArray[np.generic]:
        """Return the labelmap (D, H, W) of a case on its image's grid; `progress` gets shares of 0 to 1."""

    def facts(self) -> dict[str, Any]:
        """Return what is recorded about the source, in JSON types."""


class NetworkSource:
    """Predictions of a network by the product's own inference.

    Args:
        network: Set to eval mode.
        config: Its configuration.
        plan: Where to run; None chooses.
        name: Name for tables.
    """

    def __init__(
        self, network: UDFA, config: ModelConfig, plan: Optional[ExecutionPlan] = None, name: str = "network"
    ) -> None:
        network.eval()
        self.name = name
        self.values: Mapping[str, int] = {label: value for value, label in enumerate(config.labels, start=1)}
        self.slice_axis: str = config.preprocessing.slice_axis
        self._segmenter = Segmenter(network, config, plan or make_plan())

    def predict(self, case: CaseEntry, image: Volume, progress: Optional[ShareDone] = None) -> NDArray[np.uint8]:
        """Segment the image."""

        def tell(state: Progress) -> None:
            if progress is not None and not state.message:
                progress(state.done / state.total)

        return self._segmenter.segment(image, progress=tell).labelmap

    def facts(self) -> dict[str, Any]:
        """Return name and execution plan."""
        return {"kind": "network", "name": self.name, "ran_on": self._segmenter.plan.describe()}


class CheckpointSource(NetworkSource):
    """Predictions of a checkpoint file.

    Args:
        path: The file.
        device: Where to run, as in `make_plan`.
        backbone_weights: Local file with the DINOv2 weights; None takes them from the cache or the hub.
    """

    def __init__(self, path: Path, device: str = "auto", backbone_weights: Optional[Path] = None) -> None:
        checkpoint = load_checkpoint(path, backbone_weights)
        super().__init__(checkpoint.network, checkpoint.info.config, make_plan(device), checkpoint.info.name)
        self._info = checkpoint.info

    def facts(self) -> dict[str, Any]:
        """Return what identifies the checkpoint."""
        return {
            **super().facts(),
            "kind": "checkpoint",
            "sha256": file_sha256(self._info.path),
            "content_sha256": self._info.content_sha256,
            "trained_on": self._info.training.get("data_set", ""),
            "training_patients": learnt_patients(self._info.training),
            "commit": self._info.commit,
        }


class FolderSource:
    """Labelmaps `<case>.nii.gz` of any method.

    A dataset.json in the folder, as nnU-Net writes it, names their labels; without one they are those of the data.

    Args:
        folder: The folder.
        data_labels: Names of labels 1..K of the data.
        cases: Cases that will be asked for.

    Raises:
        InvalidInputError: Labelmaps are missing, or dataset.json does not name label values.
    """

    def __init__(self, folder: Path, data_labels: Sequence[str], cases: Sequence[CaseEntry]) -> None:
        missing = [case.name for case in cases if not self._path(folder, case).is_file()]
        if missing:
            raise InvalidInputError(
                f"{folder} lacks {len(missing)} of {len(cases)} labelmaps: {', '.join(missing[:10])}. "
                f"They must be named <case>.nii.gz."
            )
        self.name = folder.name
        self.slice_axis = "acquisition"
        named = {name: value for value, name in enumerate(data_labels, start=1)}
        self.values: Mapping[str, int] = _described_labels(folder / NNUNET_DESCRIPTION) or named
        self._folder = folder

    @staticmethod
    def _path(folder: Path, case: CaseEntry) -> Path:
        return folder / f"{case.name}.nii.gz"

    def predict(self, case: CaseEntry, image: Volume, progress: Optional[ShareDone] = None) -> NDArray[np.generic]:
        """Read the labelmap.

        Raises:
            InvalidInputError: It does not lie on the image's grid.
        """
        path = self._path(self._folder, case)
        volume = read_volume(path)
        check_same_grid(volume, image, str(path), f"the image of {case.name}")
        if progress is not None:
            progress(1.0)
        return volume.array

    def facts(self) -> dict[str, Any]:
        """Return the folder's name and the labels it was read with."""
        return {"kind": "folder", "name": self.name, "labels": dict(self.values)}


def _described_labels(path: Path) -> dict[str, int]:
    """Labels that an nnU-Net dataset.json names, in this project's spelling; empty without the file."""
    if not path.is_file():
        return {}
    labels = read_json(path).get("labels")
    if not isinstance(labels, dict) or not all(type(value) is int for value in labels.values()):
        raise InvalidInputError(
            f"{path}: 'labels' must map names to single values; regions of several labels cannot be evaluated."
        )
    return {canonical_name(name): value for name, value in labels.items() if value}


def check_same_grid(volume: Volume, reference: Volume, name: str, reference_name: str) -> None:
    """Raise InvalidInputError unless two volumes lie on the same grid."""
    if volume.array.shape != reference.array.shape:
        raise InvalidInputError(
            f"{name} has shape {volume.array.shape}, but {reference_name} has {reference.array.shape} (D, H, W). "
            f"Resample it to that grid."
        )
    for what, tolerance in GRID_TOLERANCES.items():
        got, expected = (np.asarray(getattr(v, what), dtype=np.float64) for v in (volume, reference))
        if not np.allclose(got, expected, rtol=0, atol=tolerance):
            raise InvalidInputError(
                f"{name} has {what} {got.round(4).tolist()}, but {reference_name} has {expected.round(4).tolist()}. "
                f"Resample it to that grid."
            )
