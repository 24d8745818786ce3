"""Panel and effect share one network per checkpoint, and nobody keeps one that is not used."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from headless.samples import fake_model
from UDFASegmentationLib.Contracts import LoadedModel
from UDFASegmentationLib.ModelPool import ModelPool, sharedModel


def model() -> LoadedModel:
    return fake_model(np.zeros((2, 3, 4), np.uint8))


def test_a_model_is_loaded_once_while_it_is_used_and_goes_when_nobody_uses_it():
    pool, loads = ModelPool(), []
    load = lambda: loads.append(1) or model()  # noqa: E731
    first = pool.get("a", load)
    assert pool.get("a", load) is first
    assert (len(loads), len(pool)) == (1, 1)
    del first
    gc.collect()
    assert len(pool) == 0
    pool.get("a", load)
    assert len(loads) == 2


def test_threads_that_ask_at_once_get_the_same_model_and_one_loads_it():
    pool, loads, found = ModelPool(), [], []

    def load() -> LoadedModel:
        loads.append(threading.get_ident())
        time.sleep(0.05)
        return model()

    threads = [threading.Thread(target=lambda: found.append(pool.get("a", load))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(one) for one in found}) == 1


def test_a_failed_load_is_not_kept():
    pool = ModelPool()
    with pytest.raises(ValueError):
        pool.get("a", lambda: (_ for _ in ()).throw(ValueError("broken")))
    assert pool.get("a", model) is not None


def test_auto_and_the_device_it_stands_for_are_the_same_and_a_replaced_file_is_another(tmp_path: Path):
    from udfa.devices import make_plan

    path, pool, loads = tmp_path / "m.safetensors", ModelPool(), []
    path.write_bytes(b"one")

    def load(path: Path, device: str, precision: str) -> LoadedModel:
        loads.append(device)
        return model()

    first = sharedModel(path, "auto", "auto", load, pool)
    assert sharedModel(path, make_plan("auto").device, "auto", load, pool) is first
    os.utime(path, ns=(1, 1))
    assert sharedModel(path, "auto", "auto", load, pool) is not first
    assert loads == ["auto", "auto"]


def test_panel_and_effect_use_the_same_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import UDFASegmentationLib.SegmentationLogic as logic
    from doubles.harness import installed

    loads: list[Path] = []
    monkeypatch.setattr(logic, "loadModel", lambda path, device, precision: loads.append(path) or model())
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"one")
    with installed(tmp_path / "settings"):
        from UDFASegmentationLib.ClickModels import slicerServices
        from UDFASegmentationLib.Settings import Preferences

        services = slicerServices()
        panel = logic.SegmentationLogic().model(path)
        assert services.load(path, Preferences()) is panel
    assert loads == [path]


def test_a_click_waits_for_the_batch_under_way_and_no_longer():
    """The run holds the network batch by batch; a click gets in between two of them."""
    from fakes.clicks import mini_segmenter
    from udfa.geometry import Volume

    segmenter = mini_segmenter()
    hu = np.random.default_rng(0).integers(-100, 200, (8, 64, 64)).astype(np.int16)
    volume = Volume(hu, (2.0, 1.0, 1.0), np.eye(3)[:, ::-1].copy())
    order: list[str] = []

    def between(progress) -> None:  # type: ignore[no-untyped-def]
        order.append(f"{progress.done}")
        if progress.done == 2:
            # Between two batches the lock is free for another thread.
            thread = threading.Thread(target=click)
            thread.start()
            thread.join(10)

    def click() -> None:
        with segmenter.lock:
            order.append("click")

    segmenter.segment(volume, progress=between)
    assert order == ["2", "click", "4", "6", "8"]
