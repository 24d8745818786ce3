"""Cache of encoder features per slice, so that a click costs one decoder pass."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch

from udfa.networks.udfa import EncoderFeatures


class FeatureCache:
    """Least-recently-used cache of encoder features with a byte budget.

    Args:
        budget_bytes: Upper bound of the cached tensors' bytes. At least the newest entry is always kept.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[Hashable, EncoderFeatures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable, compute: Callable[[], EncoderFeatures]) -> EncoderFeatures:
        """Return the features of a slice (or tile), computing them when they are not cached."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        features = compute()
        self.put(key, features)
        return features

    def put(self, key: Hashable, features: EncoderFeatures) -> None:
        """Keep the features of a slice (or tile), and drop the least recently used ones beyond the budget."""
        if key in self._entries:
            self.used_bytes -= features_bytes(self._entries.pop(key))
        self._entries[key] = features
        self.used_bytes += features_bytes(features)
        while self.used_bytes > self.budget_bytes and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self.used_bytes -= features_bytes(oldest)

    def has_room(self, entries: int) -> bool:
        """Whether so many entries more, as large as those here, fit without dropping any."""
        return self.used_bytes * (len(self) + entries) <= self.budget_bytes * len(self)

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.used_bytes = 0


def features_bytes(features: EncoderFeatures) -> int:
    """Bytes that the tensors of one entry hold."""
    tensors: list[torch.Tensor] = [features.image, features.tokens, *features.maps]
    return sum(t.numel() * t.element_size() for t in tensors)
