"""Made cases of 64 x 64 x 6 voxels with three organs, and settings so small that a step takes a moment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes.pairs import find_pairs
from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig
from udfa.geometry import Volume
from udfa.volume_io import write_array
from udfa_training.fit_config import FitConfig
from udfa_training.prepare import prepare

LABELS = ("liver", "spleen", "gallbladder")
SHAPE = (6, 64, 64)
SPACING_MM = (5.0, 4.0, 4.0)
ORGANS = {1: ((2.5, 30, 22), (3, 16, 12), 110), 2: ((2.5, 28, 46), (3, 10, 7), 150), 3: ((3, 46, 34), (0.5, 5, 5), 10)}
"""Label to centre, radii (voxels) and HU. The gallbladder is in slice 3 only."""


def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.bool_]:
    grid = np.indices(SHAPE, dtype=np.float64)
    distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii))
    return np.asarray(distance <= 1)


def made_case(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image in HU and labels, (D, H, W)."""
    random = np.random.default_rng(seed)
    image = np.where(ellipsoid((2.5, 32, 32), (50, 28, 30)), 40.0, -1000.0)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for value, (centre, radii, hu) in ORGANS.items():
        organ = ellipsoid(centre, radii)
        image[organ], labels[organ] = hu, value
    return (image + random.normal(0, 8, SHAPE)).astype(np.int16), labels


def place(array: NDArray[Any]) -> Volume:
    return Volume(array, SPACING_MM, np.eye(3)[:, ::-1].copy(), (0.0, 0.0, 0.0))


def write_case(folder: Path, name: str, seed: int) -> None:
    image, labels = made_case(seed)
    write_array(folder / f"{name}_image.nii.gz", image, place(image))
    write_array(folder / f"{name}_label.nii.gz", labels, place(labels))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source folder with patients a, b and c."""
    folder = tmp_path / "source"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        write_case(folder, name, seed)
    manifest = {"labels": ["background", *LABELS], "licence": "made for tests, no terms"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def prepared(source: Path, tmp_path: Path) -> Path:
    """The cases in canonical form; c is held out."""
    return prepare(find_pairs(source, ["c"]), tmp_path / "prepared")


MODEL = ModelConfig(
    task="Test",
    labels=LABELS,
    network=NetworkConfig(
        num_classes=4, spa_channels=(8, 8, 16, 16, 16), lgfa_width=16, decoder_channels=(16, 16, 8, 8)
    ),
    preprocessing=PreprocessingConfig(in_plane_spacing_mm=4.0, tile_size=64),
)


@pytest.fixture
def settings(prepared: Path, tmp_path: Path) -> Callable[..., FitConfig]:
    """Return settings of a tiny run; any field can be given another value."""
    tiny = FitConfig(
        data=str(prepared),
        output=str(tmp_path / "run"),
        model=MODEL,
        size=64,
        batch_size=2,
        steps=2,
        warmup_steps=1,
        accelerator="cpu",
        precision="32-true",
        workers=0,
        save_every=1,
    )
    return lambda **changes: dataclasses.replace(tiny, **changes)
