"""How long runs took: exact percentiles of many durations, in eight bytes each."""

from __future__ import annotations

import math
from array import array


class Durations:
    """Durations in ms (0 or more); a percentile is one of them, by nearest rank, and never an estimate.

    They are kept by the power of two that they stay below, so that only those next to a percentile are ever sorted.
    """

    def __init__(self) -> None:
        self._by_size: dict[int, array[float]] = {}
        self.count = 0

    def add(self, ms: float) -> None:
        """Take in one."""
        size = int(ms).bit_length()
        kept = self._by_size.get(size)
        if kept is None:
            kept = self._by_size[size] = array("d")
        kept.append(ms)
        self.count += 1

    def percentile(self, percent: float) -> float | None:
        """Give the least of them that at least so many percent don't exceed (100: the greatest); None of none."""
        rank = max(1, math.ceil(self.count * percent / 100))
        for _size, kept in sorted(self._by_size.items()):
            if rank <= len(kept):
                return sorted(kept)[rank - 1]
            rank -= len(kept)
        return None
