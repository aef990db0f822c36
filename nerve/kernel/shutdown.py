"""The shutdown ladder: what happens when, under one deadline; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

HURRY_SECONDS = 0.3


class Stage(IntEnum):
    """Where a stop has got to; each begins when the one before is done, or out of time."""

    RUNNING = 0
    COMPUTES = 1
    RECORD = 2
    DRAIN = 3
    OVER = 4


@dataclass(frozen=True, slots=True)
class Ladder:
    """The moments of one stop, in monotonic seconds.

    Until `interrupt_at` running computes may finish; until `kill_at` they may clean up; until `record_by` the
    kernel's last events may be committed; at `end_at` whatever is left is killed.
    """

    reason: str
    interrupt_at: float
    kill_at: float
    record_by: float
    end_at: float

    @classmethod
    def plan(cls, reason: str, now: float, timeout: float) -> Ladder:
        """Divide `timeout` seconds: half for computes to finish, and enough of the rest for the log to be complete."""
        return cls(reason, now + 0.5 * timeout, now + 0.65 * timeout, now + 0.85 * timeout, now + timeout)

    def hurried(self, now: float) -> Ladder:
        """Interrupt computes at once, and kill them soon: somebody asked a second time. The log keeps its time."""
        return replace(
            self,
            interrupt_at=min(self.interrupt_at, now),
            kill_at=min(self.kill_at, now + HURRY_SECONDS),
        )

    def next_moment(self, now: float) -> float:
        """The next moment at which something is due."""
        moments = (self.interrupt_at, self.kill_at, self.record_by, self.end_at)
        return min((moment for moment in moments if moment > now), default=now + 0.05)
