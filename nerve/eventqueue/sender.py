"""EventSender: the blocking front of a lane, for processes that run user code."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import get_ident
from typing import Protocol

from nerve.eventqueue.lane import LIMIT_BYTES, Lane
from nerve.eventqueue.messages import Done, Order
from nerve.events.model import LogEvent
from nerve.ipc.channel import poll_events

RECONNECT_MS = 20
"""How often a lane without a connection tries to get one: in less time than a new writer gives the lanes to return."""

CHECK_SECONDS = 0.05
"""How often a blocked caller looks whether it has been interrupted; nothing polls while nobody is blocked."""


class Guard(AbstractContextManager[None], Protocol):
    """A block that must not be cut in half; `check` raises what arrived inside it."""

    def check(self) -> None:
        """Raise what arrived inside the block, at a place where nothing is half done."""


class Unguarded(nullcontext[None]):
    """A guard for a process that nobody interrupts."""

    def check(self) -> None:
        """Nothing can have arrived."""


class EventSender:
    """Sends events to the writer; safe to use from any thread of its process.

    `send` returns when the events are out of this process, so that its death loses none of them; while the writer is
    behind or away it blocks. One thread handles acknowledgements and reconnects, also while the caller is busy.
    `hangups` maps descriptors to what is called (in that thread) when their other end has closed.
    """

    def __init__(
        self,
        address: Path,
        producer: str,
        guard: Guard,
        *,
        limit_bytes: int = LIMIT_BYTES,
        hangups: Mapping[int, Callable[[], None]] | None = None,
    ) -> None:
        self._lane = Lane(address, producer, limit_bytes, piped=True)
        self._guard = guard
        self._hangups = dict(hangups or {})
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._busy = False
        self._late: deque[Sequence[LogEvent]] = deque()
        self._done: list[Done] = []
        self._closing = False
        self._pid = os.getpid()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.settimeout(0)
        self._thread = threading.Thread(target=self._serve, name="nerve-lane", daemon=True)
        self._own_ident: int | None = None

    def start(self) -> None:
        """Connect and start the thread; made and started after the fork."""
        self._lane.connect()
        self._thread.start()

    def send(self, events: Sequence[LogEvent]) -> None:
        """Send events in order, as one batch; returns when they would survive this process.

        Raises RuntimeError in a process that was forked off, and when the sender is closed: they would never get out.
        """
        if os.getpid() != self._pid:
            raise RuntimeError("events can't be logged from a process that a compute has forked: log in the compute")
        with self._guard, self._lock:
            if self._busy or get_ident() == self._own_ident:
                # A finalizer that logs has cut into the sender itself, which can't wait for itself.
                self._late.append(events)
                self._wake()
                return
            while self._lane.full or self._closing:
                self._pause()
            self._busy = True
            try:
                self._lane.submit(events)
            finally:
                self._busy = False
            if self._late:
                self._submit_late()
            if not self._lane.clear:
                self._wake()
                while not self._lane.clear:
                    self._pause()

    def settle(self, timeout: float) -> bool:
        """Wait until everything sent is committed, at most `timeout` seconds; tells whether it is."""
        if os.getpid() != self._pid:  # then another thread may have held the lock during the fork: it is held for ever
            return False
        deadline = time.monotonic() + timeout
        with self._guard, self._changed:
            while not self._lane.settled and not self._closing and time.monotonic() < deadline:
                self._pause()
            return self._lane.settled

    def ask(self, order: Order, timeout: float) -> Done | None:
        """Have the writer carry out an order; None when it went away or took longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._guard, self._changed:
            while not self._lane.order(order):
                if time.monotonic() >= deadline:
                    return None
                self._pause()
            self._wake()
            connection = self._lane.connections
            while not (done := self._take_done(order.request)):
                if time.monotonic() >= deadline or not self._lane.connected or self._lane.connections != connection:
                    return None
                self._pause()
            return done

    def close(self, timeout: float) -> bool:
        """Settle, say goodbye and stop the thread; tells whether everything is committed.

        May be called twice, or before `start`. Whoever is blocked in another thread gets a RuntimeError.
        """
        settled = self.settle(timeout)
        with self._changed:
            if self._closing:
                return settled
            self._closing = True
            self._wake()
        if self._thread.ident is not None:
            self._thread.join()
        with self._changed:
            self._lane.close()
        self._wake_in.close()
        self._wake_out.close()
        return settled

    def _take_done(self, request: int) -> Done | None:
        done = next((done for done in self._done if done.request == request), None)
        if done:
            self._done.remove(done)
        return done

    def _submit_late(self) -> None:
        """Submit in order what was logged in the middle of something else, or now is in the middle of this."""
        self._busy = True
        try:
            while self._late:
                self._lane.submit(self._late.popleft())
        finally:
            self._busy = False

    def _tend(self) -> None:
        """Connect if need be, send what waits for room, and take in what the writer has said."""
        self._busy = True
        try:
            if not self._lane.connected:
                self._lane.connect()
            self._lane.flush()
            self._done += self._lane.receive()
        finally:
            self._busy = False
        self._submit_late()

    def _pause(self) -> None:
        if self._closing:
            raise RuntimeError("events can't be logged any more: this process is about to end")
        self._changed.wait(CHECK_SECONDS)
        self._guard.check()

    def _wake(self) -> None:
        try:
            self._wake_out.send(b"\0")
        except BlockingIOError:
            return  # it has not even noticed the last one yet

    def _serve(self) -> None:
        self._own_ident = get_ident()
        while not self._closing:
            ready = self._poll()
            for descriptor in self._hangups.keys() & ready:
                self._hangups.pop(descriptor)()
            if self._wake_in.fileno() in ready:
                self._wake_in.recv(4096)
            with self._changed:
                self._tend()
                self._changed.notify_all()

    def _poll(self) -> set[int]:
        with self._changed:
            interests = self._lane.interests()
        poller = select.poll()
        poller.register(self._wake_in, select.POLLIN)
        for descriptor, events in interests.items():
            poller.register(descriptor, poll_events(events))
        for hangup in self._hangups:
            poller.register(hangup, select.POLLHUP)  # Linux tells it unasked, macOS does not
        return {fd for fd, _event in poller.poll(None if interests else RECONNECT_MS)}
