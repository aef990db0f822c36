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
"""How long a waiting caller sleeps before it looks again, in seconds, and how that grows."""


_forks = 0
"""The number of forks between the process that loaded this module and this one. A system call would take longer."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - it belongs to the process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Guard(AbstractContextManager[None], Protocol):
    """A block during which an interruption is deferred; `check` raises it inside the block."""

    def check(self) -> None:
        """Raise a deferred interruption, at a point where nothing is half done."""


class Unguarded(nullcontext[None]):
    """A guard for a process that is never interrupted."""

    def check(self) -> None:
        """Do nothing."""


class EventSender:
    """Sends events through a lane; may be used by all threads of its process.

    `send` returns once the events survive the death of every process. While the lane is full it blocks, and can be
    interrupted by its guard.
    """

    def __init__(self, lane: Lane, guard: Guard) -> None:
        """Create it after the fork, like its lane."""
        self._lane = lane
        self._guard = guard
        self._lock = threading.RLock()
        self._busy = False
        self._late: deque[bytes] = deque()
        self._closed = False
        self._forks = _forks

    def send(self, events: Sequence[LogEvent]) -> None:
        """Send events in order, as one batch; on return they survive the death of every process of the engine.

        Raises RuntimeError in a process that a compute has forked, and after `close`.
        """
        if _forks != self._forks:
            raise RuntimeError("events can't be logged from a process that a compute has forked: log in the compute")
        with self._guard:
            body = pack(events)
            published, pause = False, FIRST_PAUSE_SECONDS
            while True:
                with self._lock:
                    if self._busy:
                        # A finalizer that logs has interrupted this block in this thread: waiting here would never end.
                        self._late.append(body)
                        return
                    if self._closed:
                        raise RuntimeError("events can't be logged any more: this process is about to end")
                    self._busy = True
                    try:
                        published = published or ((not self._late or self._flush()) and self._lane.publish(body))
                        if published and (not self._late or self._flush()):
                            return
                        self._lane.request_room()
                    finally:
                        self._busy = False
                pause = self._pause(pause)

    def settle(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until everything sent is committed; return True if it is."""
        if _forks != self._forks:
            return False
        deadline, pause = time.monotonic() + timeout, FIRST_PAUSE_SECONDS
        with self._guard:
            while not self._closed and not self._lane.settled and time.monotonic() < deadline:
                pause = self._pause(pause)
            return not self._closed and self._lane.settled

    def close(self) -> None:
        """Accept no more events; those sent wait in the lane for their commit. May be called twice.

        A `send` that is blocked in another thread raises RuntimeError.
        """
        with self._guard, self._lock:
            self._closed = True
            self._lane.close()

    def _flush(self) -> bool:
        """Publish the events that finalizers have logged, in order; return False if there is no space for all."""
        while self._late:
            if not self._lane.publish(self._late[0]):
                return False
            self._late.popleft()
        return True

    def _pause(self, seconds: float) -> float:
        """Sleep for `seconds`, let the guard interrupt, and return how long to sleep the next time."""
        time.sleep(seconds)
        self._guard.check()
        return min(GROWTH * seconds, LONGEST_PAUSE_SECONDS)
