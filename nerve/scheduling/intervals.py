"""The ticks of intervals: when each is due, without drift, and which of them were missed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heappush, heapreplace
from typing import NamedTuple

TOGETHER = 4
STAGGER = 0.004
"""First ticks are staggered: TOGETHER reflexes at once, then the next ones STAGGER seconds later, and so on.

If a thousand reflexes were due at once, most would wait for the others; if each had its own moment, each would wake
the engine.
"""


def stagger(number: int, interval: float) -> float:
    """Return the delay of the first tick of reflex number `number`, in seconds; it is less than its interval."""
    return number // TOGETHER * STAGGER % interval


@dataclass(frozen=True, slots=True)
class Interval:
    """The moments `first + k * interval` for k = 0, 1, 2 ..., in monotonic seconds.

    Each is computed from the first, so that rounding errors don't add up.
    Raises ValueError unless the interval is a positive, finite number of seconds.
    """

    first: float
    interval: float

    def __post_init__(self) -> None:
        if not 0 < self.interval < math.inf:
            raise ValueError(f"an interval must be a positive, finite number of seconds, not {self.interval}")

    def at(self, k: int) -> float:
        """Return the moment of tick number `k`."""
        return self.first + k * self.interval

    def latest(self, now: float) -> int:
        """Return the number of the last tick at or before `now`."""
        k = math.floor((now - self.first) / self.interval)
        # The quotient is rounded, so it can be off by one where `now` is (nearly) a tick.
        while self.at(k) > now:
            k -= 1
        while self.at(k + 1) <= now:
            k += 1
        return k


class Tick(NamedTuple):
    """A tick that was due at `due`; `skipped` counts the ticks before it that were missed."""

    sense: str
    reflex: str
    due: float
    skipped: int


@dataclass(slots=True, eq=False)
class Timer:
    """The interval of one reflex; `k` is the number of its next tick."""

    sense: str
    reflex: str
    interval: Interval
    k: int = 0

    @property
    def due(self) -> float:
        """The moment of the next tick."""
        return self.interval.at(self.k)

    def pop_due(self, now: float) -> Tick:
        """Pass all ticks up to `now`, of which there must be one, and return the last."""
        k = self.interval.latest(now)
        tick = Tick(self.sense, self.reflex, self.interval.at(k), k - self.k)
        self.k = k + 1
        return tick


class Timers:
    """All timers, ordered by their next tick; O(log n) per tick."""

    def __init__(self) -> None:
        self._next: list[tuple[float, int, Timer]] = []
        self._added = 0

    def add(self, timer: Timer) -> None:
        """Add a timer; of several ticks at one moment, that of the timer added first comes first."""
        heappush(self._next, (timer.due, self._added, timer))
        self._added += 1

    def pop_due(self, now: float) -> list[Tick]:
        """Return the ticks that became due since the last call, in the order of their moments: one per timer."""
        due: list[tuple[float, int, Tick]] = []
        while self._next and self._next[0][0] <= now:
            _, rank, timer = self._next[0]
            tick = timer.pop_due(now)
            due.append((tick.due, rank, tick))
            heapreplace(self._next, (timer.due, rank, timer))
        # Where ticks were skipped, the order of the last ones differs from that of the first ones.
        due.sort()
        return [tick for _, _, tick in due]

    def next_deadline(self) -> float | None:
        """Return the moment of the next tick of all; None without timers."""
        return self._next[0][0] if self._next else None

    def clear(self) -> None:
        """Remove all timers."""
        self._next.clear()
