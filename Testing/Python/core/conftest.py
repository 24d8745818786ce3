"""Shared by the tests of the core: small volumes, networks that are built once, fake networks, DICOM folders."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fakes.segment_case import Case, make_case
from udfa.checkpoint import CheckpointInfo, Description, save_checkpoint
from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig
from udfa.devices import ExecutionPlan
from udfa.geometry import Volume
from udfa.inference import Segmenter
from udfa.networks.backbone import FrozenBackbone
from udfa.networks.udfa import UDFA

LPS_AXES = np.eye(3)[:, ::-1].copy()
"""Direction of an array whose axes (D, H, W) run towards superior, posterior and left."""


def make_volume(
    array: np.ndarray,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    direction: np.ndarray = LPS_AXES,
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Volume:
    """A volume; by default with 1 mm voxels and axes towards superior, posterior and left."""
    return Volume(np.asarray(array), spacing_mm, np.asarray(direction, dtype=np.float64), origin_mm)


def rotation(seed: int) -> np.ndarray:
    """A random rotation matrix (3, 3)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def rearrangements(volume: Volume) -> Iterator[tuple[tuple[int, ...], tuple[bool, ...], Volume]]:
    """The same voxels at the same places, in all 48 orders of the array: 6 permutations times 8 flips."""
    for permutation in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            direction = volume.direction[:, list(permutation)].copy()
            spacing = [volume.spacing_mm[axis] for axis in permutation]
            shape = [volume.array.shape[axis] for axis in permutation]
            origin = np.asarray(volume.origin_mm, dtype=np.float64)
            for axis, flip in enumerate(flips):
                if flip:
                    origin = origin + direction[:, axis] * spacing[axis] * (shape[axis] - 1)
                    direction[:, axis] *= -1
            yield (
                permutation,
                flips,
                Volume(rearranged(volume.array, permutation, flips), tuple(spacing), direction, tuple(origin)),
            )


