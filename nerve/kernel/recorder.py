"""Recorder: publishes the kernel's own events in the kernel's lane; it never blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from nerve.clock import Clock
from nerve.eventqueue import Lane
from nerve.eventqueue.lane import pack
from nerve.eventqueue.lane_file import NEVER
from nerve.events.model import LogEvent

RECORD_BYTES = 2 * 1024 * 1024
"""With this many uncommitted bytes in the kernel's lane, no further run starts."""

SECOND_LOOK_SECONDS = 0.005
"""How long after requesting a notification the recorder reads the tail again, once.

A CPU can delay a store past the next load, so the writer may have missed the request and the recorder the new tail.
"""


class Recorder:
    """Publishes the kernel's events in its lane, and calls back when they are committed."""

    def __init__(self, lane: Lane, clock: Clock, is_served: Callable[[], bool]) -> None:
        """`is_served` returns True once a writer has been ready; before that no run may start."""
        self._lane = lane
        self._clock = clock
        self._is_served = is_served
        self._overflow: deque[tuple[bytes, Callable[[], None] | None]] = deque()
        self._ends: deque[int] = deque()
        self._callbacks: deque[tuple[int, Callable[[], None]]] = deque()
        self._notify_at = NEVER
        self._look_at: float | None = None

    @property
    def open(self) -> bool:
        """Everything submitted survives this process and there is space for more, so runs may start."""
        return not self._overflow and self._lane.head - self._lane.tail < RECORD_BYTES and self._is_served()

    @property
    def settled(self) -> bool:
        """Everything submitted is committed."""
        return not self._overflow and self._lane.settled

    @property
    def unacknowledged(self) -> int:
        """The number of batches that are not committed yet."""
        self._forget_committed()
        return len(self._ends) + len(self._overflow)

    def submit(self, events: Sequence[LogEvent], committed: Callable[[], None] | None = None) -> None:
        """Record events in order, as one batch; `maintain` calls `committed` once they are committed."""
        body = pack(events)
        if self._overflow or not self._publish(body, committed):
            self._overflow.append((body, committed))

    def maintain(self) -> None:
        """Publish what did not fit before, and call the callbacks of what is committed; once per turn of the loop."""
        self._forget_committed()
        while self._overflow and self._publish(*self._overflow[0]):
            self._overflow.popleft()
        while self._callbacks and self._callbacks[0][0] <= self._lane.tail:
            self._callbacks.popleft()[1]()
        self._request_notification()

    def notified(self) -> None:
        """Handle the writer's notification; `maintain` requests the next one if something is still waited for."""
        self._notify_at = NEVER

    def next_deadline(self) -> float | None:
        """Return when the tail has to be read again, in monotonic seconds; None for never."""
        return self._look_at

    def close(self) -> None:
        """Close the lane."""
        self._lane.close()

    def _publish(self, body: bytes, committed: Callable[[], None] | None) -> bool:
        if not self._lane.publish(body):
            return False
        self._ends.append(self._lane.head)
        if committed:
            self._callbacks.append((self._lane.head, committed))
        return True

    def _forget_committed(self) -> None:
        tail = self._lane.tail
        while self._ends and self._ends[0] <= tail:
            self._ends.popleft()

    def _request_notification(self) -> None:
        """Request a notification for the next commit that is waited for, or none."""
        now = self._clock.now()
        if self._look_at is not None and now >= self._look_at:
            self._look_at = None
        wanted = self._awaited_position()
        if wanted == self._notify_at:
            return
        self._notify_at = wanted
        self._lane.notify_at(wanted)
        self._look_at = None if wanted == NEVER else now + SECOND_LOOK_SECONDS

    def _awaited_position(self) -> int:
        """Return the position whose commit is waited for, NEVER if there is none."""
        if self._callbacks:
            return self._callbacks[0][0]
        if self._overflow or self._lane.head - self._lane.tail >= RECORD_BYTES:
            return self._ends[0] if self._ends else self._lane.tail + 8
        return NEVER
