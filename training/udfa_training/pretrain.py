"""Self-supervised pre-training of the `mini` backbone on volumes without labels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from udfa.config import PreprocessingConfig, to_dict
from udfa.errors import InvalidInputError
from udfa.geometry import canonical_orientation, reorient
from udfa.models import file_sha256, resolve_model
from udfa.networks.backbone import FrozenBackbone
from udfa.preprocessing import intensity_rule, network_slices, plane_grid
from udfa.volume_io import read_volume
from udfa_training.augment import Augmentation
from udfa_training.backbone_file import load_backbone, save_backbone
from udfa_training.budget_loop import run_budget, take_average
from udfa_training.dataset import MANIFEST, SliceDataset, SliceStack, open_prepared
from udfa_training.manifest import read_json
from udfa_training.masked_images import MaskedImages
from udfa_training.pretrain_config import PretrainConfig, PretrainSource
from udfa_training.publish import commit
from udfa_training.resume_rules import fixed_settings


class MixedSlices(Dataset[tuple[Tensor, Tensor]]):
    """Slices of several sources, each as likely as any other; item i depends only on (seed, i).

    Args:
        parts: One dataset of slices per source.
        seed: Seed of the draws.
    """

    def __init__(self, parts: list[SliceDataset], seed: int) -> None:
        self.parts = parts
        self.seed = seed
        counts = np.asarray([len(part.places) for part in parts], dtype=np.float64)
        self.shares = counts / counts.sum()

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image (3, S, S) float32 and an empty label (1, S, S)."""
        part = np.random.default_rng((self.seed, index, 1)).choice(len(self.parts), p=self.shares)
        return self.parts[int(part)][index]


def pretrain(config: PretrainConfig, stop_after: int | None = None) -> Path:
    """Pre-train the backbone, resuming the run in `config.output` if there is one.

    Args:
        config: Settings.
        stop_after: Stop (as if interrupted) once this many steps are done.

    Returns:
        Path of the backbone, `<output>/backbone.safetensors`, or of the saved state when the run stopped before.

    Raises:
        InvalidInputError: There are no volumes, or the saved run had other settings.
        CheckpointError: `init` holds no `mini` backbone.
        UDFAError: The loss became NaN or infinite; the last saved state stays.
    """
    torch.manual_seed(config.budget.seed)
    backbone = FrozenBackbone("mini")
    if config.init is not None:
        load_backbone(backbone, resolve_model(config.init))
    found = [volumes(source) for source in config.sources]
    dataset = make_dataset(config, found)
    objective = MaskedImages(backbone, config.masked_share, config.mask_side)
    output = Path(config.output)
    state = run_budget(objective, dataset, config.budget, output, identity(config, found), stop_after)
    if state.step < config.budget.steps:
        return output / "last.pt"
    take_average(state)
    path = output / "backbone.safetensors"
    save_backbone(path, backbone, description(config, found))
    return path


def volumes(source: PretrainSource) -> list[Path]:
    """Return the files of a source: the training images of a prepared data set, else all NIfTI files below a folder.

    Files named `*_label` are left out.

    Raises:
        InvalidInputError: There are none.
    """
    folder = Path(source.data)
    if is_prepared(folder):
        found = [case.image for case in open_prepared(folder).split("train")]
    else:
        images = (path for path in folder.rglob("*") if path.name.endswith((".nii", ".nii.gz")))
        found = sorted(path for path in images if not path.name.split(".")[0].endswith("_label"))
    if not found:
        raise InvalidInputError(f"{folder} has no volumes to learn from (.nii or .nii.gz, or a prepared data set).")
    return found


def is_prepared(folder: Path) -> bool:
    """Whether a folder was written by `udfa-train prepare`."""
    path = folder / MANIFEST
    return path.is_file() and "cases" in read_json(path)


def make_dataset(config: PretrainConfig, found: list[list[Path]]) -> MixedSlices:
    """Read all volumes and return their slices."""
    seed = config.budget.seed
    parts = []
    for source, paths in zip(config.sources, found):
        stacks = [load_images(path, source.preprocessing) for path in tqdm(paths, desc="reading volumes")]
        augmentation = Augmentation(config.size, config.augment)
        parts.append(SliceDataset(stacks, 1, source.preprocessing.in_slices, augmentation, 0.0, seed))
    return MixedSlices(parts, seed)


def load_images(path: Path, config: PreprocessingConfig) -> SliceStack:
    """Read a volume and bring all its slices to the network's grid, exactly as inference does; labels are empty."""
    volume = read_volume(path)
    canonical = reorient(volume, canonical_orientation(volume, config.slice_axis))
    grid = plane_grid(canonical.array, canonical.spacing_mm, config)
    rule = intensity_rule(canonical.array, config)
    depth = canonical.array.shape[0]
    planes = [network_slices(canonical.array, z, z + 1, grid, rule, in_slices=1)[0, 0].numpy() for z in range(depth)]
    images = np.stack(planes).astype(np.float16)
    return SliceStack(images, np.zeros(images.shape, dtype=np.uint8))


def identity(config: PretrainConfig, found: list[list[Path]]) -> dict[str, Any]:
    """What a resumed run must repeat, as plain types: folders may move, but must hold volumes of the same names."""
    names = [hashlib.sha256("/".join(path.name for path in paths).encode()).hexdigest() for paths in found]
    return {
        **fixed_settings(config, ("output", "init")),
        "sources": [
            {**fixed_settings(source, ("data",)), "volumes": f"{len(paths)} with names {name[:12]}"}
            for source, paths, name in zip(config.sources, found, names)
        ],
        "budget": fixed_settings(config.budget),
        "weights_of_init": None if config.init is None else file_sha256(resolve_model(config.init))[:12],
    }


def description(config: PretrainConfig, found: list[list[Path]]) -> dict[str, Any]:
    """What the backbone file says about itself."""
    data = []
    for source, paths in zip(config.sources, found):
        folder = Path(source.data)
        entry: dict[str, Any] = {"name": folder.name, "volumes": len(paths)}
        if is_prepared(folder):
            prepared = open_prepared(folder)
            entry["name"] = read_json(folder / MANIFEST)["name"]
            entry["patients"] = sorted({case.patient for case in prepared.split("train")})
            entry["licence"] = prepared.licence
        data.append(entry)
    settings = {name: value for name, value in identity(config, found).items() if name != "sources"}
    settings["budget"] = {"steps": config.budget.steps, **settings["budget"]}
    return {
        "method": "masked image modelling without labels; averaged weights",
        "started_from": "random weights" if config.init is None else Path(config.init).name,
        "data": data,
        "preprocessing": [to_dict(source.preprocessing) for source in config.sources],
        "settings": settings,
        "commit": commit(),
    }
