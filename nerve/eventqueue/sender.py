"""EventSender: the blocking front of a lane, for processes that run user code."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from nerve.eventqueue.lane import Lane, pack
from nerve.events.model import LogEvent

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, GROWTH = 0.0005, 0.02, 1.25
"""How long a caller that has to wait sleeps before it looks again: each time a little longer, up to a bound."""


_forks = 0
"""How many forks lie between this process and the one that loaded this module: asking for the pid takes longer."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - it is of the process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Guard(AbstractContextManager[None], Protocol):
    """A block that must not be cut in half; `check` raises what arrived inside it."""

    def check(self) -> None:
        """Raise what arrived inside the block, at a place where nothing is half done."""


class Unguarded(nullcontext[None]):
    """A guard for a process that nobody interrupts."""

    def check(self) -> None:
        """Nothing can have arrived."""


class EventSender:
    """Sends events through a lane; safe to use from any thread of its process.

    `send` returns when the events would survive every process; while the lane is full it blocks, at a place where
    the guard can interrupt it.
    """

    def __init__(self, lane: Lane, guard: Guard) -> None:
        """Made after the fork, like its lane."""
        self._lane = lane
        self._guard = guard
        self._lock = threading.RLock()
        self._busy = False
        self._late: deque[bytes] = deque()
        self._closed = False
        self._forks = _forks

    def send(self, events: Sequence[LogEvent]) -> None:
        """Send events in order, as one batch; returns when they would survive every process of the engine.

        Raises RuntimeError in a process that was forked off, and when the sender is closed: they would never get out.
        """
        if _forks != self._forks:
            raise RuntimeError("events can't be logged from a process that a compute has forked: log in the compute")
        with self._guard:
            body = pack(events)
            published, pause = False, FIRST_PAUSE_SECONDS
            while True:
                with self._lock:
                    if self._busy:
                        # A finalizer that logs has cut into this very block, which can't wait for itself.
                        self._late.append(body)
                        return
                    if self._closed:
                        raise RuntimeError("events can't be logged any more: this process is about to end")
                    self._busy = True
                    try:
                        published = published or ((not self._late or self._flush()) and self._lane.publish(body))
                        if published and (not self._late or self._flush()):
                            return
                        self._lane.call_for_room()
                    finally:
                        self._busy = False
                pause = self._pause(pause)

    def settle(self, timeout: float) -> bool:
        """Wait until everything sent is committed, at most `timeout` seconds; tells whether it is."""
        if _forks != self._forks:
            return False
        deadline, pause = time.monotonic() + timeout, FIRST_PAUSE_SECONDS
        with self._guard:
            while not self._closed and not self._lane.settled and time.monotonic() < deadline:
                pause = self._pause(pause)
            return not self._closed and self._lane.settled

    def close(self) -> None:
        """Take nothing more; what was sent waits in the lane for its commit. May be called twice.

        Whoever is blocked in another thread gets a RuntimeError.
        """
        with self._guard, self._lock:
            self._closed = True
            self._lane.close()

    def _flush(self) -> bool:
        """Publish what was logged in the middle of something else, in order; False where there is no room for it."""
        while self._late:
            if not self._lane.publish(self._late[0]):
                return False
            self._late.popleft()
        return True

    def _pause(self, seconds: float) -> float:
        """Sleep before looking again, and give for how long the next time; raises what interrupts the caller."""
        time.sleep(seconds)
        self._guard.check()
        return min(GROWTH * seconds, LONGEST_PAUSE_SECONDS)
