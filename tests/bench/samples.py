"""Samples of a quantity, and statistics of them; pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import msgspec


class Samples(msgspec.Struct, frozen=True):
    """Repeated measurements of a quantity, in `unit` (events/s, ms, us, MB ...)."""

    of: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def highest(self) -> float:
        """The largest value."""
        return max(self.values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` % of the values do not exceed (nearest rank).

    Raises ValueError when there are no values, or for a percentage outside 0 to 100.
    """
    if not values:
        raise ValueError("no values have no percentile: nothing was measured")
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} is no percentage: use 0 to 100")
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(0, rank - 1)]


def interleaved(repetitions: int, ways: Mapping[str, Callable[[], float]]) -> dict[str, tuple[float, ...]]:
    """Measure each variant once, then each once more, and so on, so that a slow phase of the machine affects all.

    Every other round goes backwards, so that none always has the same one before it.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repetitions):
        order = list(ways) if number % 2 == 0 else list(ways)[::-1]
        for name in order:
            found[name].append(ways[name]())
    return {name: tuple(values) for name, values in found.items()}


def growth_exponents(sizes: Sequence[int], costs: Sequence[float]) -> tuple[float, ...]:
    """Return the exponent of the size in the cost, from each size to the next: 1 is linear, 0 is constant."""
    steps = zip(sizes, sizes[1:], costs, costs[1:], strict=False)
    return tuple(math.log(cost_b / cost_a) / math.log(size_b / size_a) for size_a, size_b, cost_a, cost_b in steps)
