"""A real (untrained) network that finds something in a small oblique CT, for tests of the command line."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from udfa.checkpoint import Description, load_checkpoint, save_checkpoint
from udfa.config import ModelConfig
from udfa.devices import make_plan
from udfa.inference import Segmenter
from udfa.volume_io import read_volume


@dataclass(frozen=True)
class Case:
    """A checkpoint that finds both labels in a small oblique CT, and that CT."""

    model: Path
    image: Path


def make_case(folder: Path, network: Any, config: ModelConfig, directions: np.ndarray) -> Case:
    """Write a checkpoint `tiny` and a CT of 5 slices.

    Args:
        folder: Where to.
        network: Untrained U-DFA with 3 classes; a copy is changed.
        config: Model with the labels 1 and 2.
        directions: (3, 3) of the CT's axes.
    """
    blobs = np.random.default_rng(3).normal(0, 60, size=(5, 8, 8)).repeat(8, axis=1).repeat(8, axis=2)
    array = np.clip(blobs - 20, -200, 300).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((8.0, 8.0, 5.0))
    image.SetOrigin((-100.0, 50.0, 700.0))
    image.SetDirection(np.asarray(directions).ravel().tolist())
    sitk.WriteImage(image, str(folder / "ct.nii.gz"))
    network = copy.deepcopy(network)
    with torch.no_grad():
        # The head's offsets are set so that an untrained network finds every class somewhere.
        planes = torch.from_numpy(array.astype(np.float32) / 100)[:, None].expand(-1, 3, -1, -1)
        mean = network(planes.contiguous())[:, :].mean(dim=(0, 2, 3))
        network.decoder.head.bias -= mean.repeat_interleave(network.decoder.head.bias.numel() // 3)
    description = Description("CC0", "Tests only", {"data_set": "none"})
    save_checkpoint(folder / "tiny.safetensors", network, config, description)
    return Case(folder / "tiny.safetensors", folder / "ct.nii.gz")


def arguments(case: Case, output: Path, *more: str, image: Path | None = None) -> list[str]:
    """Return the words of `udfa segment` for a case."""
    common = ["--model", str(case.model), "--device", "cpu", "--precision", "float32"]
    return ["segment", str(image or case.image), "--output", str(output), *common, *more]


@functools.cache
def expected_labelmap(case: Case, image: Path | None = None) -> np.ndarray:
    """What the package's Python interface gives for the same run."""
    plan = make_plan("cpu", precision="float32")
    segmenter = Segmenter.from_checkpoint(load_checkpoint(case.model), plan)
    return segmenter.segment(read_volume(image or case.image)).labelmap
