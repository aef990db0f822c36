"""EventReceiver: the writer's end of the event queue, a lane per producer and nothing shared between them."""

from __future__ import annotations

import logging
import os
import re
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import cast

from nerve.clock import Clock
from nerve.errors import WireError
from nerve.eventqueue.messages import (
    Ack,
    Batch,
    Conclude,
    Done,
    FromWriter,
    Goodbye,
    Hello,
    Order,
    Purge,
    Record,
    ToWriter,
    Vacuum,
    Welcome,
)
from nerve.eventqueue.pipe import WriterChannel
from nerve.events.model import LogEvent
from nerve.ipc.sockets import same_user

logger = logging.getLogger("nerve.writer")

_PID = re.compile(r"-([1-9][0-9]{0,9})/")


@dataclass(slots=True, eq=False)
class _Inlet:
    """One producer's connection; `announced` is the last batch it had at its start, `watched` what is waited for."""

    channel: WriterChannel
    producer: str | None = None
    announced: int = 0
    watched: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Progress:
    """How far a producer has been read: its last batch, and the place of that batch in time (monotonic ns)."""

    seq: int
    place: int = 0


_Waiting = tuple[int, str, Batch]
"""A batch that waits for its commit: its place in time, and its producer, which may have gone, or come back."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What one commit holds: events in order of time, and where each producer then stands."""

    events: list[LogEvent]
    positions: Mapping[str, int]


@dataclass(slots=True, eq=False)
class PendingOrder:
    """An order that is being carried out, as long as its sender is there: `rows` counts what is done so far."""

    order: Order
    asker: _Inlet
    rows: int = 0


