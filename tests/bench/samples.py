"""Samples of one quantity, and the figures that are made of them; pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import msgspec


class Samples(msgspec.Struct, frozen=True):
    """What was measured, again and again, of one thing, in `unit` (events/s, ms, us, MB ...)."""

    of: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def highest(self) -> float:
        """The greatest of the values."""
        return max(self.values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the smallest of the values that at least `percent` % of them don't exceed (nearest rank).

    Raises ValueError when there are no values, or for a percentage outside 0 to 100.
    """
    if not values:
        raise ValueError("no values have no percentile: nothing was measured")
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} is no percentage: use 0 to 100")
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(0, rank - 1)]


def interleaved(repetitions: int, ways: Mapping[str, Callable[[], float]]) -> dict[str, tuple[float, ...]]:
    """Measure each way once, then each once again, and so on: what slows the machine for a while slows all of them.

    Every other round goes backwards, so that none always has the same one before it.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repetitions):
        order = list(ways) if number % 2 == 0 else list(ways)[::-1]
        for name in order:
            found[name].append(ways[name]())
    return {name: tuple(values) for name, values in found.items()}


def growth_exponents(sizes: Sequence[int], costs: Sequence[float]) -> tuple[float, ...]:
    """Give the power of the size with which the cost grows, from each size to the next: 1 is linear, 0 constant."""
    steps = zip(sizes, sizes[1:], costs, costs[1:], strict=False)
    return tuple(math.log(cost_b / cost_a) / math.log(size_b / size_a) for size_a, size_b, cost_a, cost_b in steps)
