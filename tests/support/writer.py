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

from nerve.clock import Clock
from nerve.errors import DiskError, StoreError
from nerve.eventqueue import Wakeup
from nerve.events.model import ErrorDetail, LogEvent
from nerve.ipc.channel import Channel
from nerve.processes.messages import FromChild, Lanes, ToChild
from nerve.store.archive.order_messages import Done
from nerve.store.table.writer import ArchiveRun
from nerve.workers.writer import Writer
from nerve.workspace import Workspace
from support.eventqueue import MemoryLog, Producer, listen

A_WHILE = 100.0
"""Longer than anything takes, in seconds."""


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
        self.log_id = "5f" * 16

    def append(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        """Commit, unless the disk is full."""
        self.before_append()
        self._fail()
        super().append(events, positions)
        self.committed += len(events)

    def forget(self, *producers: str) -> None:
        """Forget producers, unless the disk is full."""
        self._fail()
        super().forget(*producers)

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
        self.workspace = Workspace(folder)
        self.folder = self.workspace.lanes_dir
        self.folder.mkdir(parents=True)
        self._stack = stack
        self.wakeup = stack.enter_context(closing(Wakeup()))
        self.listener = stack.enter_context(listen(self.workspace.event_socket))
        ours, theirs = socket.socketpair()
        self.kernel: Channel[FromChild] = stack.enter_context(closing(Channel(ours, FromChild)))
        self.link = theirs
        self.timeouts: list[float | None] = []
        self.writer = self.start()

    def start(self) -> Writer:
        """Begin as the writer's process does."""
        boot = SimpleNamespace(listener=self.listener, workspace=self.workspace)
        context: Any = SimpleNamespace(boot=boot, wakeup=self.wakeup)
        link: Any = self._stack.enter_context(closing(Channel(self.link, ToChild)))
        store: Any = self.store
        writer = Writer(context, link, store, self.clock)
        self._stack.callback(writer._selector.close)
        self._stack.callback(writer._receiver.close)
        self._stack.callback(writer._orders.close)
        return writer

    def succeed(self) -> None:
        """Have another writer take the place of this one, which is killed; the kernel names every lane to it."""
        self.writer._receiver.close()
        self.writer = self.start()
        self.take_over_waiting()
        self.kernel.send(Lanes(live=tuple(path.stem for path in sorted(self.folder.glob("*.lane")))))

    def take_over_waiting(self) -> None:
        """Have `select` return at once, and note for how long it would have waited."""
        select = self.writer._selector.select

        def at_once(timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
            self.timeouts.append(timeout)
            return select(0)

        self.writer._selector.select = at_once  # type: ignore[method-assign]

    def producer(self, name: str = "p") -> Producer:
        """A producer that the kernel has announced."""
        made = Producer(self.folder, self.wakeup, name)
        self._stack.callback(made.die)
        self.kernel.send(Lanes(live=(name,)))
        return made

    def gone(self, producer: Producer) -> None:
        """End a producer, and have the kernel say so."""
        producer.die()
        self.kernel.send(Lanes(gone=(producer.name,)))

    def archiver(self) -> Channel[Done]:
        """Somebody who gives orders."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.workspace.event_socket))
        self.writer._orders._accept()
        return self._stack.enter_context(closing(Channel(sock, Done)))

    def turns(self, count: int = 3) -> None:
        """Take a few turns without letting time pass."""
        for _ in range(count):
            self.writer._turn()

    def told(self) -> list[FromChild]:
        """Return what the writer has said to the kernel."""
        return self.kernel.receive()

    def errors(self) -> list[ErrorDetail]:
        """The errors that the writer has recorded."""
        found = [event for event in self.store.events if (event.source, event.type) == ("system", "error")]
        assert all(event.ref_id == "writer" for event in found)
        return [msgspec.json.decode(event.payload, type=ErrorDetail) for event in found]
