"""The panel on doubles: opened for each test, with a fake engine where the network does not matter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from doubles import harness as harness_module
from doubles.fakes import FakeModels, writeCheckpoint


@pytest.fixture(scope="session")
def _doubles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with harness_module.installed(tmp_path_factory.mktemp("settings")):
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint with random weights: liver and spleen on slices of 64 x 64 pixels."""
    return writeCheckpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors")


@pytest.fixture
def models(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of bundled models of this test, with one checkpoint 'tiny'."""
    import udfa.models

    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(checkpoint, folder / "tiny.safetensors")
    monkeypatch.setattr(udfa.models, "bundled_folder", lambda: folder)
    monkeypatch.delenv(udfa.models.FOLDERS_VARIABLE, raising=False)
    return folder


@pytest.fixture
def harness(_doubles: None, scene: Any, models: Path) -> Iterator[harness_module.Harness]:
    """The user and the module, not opened yet."""
    import qt

    qt.QSettings().clear()
    result = harness_module.Harness()
    yield result
    result.close()


@pytest.fixture
def fake() -> FakeModels:
    """A fake engine that the test steps through."""
    return FakeModels()


@pytest.fixture
def opened(harness: harness_module.Harness, fake: FakeModels) -> harness_module.Harness:
    """The module, opened and shown, on a fake engine that needs no installation."""
    harness.open(models=fake, installer=None, warmUp=lambda: None, findDevices=fake.findDevices)
    harness.widget.enter()
    return harness


@pytest.fixture
def volume(_doubles: None, scene: Any) -> Any:
    """A CT volume of 6 x 5 x 4 voxels (D, H, W) with a dense block, shown in the slice views."""
    slicer.app.layoutManager().createViews()
    array = np.full((6, 5, 4), -1000, dtype=np.int16)
    array[1:5, 1:4, 1:3] = 100
    node = slicer.util.addVolumeFromArray(array, name="CT")
    slicer.util.setSliceViewerLayers(background=node)
    return node