class EventReceiver:
    """Accepts producers, reads their batches, recognises what it has seen before, and acknowledges commits.

    `position` gives a producer's last committed batch. A connection that breaks the rules is closed and reported
    through `offended`; the others never notice.
    """

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        clock: Clock,
        position: Callable[[str], int],
        forget: Callable[[str], None],
        offended: Callable[[str], None],
    ) -> None:
        listener.settimeout(0)
        self._listener = listener
        self._selector = selector
        self._clock = clock
        self._position = position
        self._forget = forget
        self._offended = offended
        self._inlets: list[_Inlet] = []
        self._progress: dict[str, _Progress] = {}
        self._absent: dict[str, float] = {}  # since when, the longest first
        self._waiting: list[_Waiting] = []
        self._events = 0
        self.requests: deque[PendingOrder] = deque()
        selector.register(listener, selectors.EVENT_READ, self._accept)

    @property
    def producers(self) -> int:
        """How many producers are connected."""
        return len(self._inlets)

    @property
    def waiting(self) -> int:
        """How many events have been read and wait for the next commit."""
        return self._events

    def drain(self) -> None:
        """Read whatever every producer has sent, so that what is taken next is complete up to this moment."""
        self._accept()
        for inlet in list(self._inlets):
            self._read(inlet)

    def take(self, cutoff: int, max_events: int) -> Gathered:
        """Take the batches stamped at or before `cutoff` (monotonic ns), the earliest first, up to about `max_events`.

        With a cutoff from before the last `drain`, no event is taken without those that caused it: a cause was sent
        before its effect was stamped, so it has been read, however the two connections were polled, and it comes
        first. The events are given in order of time.
        """
        self._waiting.sort(key=itemgetter(0))
        events: list[LogEvent] = []
        positions: dict[str, int] = {}
        count = 0
        for place, producer, batch in self._waiting:
            if place > cutoff or len(events) >= max_events:
                break
            events += batch.events
            positions[producer] = batch.seq
            count += 1
        del self._waiting[:count]
        self._events -= len(events)
        events.sort(key=attrgetter("mono"))
        return Gathered(events, positions)

    def acknowledge(self, positions: Mapping[str, int]) -> None:
        """Tell each producer that its batches up to this one are committed."""
        for inlet in self._inlets:
            if inlet.producer is not None and inlet.producer in positions:
                self._send(inlet, Ack(positions[inlet.producer]))

    def answer(self, request: PendingOrder, done: Done) -> None:
        """Tell who asked how an order has ended; it is no longer among the requests."""
        self.requests.remove(request)
        self._send(request.asker, done)

    def expect(self, producers: Iterable[str]) -> None:
        """Count these, which an earlier writer has left behind, among the producers that may come back."""
        now = self._clock.now()
        self._absent.update((producer, now) for producer in producers)

    def awaits(self) -> bool:
        """Tell whether somebody still holds what an earlier writer had not committed.

        A producer that is away, but whose process lives, is about to come back; one that is back may still be sending.
        """
        return any(map(self._is_behind, self._inlets)) or any(map(_lives, self._absent))

    def forget_absent(self, seconds: float) -> None:
        """Forget the producer that has been away for longest, if that is longer than `seconds`."""
        producer, since = next(iter(self._absent.items()), (None, 0.0))
        if producer is not None and self._clock.now() - since >= seconds:
            del self._absent[producer]
            self._progress.pop(producer, None)
            self._forget(producer)

    def close(self) -> None:
        """Close every connection."""
        for inlet in list(self._inlets):
            self._drop(inlet)

    def _accept(self) -> None:
        while True:
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            if not same_user(sock, os.getuid()):
                sock.close()
                self._offended("a process of another user tried to join the event queue; it was refused")
                continue
            inlet = _Inlet(WriterChannel(sock))
            self._inlets.append(inlet)
            self._rewatch(inlet)

    def _read(self, inlet: _Inlet) -> None:
        try:
            messages = inlet.channel.receive()
            now = self._clock.stamp().mono
            for kind, alike in groupby(messages, type):
                if kind is Batch and inlet.producer:
                    self._accept_batches(inlet.producer, cast("Iterator[Batch]", alike), now)
                else:
                    for message in alike:
                        self._handle(inlet, message)
        except WireError as error:
            self._offended(f"a producer ({inlet.producer or 'unknown'}) was disconnected: {error}")
            inlet.channel.ended = True
        inlet.channel.flush()
        if inlet.channel.ended:
            self._drop(inlet)
        else:
            self._rewatch(inlet)

    def _handle(self, inlet: _Inlet, message: ToWriter) -> None:
        match message:
            case Hello() if not inlet.producer:
                self._welcome(inlet, message)
            case Record() | Purge() | Vacuum() | Conclude() if inlet.producer:
                self.requests.append(PendingOrder(message, inlet))
            case Goodbye() if inlet.producer:
                self._forget(inlet.producer)
                del self._progress[inlet.producer]
                inlet.producer = None
            case _:
                raise WireError(f"{type(message).__name__} is out of place here")

    def _welcome(self, inlet: _Inlet, hello: Hello) -> None:
        for earlier in list(self._inlets):
            if earlier.producer == hello.producer:
                self._read(earlier)  # it has come back: what is left on its old connection was sent before
                self._drop(earlier)
        self._absent.pop(hello.producer, None)
        committed = max(self._position(hello.producer), hello.committed)
        self._progress.setdefault(hello.producer, _Progress(committed))
        inlet.producer, inlet.announced = hello.producer, hello.last
        self._send(inlet, Welcome(committed))

    def _is_behind(self, inlet: _Inlet) -> bool:
        return inlet.producer is not None and self._progress[inlet.producer].seq < inlet.announced

    def _accept_batches(self, producer: str, batches: Iterator[Batch], now: int) -> None:
        progress = self._progress[producer]
        for batch in batches:
            seq, events = batch.seq, batch.events
            if seq <= progress.seq:
                continue  # sent again after a reconnect, though it had arrived
            if seq != progress.seq + 1:
                raise WireError(f"batch {seq} follows batch {progress.seq}")
            progress.seq = seq
            # Stamps may be out of order (threads race for the lane, and any clock may join), batches never are.
            stamp = events[-1].mono
            if stamp > progress.place:
                progress.place = min(stamp, now)
            self._waiting.append((progress.place, producer, batch))
            self._events += len(events)

    def _send(self, inlet: _Inlet, message: FromWriter) -> None:
        inlet.channel.send(message)
        self._rewatch(inlet)

    def _rewatch(self, inlet: _Inlet) -> None:
        """Have the selector wait for what the connection waits for."""
        wanted = inlet.channel.interests()
        if wanted != inlet.watched and not inlet.channel.ended:
            self._unwatch(inlet)
            for descriptor, events in wanted.items():
                self._selector.register(descriptor, events, partial(self._read, inlet))
            inlet.watched = wanted

    def _unwatch(self, inlet: _Inlet) -> None:
        for descriptor in inlet.watched:
            self._selector.unregister(descriptor)
        inlet.watched = {}

    def _drop(self, inlet: _Inlet) -> None:
        """Close a connection, if that has not been done, and forget the orders that came through it."""
        if inlet in self._inlets:
            self._inlets.remove(inlet)
            self._unwatch(inlet)
            inlet.channel.close()
            if inlet.producer is not None:
                self._absent[inlet.producer] = self._clock.now()
            self.requests = deque(request for request in self.requests if request.asker is not inlet)


def _lives(producer: str) -> bool:
    """Tell whether the process of a producer named `role-PID/...` is there; False for one of another name."""
    pid = _PID.search(producer)
    try:
        os.kill(int(pid[1]), 0) if pid else None
    except (ProcessLookupError, PermissionError, OverflowError):
        return False
    return pid is not None