def rearranged(array: np.ndarray, permutation: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    """A contiguous copy with axes permuted, then flipped."""
    flipped = np.flip(array.transpose(permutation), [axis for axis in range(3) if flips[axis]])
    return np.ascontiguousarray(flipped)


class ThresholdNetwork(nn.Module):
    """Fake network that sees only each pixel's own intensity: class = number of thresholds (HU) it exceeds."""

    def __init__(self, config: PreprocessingConfig, thresholds: tuple[float, ...]) -> None:
        super().__init__()
        low, high = config.window_hu
        self.scale, self.shift = config.std * (high - low), low + config.mean * (high - low)
        self.thresholds = thresholds
        self.shapes: list[tuple[int, ...]] = []
        """Shapes of the inputs, one per call."""

    def forward(self, image: Tensor) -> Tensor:
        self.shapes.append(tuple(image.shape))
        hu = image[:, 1].float() * self.scale + self.shift
        classes = sum((hu > t).long() for t in self.thresholds)
        return 20.0 * nn.functional.one_hot(classes, len(self.thresholds) + 1).permute(0, 3, 1, 2).float()


class ConstantNetwork(nn.Module):
    """Fake network with the same logits everywhere."""

    def __init__(self, logits: tuple[float, ...]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, image: Tensor) -> Tensor:
        return self.logits[None, :, None, None].expand(len(image), -1, *image.shape[-2:])


class FailingNetwork(nn.Module):
    """Passes on to another network, but raises the given errors first, one per call."""

    def __init__(self, inner: nn.Module, errors: list[BaseException]) -> None:
        super().__init__()
        self.inner, self.errors = inner, errors
        self.sizes: list[int] = []
        """Batch sizes of all calls, the failed ones included."""

    def forward(self, image: Tensor) -> Tensor:
        self.sizes.append(len(image))
        if self.errors:
            raise self.errors.pop(0)
        output: Tensor = self.inner(image)
        return output


def plain_config(**changes: Any) -> ModelConfig:
    """A CT model with labels liver and spleen on the native pixel grid, without crop and clean-up."""
    settings: dict[str, Any] = {"in_plane_spacing_mm": None, "tile_size": 64, "crop_to_body": False, **changes}
    return ModelConfig(
        task="Test (CT)",
        labels=("liver", "spleen"),
        network=NetworkConfig(num_classes=3),
        preprocessing=PreprocessingConfig(**settings),
    )


def cpu_plan(batch_size: int = 4, device: str = "cpu") -> ExecutionPlan:
    """float32 on the CPU. Device "cpu:0" counts as an accelerator for the fall-backs, but runs anywhere."""
    return ExecutionPlan(device, torch.float32, batch_size)


def threshold_segmenter(
    thresholds: tuple[float, ...] = (50.5, 150.5), batch_size: int = 4, **changes: Any
) -> Segmenter:
    """The real segmenter around a ThresholdNetwork: liver above the first threshold, spleen above the second."""
    config = plain_config(**changes)
    return Segmenter(ThresholdNetwork(config.preprocessing, thresholds), config, cpu_plan(batch_size))  # type: ignore[arg-type]


def random_hu(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Whole HU within the default window, int16, so that thresholds at halves are never hit exactly."""
    return np.random.default_rng(seed).integers(-120, 270, size=shape).astype(np.int16)


def wake(backbone: FrozenBackbone) -> FrozenBackbone:
    """Give weights that timm initialises at or near zero values as large as trained ones, so that errors show."""
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "ls1" in name or "ls2" in name:
                parameter.fill_(0.5)
            elif "_token" in name or "pos_embed" in name:
                parameter.normal_(std=0.5)
    return backbone


@dataclass(frozen=True)
class Kit:
    """The helpers above, as one fixture, since test modules cannot import this file."""

    volume = staticmethod(make_volume)
    rotation = staticmethod(rotation)
    rearrangements = staticmethod(rearrangements)
    rearranged = staticmethod(rearranged)
    ThresholdNetwork = ThresholdNetwork
    ConstantNetwork = ConstantNetwork
    FailingNetwork = FailingNetwork
    config = staticmethod(plain_config)
    plan = staticmethod(cpu_plan)
    threshold_segmenter = staticmethod(threshold_segmenter)
    random_hu = staticmethod(random_hu)
    wake = staticmethod(wake)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks this small are faster with one thread, above all on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def kit() -> Kit:
    """Helpers for volumes, fake networks and segmenters."""
    return Kit()


def _build(backbone: str) -> UDFA:
    torch.manual_seed(0)
    network = UDFA(NetworkConfig(backbone=backbone, num_classes=3))
    wake(network.backbone)
    network.eval()
    return network


@pytest.fixture(scope="session")
def mini_network() -> UDFA:
    """A randomly initialised `mini` U-DFA with 3 classes. Shared: leave it as it is."""
    return _build("mini")


@pytest.fixture(scope="session")
def vits_network() -> UDFA:
    """A randomly initialised U-DFA on ViT-S with 3 classes. Shared: leave it as it is."""
    return _build("dinov2_vits14")


@pytest.fixture(scope="session")
def awake_network() -> UDFA:
    """A `mini` U-DFA whose zero-initialised parts have random values, as after training. Shared: leave it as it is."""
    network = _build("mini")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "local_to_global.gamma" in name or "gate" in name:
                parameter.normal_(std=0.5)
    return network


DESCRIPTION = Description(
    licence="CC-BY-4.0",
    intended_use="Tests only",
    training={"data": "none", "split": {"train": ["case 1"], "val": ["case 2"]}},
    metrics={"mean_dice": 0.5},
    commit="0123abc",
)


@dataclass(frozen=True)
class Saved:
    """A checkpoint file, and what it was made of."""

    path: Path
    network: UDFA
    config: ModelConfig
    info: CheckpointInfo


@pytest.fixture(scope="session")
def mini_checkpoint(mini_network: UDFA, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A saved `mini` checkpoint. Shared: copy it before changing it."""
    path = tmp_path_factory.mktemp("mini") / "mini.safetensors"
    config = plain_config()
    return Saved(path, mini_network, config, save_checkpoint(path, mini_network, config, DESCRIPTION))


@pytest.fixture(scope="session")
def vits_checkpoint(vits_network: UDFA, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A saved ViT-S checkpoint, which holds the adapters only. Shared: copy it before changing it."""
    path = tmp_path_factory.mktemp("vits") / "vits.safetensors"
    config = replace(plain_config(), network=vits_network.config)
    return Saved(path, vits_network, config, save_checkpoint(path, vits_network, config, DESCRIPTION))


@pytest.fixture(scope="session")
def vits_weights(vits_network: UDFA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backbone of `vits_network` as a file with timm's parameter names."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file({k: v.contiguous() for k, v in vits_network.backbone.vit.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def case(mini_network: UDFA, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A checkpoint that finds both labels in a small oblique CT, and that CT. Shared: leave both as they are."""
    config = plain_config(in_plane_spacing_mm=8.0)
    return make_case(tmp_path_factory.mktemp("case"), mini_network, config, rotation(2))


def split_file(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header (JSON) and data of a safetensors file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join_file(path: Path, header: Any, data: bytes) -> Path:
    """Write a safetensors file from header and data, whatever they are."""
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


@pytest.fixture(scope="session")
def edit_document() -> Callable[..., Path]:
    """Function (source, target, edit): copies a checkpoint and lets `edit` change its metadata document in place."""

    def copy(source: Path, target: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
        header, data = split_file(source)
        document = json.loads(header["__metadata__"]["udfa"])
        edit(document)
        header["__metadata__"]["udfa"] = json.dumps(document)
        return join_file(target, header, data)

    return copy


@pytest.fixture(scope="session")
def safetensors_parts() -> tuple[Callable[[Path], tuple[dict[str, Any], bytes]], Callable[..., Path]]:
    """Functions that take a safetensors file apart and put one together."""
    return split_file, join_file


@dataclass(frozen=True)
class DicomSeries:
    """What a small DICOM series of 8 x 10 pixels is like."""

    slices: int = 4
    distance_mm: float = 2.0
    skip: tuple[int, ...] = ()
    """Slices that are left out."""


@pytest.fixture
def write_dicom() -> Callable[..., str]:
    """Function (folder, series) that writes a CT series; voxel (z, y, x) = z + 10 y + x - 1024 HU. Returns its UID."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    def write(folder: Path, series: DicomSeries = DicomSeries()) -> str:
        folder.mkdir(exist_ok=True)
        uid, study = generate_uid(), generate_uid()
        for z in sorted(set(range(series.slices)) - set(series.skip)):
            meta = pydicom.dataset.FileMetaDataset()
            meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
            item = pydicom.dataset.Dataset()
            item.file_meta, item.SOPClassUID, item.SOPInstanceUID = meta, CTImageStorage, generate_uid()
            meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
            item.SeriesInstanceUID, item.StudyInstanceUID, item.Modality = uid, study, "CT"
            item.PatientID = item.PatientName = "Nobody"
            item.Rows, item.Columns, item.PixelSpacing, item.InstanceNumber = 8, 10, [0.5, 0.75], z + 1
            item.ImagePositionPatient = [0, 0, series.distance_mm * z]
            item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 1
            item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
            item.RescaleIntercept, item.RescaleSlope, item.SliceThickness = -1024, 1, series.distance_mm
            item.PixelData = (np.arange(80) + z).astype(np.int16).tobytes()
            item.save_as(folder / f"{uid[-6:]}-{z:03}.dcm", enforce_file_format=True)
        return str(uid)

    return write


@pytest.fixture(scope="session")
def series_of() -> type[DicomSeries]:
    """Description of a small DICOM series."""
    return DicomSeries
