"""The archiver: sleeps until it is due, exports old days, and has the writer delete what is archived."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from nerve import events
from nerve.children import ChildContext
from nerve.clock import Clock, SystemClock
from nerve.errors import NerveError, StoreError
from nerve.eventqueue import EventSender, Order, Purge, Unguarded, Vacuum
from nerve.events import ErrorDetail
from nerve.ids import uuid7_hex
from nerve.messages import Archived, ArchiveNow, ArchiverReport, Finish, Ready, Report, ToChild
from nerve.store import Archive, LogReader, LogWriter, ManifestEntry, PurgeOrder
from nerve.store.days import day_of
from nerve.wire import Channel
from nerve.workspace import Workspace
from workers import bootstrap

logger = logging.getLogger("nerve.archiver")

ORDER_SECONDS = 3600.0
"""How long an order may take the writer; a rebuild of a large file takes minutes."""

ORDER_ATTEMPTS = 5
PURGE_ROWS = 1_000
CLOSE_SECONDS = 5.0


class Archiver:
    """Does a run at its start, then one each interval, and one whenever the kernel asks."""

    def __init__(self, context: ChildContext, link: Channel[ToChild], queue: EventSender, clock: Clock) -> None:
        self._workspace = context.boot.workspace
        self._logs = context.boot.in_force.config.logs
        self._link = link
        self._queue = queue
        self._clock = clock
        self._requests = count(1)
        self._archive = Archive(self._workspace.archive_dir, self._workspace.logs_db, self._purge)
        self._next = clock.now()
        self._last_ts: int | None = None
        self._finishing = False

    def serve(self) -> None:
        """Work until told to finish, or until the kernel is gone."""
        self._link.send(Ready())
        while not (self._finishing or self._link.ended):
            self._obey(max(0.0, self._next - self._clock.now()))
            if self._clock.now() >= self._next and not self._finishing:
                self._next = self._clock.now() + self._logs.archive_interval
                self._run(self._logs.retention, vacuum=False)

    def _obey(self, timeout: float) -> None:
        for message in self._link.wait(timeout):
            match message:
                case Finish():
                    self._finishing = True
                case Report():
                    self._link.send(self._report())
                case ArchiveNow(retention, vacuum):
                    self._link.send(self._run(retention, vacuum=vacuum))
                case _:
                    logger.error("the kernel sent the archiver a %s", type(message).__name__)

    def _run(self, retention: float, *, vacuum: bool) -> Archived:
        """Do one run; what fails is recorded, and the next run goes on from there."""
        files = rows = 0
        try:
            for entry in self._archive.run_once(self._clock.stamp().ts, retention):
                files, rows = files + 1, rows + entry.rows
                self._queue.send([_recorded(entry, self._clock)])
            if files or vacuum:
                self._order(Vacuum(next(self._requests), vacuum))
        except StoreError as error:
            logger.error("%s", error)  # noqa: TRY400 - it is one line that says it all
            detail = ErrorDetail("archive", str(error))
            self._queue.send([events.error(self._clock.stamp(), "archiver", detail)])
            return Archived(files, rows, str(error))
        self._last_ts = self._clock.stamp().ts
        return Archived(files, rows)

    def _purge(self, order: PurgeOrder) -> int:
        return self._order(Purge(next(self._requests), order.day, order.last_id))

    def _order(self, order: Order) -> int:
        """Have the writer carry out an order; asked again when it dies meanwhile, for no order does harm twice."""
        for _ in range(ORDER_ATTEMPTS):
            done = self._queue.ask(order, ORDER_SECONDS)
            if done and done.error:
                raise StoreError(done.error)
            if done:
                return done.rows
        raise StoreError("the writer went away again and again while it was to delete archived rows; the next run will")

    def _report(self) -> ArchiverReport:
        wait_ms = round((self._next - self._clock.now()) * 1000)
        with LogReader(self._workspace.logs_db) as reader:
            watermark = reader.meta("watermark_ts")
        last_day = day_of(int(watermark) - 1) if watermark else None
        return ArchiverReport(self._last_ts, self._clock.stamp().ts + wait_ms, last_day)


def _recorded(entry: ManifestEntry, clock: Clock) -> events.LogEvent:
    return events.archive(clock.stamp(), entry.day, rows=entry.rows, file=entry.file, sha256=entry.sha256)


def archive_alone(workspace: Workspace, retention: float, *, vacuum: bool) -> Archived:
    """Do one run while no engine is running; the caller holds the workspace's lock, and is the writer for once."""
    clock = SystemClock()
    files = rows = 0
    with _alone(workspace) as writer:

        def purge(order: PurgeOrder) -> int:
            deleted = total = writer.purge_chunk(order.day, order.last_id, PURGE_ROWS)
            while deleted == PURGE_ROWS:
                deleted = writer.purge_chunk(order.day, order.last_id, PURGE_ROWS)
                total += deleted
            return total

        for entry in Archive(workspace.archive_dir, workspace.logs_db, purge).run_once(clock.stamp().ts, retention):
            files, rows = files + 1, rows + entry.rows
            writer.append([_recorded(entry, clock)], {})
        if vacuum:
            writer.vacuum()
    return Archived(files, rows)


@contextmanager
def _alone(workspace: Workspace) -> Iterator[LogWriter]:
    writer = LogWriter.open(workspace.logs_db)
    try:
        yield writer
    finally:
        writer.close()


def main(context: ChildContext) -> None:
    """Archive until told to finish, or until the kernel is gone (child)."""
    link = bootstrap.enter(context)
    queue = EventSender(context.boot.workspace.event_socket, f"archiver-{os.getpid()}/{uuid7_hex()}", Unguarded())
    queue.start()
    try:
        Archiver(context, link, queue, SystemClock()).serve()
    except NerveError as error:
        logger.error("%s", error)  # noqa: TRY400 - it is one line that says it all
        raise SystemExit(1) from None
    finally:
        queue.close(CLOSE_SECONDS)
