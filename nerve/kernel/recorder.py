"""The recorder: the kernel's own lane to the writer, tended by its loop; it never blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from nerve.clock import Clock
from nerve.eventqueue import Lane
from nerve.events.model import LogEvent
from nerve.ipc.event_loop import Loop

RECONNECT_SECONDS = 0.05


class Recorder:
    """Submits the kernel's events, and calls back when they are committed."""

    def __init__(self, lane: Lane, loop: Loop, clock: Clock) -> None:
        self._lane = lane
        self._loop = loop
        self._clock = clock
        self._watched = (0, -1)
        self._connect_at: float | None = None
        self._committed: deque[tuple[int, Callable[[], None]]] = deque()

    @property
    def open(self) -> bool:
        """Everything submitted is out of this process, and there is room for more: new runs may start."""
        return self._lane.clear and not self._lane.full

    @property
    def settled(self) -> bool:
        """Everything submitted is committed."""
        return self._lane.settled

    @property
    def unacknowledged(self) -> int:
        """How many batches wait for their commit."""
        return self._lane.unacknowledged

    def submit(self, events: Sequence[LogEvent], committed: Callable[[], None] | None = None) -> None:
        """Record events in order, as one batch; `committed` is called once they are."""
        seq = self._lane.submit(events)
        if committed:
            self._committed.append((seq, committed))
        self._rewatch()

    def tend(self) -> None:
        """Connect when there is no connection; call it on every turn of the loop."""
        now = self._clock.now()
        if not self._lane.connected and (self._connect_at is None or now >= self._connect_at):
            self._connect_at = None if self._lane.connect() else now + RECONNECT_SECONDS
        self._rewatch()

    def next_moment(self) -> float | None:
        """The moment of the next attempt to connect."""
        return self._connect_at

    def close(self) -> None:
        """Close the lane."""
        self._loop.forget_descriptor(self._watched[1])
        self._lane.close()

    def _act(self) -> None:
        self._lane.flush()
        self._lane.receive()
        while self._committed and self._committed[0][0] <= self._lane.committed_seq:
            self._committed.popleft()[1]()
        self.tend()

    def _rewatch(self) -> None:
        """Have the loop watch the connection that there is now: each writer makes for a new one."""
        connection = (self._lane.connections, self._lane.fileno())
        if connection != self._watched:
            self._loop.forget_descriptor(self._watched[1])
            self._watched = connection
            if self._lane.connected:
                self._loop.watch(self._lane, self._act)
