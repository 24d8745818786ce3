"""The cache of encoder features."""

from __future__ import annotations

import pytest
import torch

from udfa.features import FeatureCache, features_bytes
from udfa.networks.udfa import EncoderFeatures

ENTRY_BYTES = 4 * (3 + 2 + 5 + 6)


def entry(number: float = 0.0) -> EncoderFeatures:
    """Features of 64 bytes."""
    return EncoderFeatures(torch.full((3,), float(number)), [torch.zeros(2), torch.zeros(5)], torch.zeros(6))


class Maker:
    """Counts how often features are computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> EncoderFeatures:
        self.calls += 1
        return entry(self.calls)


def test_the_bytes_of_all_tensors_count() -> None:
    assert features_bytes(entry()) == ENTRY_BYTES == 64
    half = EncoderFeatures(torch.zeros(3, dtype=torch.float16), [], torch.zeros(1, dtype=torch.uint8))
    assert features_bytes(half) == 7


def test_features_are_computed_once_and_then_the_same_object() -> None:
    cache, make = FeatureCache(1000), Maker()
    first = cache.get("slice 1", make)
    assert cache.get("slice 1", make) is first
    assert make.calls == 1
    assert "slice 1" in cache
    assert "slice 2" not in cache


def test_the_budget_holds_and_the_least_recently_used_goes_first() -> None:
    cache = FeatureCache(3 * ENTRY_BYTES)
    for key in "abc":
        cache.get(key, entry)
    cache.get("a", entry)
    cache.get("d", entry)
    assert [key in cache for key in "abcd"] == [True, False, True, True]
    assert (len(cache), cache.used_bytes) == (3, 3 * ENTRY_BYTES)


def test_a_dropped_slice_is_computed_again() -> None:
    cache, make = FeatureCache(ENTRY_BYTES), Maker()
    cache.get(1, make)
    cache.get(2, make)
    cache.get(1, make)
    assert make.calls == 3
    assert cache.used_bytes == ENTRY_BYTES


def test_the_newest_entry_stays_even_when_it_is_larger_than_the_budget() -> None:
    cache, make = FeatureCache(1), Maker()
    cache.get("large", make)
    cache.get("large", make)
    assert (make.calls, len(cache)) == (1, 1)


def test_clearing_drops_everything() -> None:
    cache = FeatureCache(1000)
    cache.get("a", entry)
    cache.clear()
    assert (len(cache), cache.used_bytes, "a" in cache) == (0, 0, False)


def test_an_error_leaves_the_cache_as_it_was() -> None:
    cache = FeatureCache(1000)

    def fail() -> EncoderFeatures:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        cache.get("a", fail)
    assert (len(cache), cache.used_bytes) == (0, 0)
