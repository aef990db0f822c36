"""The beats of intervals: when each comes, without drift, and which of them were missed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heappush, heapreplace
from typing import NamedTuple

TOGETHER = 4
STAGGER = 0.004
"""So many reflexes have their first beats together, the next ones so many seconds later, and so on.

Of a thousand that all beat at once, most would wait for the others; with none together, each would wake the engine.
"""


def stagger(number: int, interval: float) -> float:
    """Give the seconds by which the first beat of reflex number `number` is put off; less than its interval."""
    return number // TOGETHER * STAGGER % interval


@dataclass(frozen=True, slots=True)
class Interval:
    """The moments `first + k * interval` for k = 0, 1, 2 ..., in monotonic seconds.

    Each is computed from the first, so that no error adds up however many there are.
    Raises ValueError unless the interval is a positive, finite number of seconds.
    """

    first: float
    interval: float

    def __post_init__(self) -> None:
        if not 0 < self.interval < math.inf:
            raise ValueError(f"an interval must be a positive, finite number of seconds, not {self.interval}")

    def at(self, k: int) -> float:
        """Give the moment of beat number `k`."""
        return self.first + k * self.interval

    def latest(self, now: float) -> int:
        """Give the number of the last beat at or before `now`."""
        k = math.floor((now - self.first) / self.interval)
        # The quotient is rounded, so it can be off by one where `now` is (nearly) a beat.
        while self.at(k) > now:
            k -= 1
        while self.at(k + 1) <= now:
            k += 1
        return k


class Tick(NamedTuple):
    """A beat that has come: `due` is its moment on the grid, `skipped` counts the earlier ones that nobody saw."""

    sense: str
    reflex: str
    due: float
    skipped: int


@dataclass(slots=True, eq=False)
class Timer:
    """The interval of one reflex: beat number `k` of its grid comes next."""

    sense: str
    reflex: str
    grid: Interval
    k: int = 0

    @property
    def due(self) -> float:
        """The moment of the next beat."""
        return self.grid.at(self.k)

    def beat(self, now: float) -> Tick:
        """Pass all beats up to `now`, of which there must be one, and give the last."""
        k = self.grid.latest(now)
        beat = Tick(self.sense, self.reflex, self.grid.at(k), k - self.k)
        self.k = k + 1
        return beat


class Timers:
    """All pulses, ordered by what comes next; O(log n) a beat."""

    def __init__(self) -> None:
        self._coming: list[tuple[float, int, Timer]] = []
        self._added = 0

    def add(self, pulse: Timer) -> None:
        """Let a pulse beat from now on; of several beats at one moment, those of the first added come first."""
        heappush(self._coming, (pulse.due, self._added, pulse))
        self._added += 1

    def pass_to(self, now: float) -> list[Tick]:
        """Give the beats that have come since the last call, at most one a pulse, in the order of their moments."""
        passed: list[tuple[float, int, Tick]] = []
        while self._coming and self._coming[0][0] <= now:
            _, rank, pulse = self._coming[0]
            beat = pulse.beat(now)
            passed.append((beat.due, rank, beat))
            heapreplace(self._coming, (pulse.due, rank, pulse))
        # Where beats were skipped, the last ones are not due in the order of the first ones.
        passed.sort()
        return [beat for _, _, beat in passed]

    def next(self) -> float | None:
        """Give the moment of the next beat of all."""
        return self._coming[0][0] if self._coming else None

    def clear(self) -> None:
        """Let nothing beat any more."""
        self._coming.clear()
