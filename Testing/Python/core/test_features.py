"""The cache of encoder features."""

from __future__ import annotations

import pytest
import torch

from udfa.features import FeatureCache, features_bytes
from udfa.networks.udfa import EncoderFeatures, joined

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


def test_features_made_elsewhere_can_be_put_in_and_replace_older_ones() -> None:
    cache, make = FeatureCache(2 * ENTRY_BYTES), Maker()
    for number in (1.0, 2.0):
        cache.put("a", entry(number))
    assert (len(cache), cache.used_bytes) == (1, ENTRY_BYTES)
    assert cache.get("a", make).image[0] == 2
    for key in "bc":
        cache.put(key, entry())
    assert [key in cache for key in "abc"] == [False, True, True]
    assert make.calls == 0


def test_the_features_of_a_batch_are_split_and_joined_again() -> None:
    random = torch.Generator().manual_seed(0)
    maps = [torch.rand(3, 2, 8, 8, generator=random), torch.rand(3, 4, 4, 4, generator=random)]
    batch = EncoderFeatures(torch.rand(3, 3, 16, 16, generator=random), maps, torch.rand(3, 5, 1, 1, generator=random))
    single = batch.split()
    assert [len(features.image) for features in single] == [1, 1, 1]
    assert torch.equal(single[1].maps[1], maps[1][1:2])
    # Dropping two of three frees their memory.
    assert single[0].tokens.untyped_storage().nbytes() == 5 * 4
    again = joined(single)
    assert torch.equal(again.image, batch.image)
    assert torch.equal(again.tokens, batch.tokens)
    assert all(torch.equal(a, b) for a, b in zip(again.maps, maps))
    assert joined(single[:1]) is single[0]
