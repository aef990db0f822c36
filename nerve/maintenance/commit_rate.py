"""The rate of committed events."""

from __future__ import annotations

from collections import deque

RATE_SECONDS = 5.0
"""The time over which the rate is averaged."""


class CommitRate:
    """Counts the events that were committed in the last RATE_SECONDS."""

    def __init__(self) -> None:
        self._commits: deque[tuple[float, int]] = deque()

    def add(self, now: float, count: int) -> None:
        """Count a commit of `count` events."""
        self._commits.append((now, count))
        self._forget(now)

    def per_second(self, now: float) -> float:
        """Return the mean number of events per second."""
        self._forget(now)
        return sum(count for _, count in self._commits) / RATE_SECONDS

    def _forget(self, now: float) -> None:
        while self._commits and self._commits[0][0] < now - RATE_SECONDS:
            self._commits.popleft()
