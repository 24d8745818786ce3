"""Fake engine and settings, and a real tiny checkpoint, for tests of the panel."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TINY_LABELS = ("liver", "spleen")


def writeCheckpoint(path: Path, task: str = "Test organs (CT)") -> Path:
    """Write a checkpoint with random weights: liver and spleen, native pixels, tiles of 64 x 64."""
    import torch

    from udfa.checkpoint import Description, save_checkpoint
    from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig
    from udfa.networks.udfa import UDFA

    torch.manual_seed(0)
    config = ModelConfig(
        task=task,
        labels=TINY_LABELS,
        network=NetworkConfig(num_classes=3),
        preprocessing=PreprocessingConfig(in_plane_spacing_mm=None, tile_size=64, crop_to_body=False),
    )
    save_checkpoint(path, UDFA(config.network), config, Description("CC-BY-4.0", "Tests only"))
    return path


class MemoryStore:
    """Stands for QSettings: keeps values in memory, with their types."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def contains(self, key: str) -> bool:
        """Whether the key has a value."""
        return key in self.values

    def value(self, key: str) -> Any:
        """Return the value of a key, None if it has none."""
        return self.values.get(key)

    def setValue(self, key: str, value: Any) -> None:
        """Store a value."""
        self.values[key] = value

    def remove(self, key: str) -> None:
        """Forget a key."""
        self.values.pop(key, None)


@dataclass
class FakePlan:
    """Stands for `udfa.devices.ExecutionPlan`."""

    device: str = "cpu"

    def describe(self) -> str:
        """As the plan describes itself."""
        return f"{self.device}, float32, batches of 4"


class FakeModels:
    """Stands for `SegmentationLogic` and its engine, in a run that the test can hold, fail or let through.

    Liver is where the image is above 0, spleen nowhere. The run reports each slice and asks whether it is cancelled.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None
        self.loaded: list[tuple[Path, str, str]] = []
        self.options: list[Any] = []
        self.volumes: list[Any] = []
        self.reached = threading.Event()
        """Set when a run waits at the gate."""

    def hold(self) -> None:
        """Let the next run wait after its first slice."""
        self.reached.clear()
        self.gate.clear()

    def release(self) -> None:
        """Let the waiting run go on."""
        self.gate.set()

    def model(self, nameOrPath: Path, device: str, precision: str) -> Any:
        """Return this fake as a loaded model."""
        from udfa.checkpoint import read_info
        from UDFASegmentationLib.Contracts import LoadedModel

        self.loaded.append((Path(nameOrPath), device, precision))
        info = read_info(Path(nameOrPath))
        return LoadedModel(self, info.labels, info.name, info.content_sha256)

    def segment(self, volume: Any, options: Any = None, progress: Any = None, cancelled: Any = None) -> Any:
        """As `Segmenter.segment`."""
        from udfa.errors import CancelledError
        from udfa.inference import Progress, SegmentationResult

        self.options.append(options)
        self.volumes.append(volume)
        depth = volume.array.shape[0]
        cancelled = cancelled or (lambda: False)
        for done in range(1, depth + 1):
            if cancelled():
                raise CancelledError("Segmentation was cancelled; nothing was changed.")
            if progress is not None:
                progress(Progress(done, depth, float(depth - done)))
            self.reached.set()
            while not self.gate.wait(0.005):
                if cancelled():
                    raise CancelledError("Segmentation was cancelled; nothing was changed.")
            if self.error is not None:
                raise self.error
        names = options.labels or TINY_LABELS
        labelmap = np.where(volume.array > 0, 1 if "liver" in names else 0, 0).astype(np.uint8)
        uncertainty = None
        if options.uncertainty:
            uncertainty = np.zeros(labelmap.shape, dtype=np.uint8)
            uncertainty[depth // 2, 2, 2] = 200
            uncertainty[0, 1, 1] = 100
        return SegmentationResult(labelmap, uncertainty, FakePlan(), 1.5, [])

    def findDevices(self) -> list[Any]:
        """As `DeviceSelector.findDevices` on a computer with a graphics card."""
        from UDFASegmentationLib.DeviceSelector import DeviceChoice

        return [DeviceChoice("cuda:0", "Test GPU (7.5 of 8 GB free)"), DeviceChoice("cpu", "Processor (CPU)")]
