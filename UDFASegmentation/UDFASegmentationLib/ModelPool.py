"""Loaded checkpoints of this process: panel and effect use the same network, and it goes when nobody uses it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from pathlib import Path

from UDFASegmentationLib.Contracts import LoadedModel
from UDFASegmentationLib.TritonGuard import tritonKeptOut


class ModelPool:
    """Holds models weakly: one stays loaded as long as somebody else refers to it. Safe to use on any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: weakref.WeakValueDictionary[Hashable, LoadedModel] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._models)

    def get(self, key: Hashable, load: Callable[[], LoadedModel]) -> LoadedModel:
        """Return the model of a key; of several threads that ask for it at once, one loads it.

        Raises:
            UDFAError: What `load` raises; then nothing is kept.
        """
        with self._lock:
            model = self._models.get(key)
            if model is None:
                model = load()
                self._models[key] = model
            return model


pool = ModelPool()
"""The models of this process."""


def sharedModel(
    path: Path, device: str, precision: str, load: Callable[[Path, str, str], LoadedModel], models: ModelPool = pool
) -> LoadedModel:
    """Return a checkpoint, loaded only if nobody in this process has it on that device and in that precision.

    Imports torch; may be called on any thread.

    Args:
        path: The file. A file that was replaced meanwhile counts as another.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, float32, float16 or bfloat16.
        load: Loads it, given these three.
        models: Where loaded models are looked up.

    Raises:
        CheckpointError: The checkpoint is missing or cannot be used.
        InvalidInputError: The device is not available.
    """
    with tritonKeptOut():
        from udfa.devices import make_plan
    plan = make_plan(device, precision=precision)
    changed = path.stat().st_mtime_ns if path.exists() else 0
    # "auto" and the device that it stands for are the same.
    return models.get((path.resolve(), changed, plan.device, plan.dtype), lambda: load(path, device, precision))
