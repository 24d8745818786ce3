"""Prepared stacks on disk: the second start reads them, and other data or settings never do."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from udfa.config import PreprocessingConfig
from udfa_training import stack_cache
from udfa_training.dataset import SliceStack, load_stack, open_prepared
from udfa_training.stack_cache import cache_folder, load_stacks

PREPROCESSING = PreprocessingConfig(in_plane_spacing_mm=4.0, tile_size=64)


def read(folder: Path, cache: Path | None, config: PreprocessingConfig = PREPROCESSING) -> list[SliceStack]:
    data = open_prepared(folder)
    return list(load_stacks(data, data.split("train"), config, 4, cache))


def test_the_second_start_reads_the_same_arrays_without_preparing_them(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(prepared, tmp_path / "cache")
    monkeypatch.setattr(stack_cache, "load_stack", None)
    second = read(prepared, tmp_path / "cache")
    for a, b in zip(first, second):
        assert (b.images.dtype, b.labels.dtype) == (np.float16, np.uint8)
        assert np.array_equal(a.images, b.images)
        assert np.array_equal(a.labels, b.labels)
    expected = [load_stack(case, PREPROCESSING, 4) for case in open_prepared(prepared).split("train")]
    assert len(second) == len(expected) == 2
    assert all(np.array_equal(a.images, b.images) for a, b in zip(second, expected))


def test_other_preprocessing_has_its_own_stacks(prepared: Path, tmp_path: Path) -> None:
    read(prepared, tmp_path / "cache")
    coarse = read(prepared, tmp_path / "cache", dataclasses.replace(PREPROCESSING, in_plane_spacing_mm=8.0))
    assert coarse[0].images.shape[1:] == (32, 32)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_a_changed_file_is_prepared_anew(prepared: Path, tmp_path: Path) -> None:
    read(prepared, tmp_path / "cache")
    label = open_prepared(prepared).split("train")[0].label
    os.utime(label, (1, 1))
    read(prepared, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize("content", [b"", b"half a stack"])
def test_a_damaged_stack_is_no_obstacle(prepared: Path, tmp_path: Path, content: bytes) -> None:
    first = read(prepared, tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(content)
    for again in (read(prepared, tmp_path / "cache"), read(prepared, tmp_path / "cache")):
        assert all(np.array_equal(a.images, b.images) for a, b in zip(first, again))
    assert all(path.stat().st_size > 1000 for path in (tmp_path / "cache").iterdir())


def test_the_cache_lies_in_the_data_folder_unless_told_otherwise(tmp_path: Path) -> None:
    assert cache_folder("auto", tmp_path) == tmp_path / "cache"
    assert cache_folder(str(tmp_path / "other"), tmp_path) == tmp_path / "other"
    assert cache_folder(None, tmp_path) is None


def test_a_folder_that_cannot_be_made_means_no_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    assert cache_folder("auto", tmp_path) is None
    assert "No cache of prepared cases" in caplog.text
