"""The one fake of the clock: it moves only when a test says so."""

from __future__ import annotations

from collections.abc import Callable

from nerve.clock import Stamp

WALL_MS = 1_700_000_000_000
"""What the wall clock shows, in unix ms, when a fake clock is made."""


class FakeClock:
    """A clock that is set by hand, in seconds; with `tick` it also moves by that much each time it is read.

    `wall_ms` is the wall clock's time at the start: it moves along with the monotonic clock, unless a test sets it.
    """

    def __init__(
        self,
        time: float = 1000.0,
        *,
        wall_ms: int = WALL_MS,
        tick: float = 0.0,
        on_sleep: Callable[[], object] = lambda: None,
    ) -> None:
        self.time = time
        self.tick = tick
        self._on_sleep = on_sleep
        self._wall_offset_ms = wall_ms - time * 1000

    @property
    def wall_ms(self) -> int:
        """The wall clock's time, in unix ms."""
        return round(self.time * 1000 + self._wall_offset_ms)

    @wall_ms.setter
    def wall_ms(self, value: int) -> None:
        self._wall_offset_ms = value - self.time * 1000

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        self.time += self.tick
        return self.time

    def stamp(self) -> Stamp:
        """Return the moment that an event made now bears."""
        self.time += self.tick
        return Stamp(self.wall_ms, round(self.time * 1e9))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass, as code under test that sleeps does, after calling `on_sleep`."""
        self._on_sleep()
        self.advance(seconds)
