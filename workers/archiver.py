"""The archiver: sleeps until it is due, exports old days, and has the writer delete what is archived."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from nerve.clock import Clock, SystemClock
from nerve.config.logs_section import LogsConfig
from nerve.errors import NerveError, StoreError
from nerve.eventqueue import EventSender, Unguarded
from nerve.events.model import LogEvent
from nerve.ipc.channel import Channel
from nerve.ipc.progress import ArchiveProgress
from nerve.maintenance.archiver import Archiver, archived_up_to, last_run
from nerve.maintenance.order_messages import Conclude, Order, Purge, Record, Vacuum
from nerve.maintenance.order_socket import OrderClient
from nerve.processes.child import ChildContext
from nerve.processes.messages import ArchiveNow, ArchiverReport, ArchiveSettings, Finish, GetReport, Ready, ToChild
from nerve.store import ArchiveRun, LogReader, PurgeOrder
from workers import bootstrap

logger = logging.getLogger("nerve.archiver")

ORDER_SECONDS = 3600.0
"""How long an order may take the writer; a rebuild of a large file takes minutes."""

ORDER_ATTEMPTS = 5
ORDER_ROWS = 20_000
"""So many rows are deleted on one order: between two of them the archiver hears the kernel."""

PROGRESS_SECONDS = 0.25
"""How often the kernel is heard in the middle of a run, and told how far it is."""


class _Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """In the middle of a run the archiver has been told to finish, or the kernel is gone."""


class ArchiverWorker:
    """Does a run at its start, then one each interval, and one whenever the kernel asks."""

    def __init__(
        self, context: ChildContext, link: Channel[ToChild], queue: EventSender, orders: OrderClient, clock: Clock
    ) -> None:
        self._db = context.boot.workspace.logs_db
        self._logs = context.boot.revision.config.logs
        self._link = link
        self._queue = queue
        self._orders = orders
        self._clock = clock
        self._requests = count(1)
        self._asked: deque[ArchiveNow] = deque()
        self._archiving = Archiver(context.boot.workspace, self, clock)
        self._next = clock.now()
        self._told = clock.now()
        self._finishing = False

    def serve(self) -> None:
        """Work until told to finish, or until the kernel is gone."""
        self._link.send(Ready())
        try:
            while not self._is_over():
                self._hear(max(0.0, self._next - self._clock.now()))
                self._work()
        except _Interrupted:
            logger.info("the archiver's run was interrupted; the next one goes on from there")

    def record(self, event: LogEvent) -> None:
        """Send an event to the writer."""
        self._queue.send([event])

    def record_file(self, event: LogEvent, number: int) -> None:
        """Have the writer append the event of a file, once."""
        self._order(Record(next(self._requests), event, number))

    def purge(self, order: PurgeOrder) -> Iterator[int]:
        """Have the writer delete archived rows."""
        deleted = ORDER_ROWS
        while deleted == ORDER_ROWS:
            request = next(self._requests)
            deleted = self._order(Purge(request, order.day, order.last_id, order.open_runs, ORDER_ROWS))
            yield deleted

    def conclude(self, run: ArchiveRun) -> None:
        """Have the writer remember a run, and give unused space back when it has time."""
        self._order(Conclude(next(self._requests), run.ts, run.files, run.rows))

    def vacuum(self) -> None:
        """Have the writer rebuild the file."""
        self._order(Vacuum(next(self._requests)))

    def progressed(self, progress: ArchiveProgress) -> None:
        """Tell the kernel how far the run is, and hear it, every now and then."""
        if self._clock.now() - self._told < PROGRESS_SECONDS:
            return
        self._told = self._clock.now()
        self._link.send(progress)
        self._hear(0.0)
        if self._is_over():
            raise _Interrupted

    def warn(self, problem: str) -> None:
        """Say it in the diagnostics."""
        logger.warning(problem)

    def _is_over(self) -> bool:
        return self._finishing or self._link.ended

    def _hear(self, timeout: float) -> None:
        for message in self._link.wait(timeout):
            match message:
                case Finish():
                    self._finishing = True
                case GetReport():
                    self._link.send(self._report())
                case ArchiveNow():
                    self._asked.append(message)
                case ArchiveSettings():
                    self._apply(message)
                case _:
                    logger.error("the kernel sent the archiver a %s", type(message).__name__)

    def _work(self) -> None:
        """Do the runs that were asked for, and the one that is due."""
        while self._asked and not self._is_over():
            asked = self._asked.popleft()
            self._link.send(self._archiving.run(replace(self._logs, retention=asked.retention), vacuum=asked.vacuum))
        if self._clock.now() >= self._next and not self._is_over():
            self._next = self._clock.now() + self._logs.archive_interval
            self._archiving.run(self._logs, vacuum=False)

    def _apply(self, new: ArchiveSettings) -> None:
        """Take new settings: the next run is at once if there was none for as long as an interval is by now."""
        last = self._next - self._logs.archive_interval
        self._logs = settings_applied(self._logs, new)
        self._next = last + self._logs.archive_interval

    def _order(self, order: Order) -> int:
        """Have the writer carry out an order; asked again when it dies meanwhile, for no order does harm twice."""
        for _ in range(ORDER_ATTEMPTS):
            done = self._orders.ask(order, ORDER_SECONDS)
            if done and done.error:
                raise StoreError(done.error)
            if done:
                return done.rows
        raise StoreError("the writer went away again and again in the middle of an order; the next run makes up for it")

    def _report(self) -> ArchiverReport:
        wait_ms = round((self._next - self._clock.now()) * 1000)
        with LogReader(self._db) as reader:
            last, up_to = last_run(reader), archived_up_to(reader)
        return ArchiverReport(
            last.ts if last else None, self._clock.stamp().ts + wait_ms, up_to, self._archiving.problems
        )


def settings_applied(logs: LogsConfig, new: ArchiveSettings) -> LogsConfig:
    """Give the settings as they are with the new ones."""
    return replace(
        logs,
        retention=new.retention,
        archive_interval=new.archive_interval,
        compress=new.compress,
        max_size=new.max_size,
    )


def main(context: ChildContext) -> None:
    """Archive until told to finish, or until the kernel is gone (child)."""
    link = bootstrap.enter(context)
    queue = EventSender(bootstrap.lane_of(context), Unguarded())
    orders = OrderClient(context.boot.workspace.event_socket)
    try:
        ArchiverWorker(context, link, queue, orders, SystemClock()).serve()
    except NerveError as error:
        logger.error("%s", error)  # noqa: TRY400 - it is one line that says it all
        raise SystemExit(1) from None
    finally:
        queue.close()
        orders.close()
