"""Caches with a byte budget; that of encoder features per slice makes a click cost one decoder pass."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Optional, TypeVar

import torch

from udfa.networks.udfa import EncoderFeatures

T = TypeVar("T")


class ByteCache(Generic[T]):
    """Least-recently-used cache with a byte budget.

    Args:
        budget_bytes: Upper bound of the entries' bytes. At least the newest entry is always kept.
        size_of: Bytes of an entry.
    """

    def __init__(self, budget_bytes: int, size_of: Callable[[T], int]) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._size_of = size_of
        self._entries: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def find(self, key: Hashable) -> Optional[T]:
        """Return an entry, which counts as used; None when it is not cached."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return an entry, computing it when it is not cached."""
        entry = self.find(key)
        if entry is None:
            entry = compute()
            self.put(key, entry)
        return entry

    def put(self, key: Hashable, entry: T) -> None:
        """Keep an entry, and drop the least recently used ones beyond the budget."""
        if key in self._entries:
            self.used_bytes -= self._size_of(self._entries.pop(key))
        self._entries[key] = entry
        self.used_bytes += self._size_of(entry)
        while self.used_bytes > self.budget_bytes and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self.used_bytes -= self._size_of(oldest)

    def has_room(self, entries: int) -> bool:
        """Whether so many entries more, as large as those here, fit without dropping any."""
        return self.used_bytes * (len(self) + entries) <= self.budget_bytes * len(self)

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.used_bytes = 0


class FeatureCache(ByteCache[EncoderFeatures]):
    """Cache of the encoder features of slices (or tiles). See ByteCache.

    Args:
        budget_bytes: Upper bound of the cached tensors' bytes.
    """

    def __init__(self, budget_bytes: int) -> None:
        super().__init__(budget_bytes, features_bytes)


def features_bytes(features: EncoderFeatures) -> int:
    """Bytes that the tensors of one entry hold."""
    tensors: list[torch.Tensor] = [features.image, features.tokens, *features.maps]
    return sum(t.numel() * t.element_size() for t in tensors)
