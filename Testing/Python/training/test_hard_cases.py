"""Corrupted features and renamed structures: mistakes that the click stage learns from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from udfa.networks.udfa import EncoderFeatures
from udfa.prompts import PlaneClick
from udfa_training import hard_cases
from udfa_training.click_stage import told
from udfa_training.hard_cases import Renamed, corrupted, renamed

SIDE = 64


def features_of(batch: int = 4) -> EncoderFeatures:
    """Features whose value says from which sample and which block of the image they come."""

    def ramp(channels: int, stride: int) -> torch.Tensor:
        n = SIDE // stride
        plane = torch.arange(n * n, dtype=torch.float32).reshape(n, n)
        samples = 10_000.0 * torch.arange(batch, dtype=torch.float32)
        return (samples[:, None, None, None] + plane).expand(batch, channels, n, n).contiguous()

    maps = [ramp(2, stride) for stride in (2, 4, 8, 16, 32)]
    return EncoderFeatures(torch.zeros(batch, 3, SIDE, SIDE), maps, ramp(3, 16))


def test_the_finest_maps_and_the_image_stay_as_they_are() -> None:
    features = features_of()
    result = corrupted(features, np.random.default_rng(0))
    assert result.image is features.image
    assert all(torch.equal(a, b) for a, b in zip(result.maps[:2], features.maps[:2]))


def test_the_coarse_maps_change_in_places_and_keep_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_cases, "CORRUPT_SHARE", 1.0)
    features = features_of()
    shares = []
    for seed in range(20):
        result = corrupted(features, np.random.default_rng(seed))
        same = result.maps[2] == features.maps[2]
        shares.append(same.float().mean().item())
        # What is put in comes from the same features.
        assert set(result.maps[2].unique().tolist()) <= set(features.maps[2].unique().tolist())
    assert 0.3 < np.mean(shares) < 0.95


def test_all_strides_change_at_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_cases, "CORRUPT_SHARE", 1.0)
    monkeypatch.setattr(hard_cases, "PATCH_RADIUS", (20.0, 24.0))
    result = corrupted(features_of(), np.random.default_rng(1))
    fine = (result.maps[2] != features_of().maps[2])[:, 0].float()
    coarse = (result.tokens != features_of().tokens)[:, 0].float()
    shrunk = torch.nn.functional.avg_pool2d(fine[:, None], 2)[:, 0]
    assert coarse.any()
    assert (coarse[shrunk == 0] == 0).all()
    assert (coarse[shrunk == 1] == 1).float().mean() > 0.9


def test_without_corruption_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_cases, "CORRUPT_SHARE", 0.0)
    result = corrupted(features_of(), np.random.default_rng(0))
    assert all(torch.equal(a, b) for a, b in zip(result.maps, features_of().maps))
    assert torch.equal(result.tokens, features_of().tokens)


def labels_of() -> np.ndarray:
    labels = np.zeros((40, 40), dtype=np.int64)
    labels[5:20, 5:20], labels[25:35, 25:35], labels[0, :3] = 1, 2, 3
    return labels


def test_a_renamed_structure_is_renamed_as_a_whole_and_alone() -> None:
    found = [renamed(labels_of(), 5, np.random.default_rng(seed)) for seed in range(300)]
    changed = [r for r in found if r.region.any()]
    assert len(changed) / len(found) == pytest.approx(hard_cases.RENAME_SHARE, abs=0.08)
    for result in changed:
        (old,) = np.unique(labels_of()[result.region])
        (new,) = np.unique(result.labels[result.region])
        assert old in (1, 2)
        assert new != old
        assert np.array_equal(result.labels[~result.region], labels_of()[~result.region])
        assert (result.region == (labels_of() == old)).all()
    assert {int(r.labels[r.region][0]) for r in changed} == {0, 1, 2, 3, 4}


def test_the_next_slice_is_renamed_likewise() -> None:
    task = Renamed(np.array([[2, 0]]), np.array([[True, False]]), value=1, name=2)
    assert task.likewise(np.array([[1, 1, 0, 3]])).tolist() == [[2, 2, 0, 3]]
    nothing = Renamed(np.array([[1, 0]]), np.zeros((1, 2), bool))
    assert nothing.likewise(np.array([[1, 0]])).tolist() == [[1, 0]]


def test_references_stay_as_they_are_when_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_cases, "RENAME_SHARE", 0.0)
    result = renamed(labels_of(), 5, np.random.default_rng(3))
    assert not result.region.any()
    assert np.array_equal(result.labels, labels_of())


def test_an_empty_slice_and_a_single_label_can_be_renamed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_cases, "RENAME_SHARE", 1.0)
    empty = np.zeros((8, 8), dtype=np.int64)
    assert not renamed(empty, 3, np.random.default_rng(0)).region.any()
    full = np.ones((8, 8), dtype=np.int64)
    assert (renamed(full, 2, np.random.default_rng(0)).labels == 0).all()


def test_only_a_click_inside_tells_of_a_new_name() -> None:
    region = labels_of() == 1
    assert told([PlaneClick(30.0, 30.0, 2, True), PlaneClick(6.0, 6.0, 2, True)], region)
    assert not told([PlaneClick(30.0, 30.0, 2, True)], region)
    assert not told([], region)
