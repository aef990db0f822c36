"""Durations: exact percentiles of many durations, in eight bytes each."""

from __future__ import annotations

import math
from array import array


class Durations:
    """Durations in ms (0 or more); a percentile is one of them, by nearest rank, and never an estimate.

    They are grouped by powers of two, so that only the group with the percentile is sorted.
    """

    def __init__(self) -> None:
        self._groups: dict[int, array[float]] = {}
        self.count = 0

    def add(self, ms: float) -> None:
        """Add a duration."""
        size = int(ms).bit_length()
        group = self._groups.get(size)
        if group is None:
            group = self._groups[size] = array("d")
        group.append(ms)
        self.count += 1

    def percentile(self, percent: float) -> float | None:
        """Return the least duration that at least `percent` percent of them don't exceed; None if there is none."""
        rank = max(1, math.ceil(self.count * percent / 100))
        for _size, group in sorted(self._groups.items()):
            if rank <= len(group):
                return sorted(group)[rank - 1]
            rank -= len(group)
        return None
