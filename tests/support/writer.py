"""The writer over a log in memory, with the test as its kernel, its clock and its disk."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from nerve.clock import Clock, Stamp
from nerve.errors import DiskError, StoreError
from nerve.eventqueue import Lane
from nerve.events.model import ErrorDetail, LogEvent
from nerve.ipc.channel import Channel
from nerve.processes.messages import ArchiveNow, Finish, FromChild, GetReport
from nerve.store.table.writer import ArchiveRun
from nerve.workers.writer import Writer
from support.eventqueue import MemoryLog, listen, tend

A_WHILE = 100.0
"""Longer than anything but a vanished producer is remembered, in seconds."""


class ManualClock:
    """A clock that goes on when the test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        """Monotonic seconds."""
        return self.time

    def stamp(self) -> Stamp:
        """The moment."""
        return Stamp(round(self.time * 1e3), round(self.time * 1e9))


class MemoryStore(MemoryLog):
    """A log in memory that does as it is told: fail, or delete so many rows at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.committed = 0
        self.failures = 0
        self.rows = 0
        self.free_pages = 0
        self.wal = 0
        self.done: list[str] = []
        self.before_append: Callable[[], object] = lambda: None

    def append(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        """Commit, unless the disk is full."""
        self.before_append()
        self._fail()
        super().append(events, positions)
        self.committed += len(events)

    def forget(self, producer: str) -> None:
        """Forget a producer, unless the disk is full."""
        self._fail()
        super().forget(producer)

    def producers(self) -> list[str]:
        """The producers with a position."""
        return list(self.positions)

    def purge_chunk(self, day: str, last_id: int, limit: int, open_runs: Sequence[str]) -> int:
        """Delete as many rows as there are, up to `limit`."""
        self._fail()
        deleted = min(limit, self.rows)
        self.rows -= deleted
        self.done.append(f"purge {deleted} of {day} up to {last_id}")
        return deleted

    def incremental_vacuum(self, pages: int) -> int:
        """Give up to so many pages back; tells how many went."""
        went = min(pages, self.free_pages)
        self.free_pages -= went
        self.done.append(f"{went} pages")
        return went

    def vacuum(self, is_over: Callable[[], bool]) -> None:
        """Rebuild the file, unless there is no room."""
        if self.failures:
            raise StoreError("no room for a second copy")
        self.done.append("vacuum")

    def record_file(self, event: LogEvent, number: int) -> None:
        """Append it, whatever the number."""
        self.append([event], {})
        self.done.append(f"recorded file {number}")

    def note_archive_run(self, run: ArchiveRun) -> None:
        """Remember it."""
        self.done.append(f"noted {run.rows} rows in {run.files} files at {run.ts}")

    def checkpoint(self) -> bool:
        """Empty the WAL."""
        self.done.append("checkpoint")
        return True

    def wal_bytes(self) -> int:
        """The size of the WAL."""
        return self.wal

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise DiskError("the disk is full")


class Stage:
    """A writer on its own, with the test as its kernel: each turn is taken by hand, and never waits."""

    def __init__(self, folder: Path, clock: Clock, stack: ExitStack) -> None:
        self.clock: Any = clock
        self.store = MemoryStore()
        self.address = folder / "events"
        self._stack = stack
        self.listener = stack.enter_context(listen(self.address))
        ours, theirs = socket.socketpair()
        self.kernel: Channel[FromChild] = stack.enter_context(closing(Channel(ours, FromChild)))
        self.link = theirs
        self.timeouts: list[float | None] = []
        self.ready = 0
        self.writer = self.start()

    def start(self) -> Writer:
        """Begin as the writer's process does."""
        context: Any = SimpleNamespace(boot=SimpleNamespace(listener=self.listener))
        link: Any = self._stack.enter_context(closing(Channel(self.link, self._incoming())))
        store: Any = self.store
        writer = Writer(context, link, store, self.clock)
        self._stack.callback(writer._selector.close)
        self._stack.callback(writer._receiver.close)
        return writer

    def take_over_waiting(self) -> None:
        """Have `select` return at once, and note for how long it would have waited, and for how many it found ready."""
        select = self.writer._selector.select

        def at_once(timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
            self.timeouts.append(timeout)
            ready = select(0)
            self.ready = len(ready)
            return ready

        self.writer._selector.select = at_once  # type: ignore[method-assign]

    def lane(self, producer: str = "p") -> Lane:
        """A producer that has joined."""
        lane = self._stack.enter_context(closing(Lane(self.address, producer)))
        tend(lane)
        self.writer._receiver.drain()
        tend(lane)
        return lane

    def turns(self, count: int = 3) -> None:
        """Take a few turns without letting time pass."""
        for _ in range(count):
            self.writer._turn()

    def errors(self) -> list[ErrorDetail]:
        """The errors that the writer has recorded."""
        found = [event for event in self.store.events if (event.source, event.type) == ("system", "error")]
        assert all(event.ref_id == "writer" for event in found)
        return [msgspec.json.decode(event.payload, type=ErrorDetail) for event in found]

    @staticmethod
    def _incoming() -> object:
        return Finish | GetReport | ArchiveNow


def vanish(lane: Lane) -> None:
    """End a producer without a goodbye."""
    assert lane._channel is not None
    lane._channel.close()
