"""The shutdown ladder: the moments of a stop, under one deadline; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

HURRY_SECONDS = 0.3
"""How long computes have to clean up in a hurried stop."""

AFTER_END_SECONDS = 0.05
"""How often the loop checks when the ladder is past its end."""


class Stage(IntEnum):
    """The stages of a stop; each begins when the one before is done, or its time is over."""

    RUNNING = 0
    COMPUTES = 1
    RECORD = 2
    DRAIN = 3
    OVER = 4


@dataclass(frozen=True, slots=True)
class Ladder:
    """The moments of one stop, in monotonic seconds.

    Until `interrupt_at` running computes may finish; until `kill_at` they may clean up; until `record_by` the
    kernel's last events may be committed; at `end_at` every process that is left is killed.
    """

    reason: str
    interrupt_at: float
    kill_at: float
    record_by: float
    end_at: float

    @classmethod
    def plan(cls, reason: str, now: float, timeout: float) -> Ladder:
        """Divide `timeout` seconds: half for computes to finish, and enough of the rest to complete the log."""
        return cls(reason, now + 0.5 * timeout, now + 0.65 * timeout, now + 0.85 * timeout, now + timeout)

    def hurried(self, now: float) -> Ladder:
        """Interrupt computes at once, and kill them soon, because of a second request. The log keeps its time."""
        return replace(
            self,
            interrupt_at=min(self.interrupt_at, now),
            kill_at=min(self.kill_at, now + HURRY_SECONDS),
        )

    def next_deadline(self, now: float) -> float:
        """Return the next of the moments; past the last one, a moment a little later than `now`."""
        moments = (self.interrupt_at, self.kill_at, self.record_by, self.end_at)
        return min((moment for moment in moments if moment > now), default=now + AFTER_END_SECONDS)
