"""segmentVolume from end to end: what the engine gets, models by path, sequences, and a real network."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util

from headless.reading import read_with_slicer, segment_ids
from headless.samples import FakeEngine, add_volume, fake_model, ijk_to_ras, random_labelmap, random_matrix
from udfa.checkpoint import Description, save_checkpoint
from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig
from udfa.errors import CheckpointError, InvalidInputError
from udfa.inference import SegmentationResult, Segmenter
from udfa.networks.udfa import UDFA
from UDFASegmentationLib.Contracts import Engine, LoadedModel, SegmentationSettings
from UDFASegmentationLib.SegmentationLogic import SegmentationLogic

SHAPE = (6, 7, 8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network for tiles of 64 pixels, with three labels."""
    import torch

    torch.manual_seed(0)
    config = ModelConfig(
        "Test",
        ("spleen", "liver", "aorta"),
        NetworkConfig(num_classes=4),
        PreprocessingConfig(tile_size=64, in_plane_spacing_mm=None),
    )
    path = tmp_path_factory.mktemp("models") / "untrained.safetensors"
    save_checkpoint(path, UDFA(config.network), config, Description("CC0", "Tests only."))
    return path


@pytest.fixture(scope="module")
def logic(checkpoint: Path) -> SegmentationLogic:
    """A logic that has loaded the untrained network for the CPU."""
    logic = SegmentationLogic()
    logic.model(checkpoint, "cpu")
    return logic


class Recorder:
    """Passes everything on to an engine and keeps its result."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.result: SegmentationResult | None = None

    def segment(self, *arguments: Any) -> SegmentationResult:
        self.result = self.engine.segment(*arguments)
        return self.result


def ct_volume() -> Any:
    """An oblique volume of 4 slices with noise of soft tissue and air around it."""
    random = np.random.default_rng(0)
    array = np.full((4, 40, 48), -1000, np.int16)
    array[:, 8:32, 8:40] = random.integers(-50, 150, size=(4, 24, 32))
    return add_volume(array, random_matrix(random))


def test_the_engine_gets_the_volume_as_read_and_the_options_of_the_user():
    labelmap = random_labelmap(np.random.default_rng(0), SHAPE, 3)
    volume, model = add_volume(matrix=ijk_to_ras((1.0, 2.0, 3.0))), fake_model(labelmap)
    settings = SegmentationSettings(labels=("liver", "spleen"), removeIslands=False)
    SegmentationLogic().segmentVolume(volume, model, settings)
    assert isinstance(model.engine, FakeEngine)
    assert model.engine.volume is not None
    assert model.engine.options is not None
    np.testing.assert_array_equal(model.engine.volume.array, slicer.util.arrayFromVolume(volume))
    assert model.engine.volume.spacing_mm == (3.0, 2.0, 1.0)
    assert model.engine.options.labels == ("liver", "spleen")
    assert not model.engine.options.remove_islands


def test_progress_arrives_slice_by_slice():
    labelmap = random_labelmap(np.random.default_rng(0), SHAPE, 3)
    steps = []
    SegmentationLogic().segmentVolume(add_volume(), fake_model(labelmap), progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(n, 6) for n in range(1, 7)]


def test_a_real_network_segments_an_oblique_volume_and_every_voxel_arrives(logic: SegmentationLogic, checkpoint: Path):
    volume, model = ct_volume(), logic.model(checkpoint, "cpu")
    recorder = Recorder(model.engine)
    node = logic.segmentVolume(volume, replace(model, engine=recorder))
    assert recorder.result is not None
    values = [value for value in (1, 2, 3) if (recorder.result.labelmap == value).any()]
    assert values
    assert segment_ids(node) == [model.labels[value - 1].name for value in values]
    found = np.array([0, *values], np.uint8)[read_with_slicer(node, volume)]
    np.testing.assert_array_equal(found, recorder.result.labelmap)
    assert node.GetAttribute("UDFA.Model") == "untrained"
    assert len(node.GetAttribute("UDFA.ModelSHA256")) == 64


def test_a_model_is_loaded_once_and_again_when_its_file_or_the_precision_changes(tmp_path: Path, monkeypatch):
    loads = []

    def count(path: Path, device: str, precision: str) -> LoadedModel:
        loads.append((path, precision))
        return fake_model(np.zeros(SHAPE, np.uint8))

    monkeypatch.setattr("UDFASegmentationLib.SegmentationLogic.loadModel", count)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"first")
    logic = SegmentationLogic()
    assert logic.model(str(path), "cpu") is logic.model(path, "cpu")
    assert loads == [(path, "auto")]
    logic.model(path, "cpu", "float32")
    assert loads == [(path, "auto"), (path, "float32")]
    os.utime(path, ns=(1, 1))
    logic.model(path, "cpu", "float32")
    assert len(loads) == 3


def test_an_unknown_model_is_an_error_that_names_it():
    with pytest.raises(CheckpointError, match="no-such-model"):
        SegmentationLogic().segmentVolume(add_volume(), "no-such-model")


def test_an_unknown_label_is_an_error_that_names_it(logic: SegmentationLogic, checkpoint: Path):
    settings = SegmentationSettings(labels=("heart",), device="cpu")
    with pytest.raises(InvalidInputError, match="no label 'heart'"):
        logic.segmentVolume(ct_volume(), checkpoint, settings)


def test_an_unusable_volume_is_refused_before_the_model_is_loaded():
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(InvalidInputError, match="no voxels"):
        SegmentationLogic().segmentVolume(empty, "no-such-model")


def test_the_proxy_volume_of_a_sequence_is_segmented_like_any_other():
    labelmap = random_labelmap(np.random.default_rng(0), SHAPE, 3)
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    frame = add_volume(matrix=ijk_to_ras((1.0, 2.0, 3.0)))
    for index in range(2):
        slicer.util.updateVolumeFromArray(frame, np.full(SHAPE, 100 * index, np.int16))
        sequence.SetDataNodeAtValue(frame, str(index))
    slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.SetSelectedItemNumber(1)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy, model = browser.GetProxyNode(sequence), fake_model(labelmap)
    node = SegmentationLogic().segmentVolume(proxy, model)
    assert isinstance(model.engine, FakeEngine)
    assert model.engine.volume is not None
    assert (model.engine.volume.array == 100).all()
    np.testing.assert_array_equal(read_with_slicer(node, proxy), labelmap)
    assert node.GetAttribute("UDFA.Frame") == "2/2"


def test_the_segmenter_of_the_core_is_an_engine():
    engine: type[Engine] = Segmenter
    assert callable(engine.segment)


def test_importing_the_slicer_layer_does_not_import_torch():
    code = (
        "import sys; sys.path.insert(0, 'UDFASegmentation'); import UDFASegmentationLib.SegmentationLogic; "
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
