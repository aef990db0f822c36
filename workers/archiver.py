"""The archiver: sleeps until it is due, exports old days, and orders the writer to delete the archived rows."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from itertools import count

import msgspec

from nerve.clock import Clock, SystemClock
from nerve.config.logs_section import LogsConfig
from nerve.errors import NerveError, StoreError
from nerve.eventqueue import EventSender, Unguarded
from nerve.events.model import LogEvent
from nerve.ipc.channel import Channel
from nerve.ipc.progress import ArchiveProgress
from nerve.maintenance.archiver import Archiver, archived_up_to, last_run
from nerve.maintenance.order_socket import OrderClient
from nerve.processes.child import ChildContext
from nerve.processes.messages import ArchiveNow, ArchiverReport, Finish, GetReport, Ready, SetLogsConfig, ToChild
from nerve.store.archive.order_messages import Order
from nerve.store.table.reader import LogReader
from nerve.workers import bootstrap

logger = logging.getLogger("nerve.archiver")

ORDER_SECONDS = 3600.0
"""Time limit for an order; rebuilding a large file takes minutes."""

ORDER_ATTEMPTS = 5
"""How often an order is sent when the writer dies; no order does harm twice."""

PROGRESS_SECONDS = 0.25
"""How often a run reports its progress to the kernel, and reads the kernel's messages."""


class _Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """A run must stop because the archiver was told to finish, or because the kernel is gone."""


class ArchiverWorker:
    """Does a run at its start, then one each interval, and one whenever the kernel asks (child).

    It is the ArchiverBackend of its runs: it writes through the writer's queue.
    """

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
        self._requested: deque[ArchiveNow] = deque()
        self._archiver = Archiver(context.boot.workspace, self, clock)
        self._next_run = clock.now()
        self._last_report = clock.now()
        self._finishing = False

    def serve(self) -> None:
        """Work until told to finish, or until the kernel is gone."""
        self._link.send(Ready())
        try:
            while not self._is_over():
                self._receive(max(0.0, self._next_run - self._clock.now()))
                self._work()
        except _Interrupted:
            logger.info("the archiver's run was interrupted; the next one continues from there")

    def record(self, event: LogEvent) -> None:
        """Send an event to the writer."""
        self._queue.send([event])

    def execute(self, order: Order) -> int:
        """Have the writer carry out an order, and return the number of rows it deleted.

        The order is sent again if the writer dies meanwhile. Raises StoreError if it fails, or the writer dies
        ORDER_ATTEMPTS times.
        """
        numbered = msgspec.structs.replace(order, request=next(self._requests))
        for _ in range(ORDER_ATTEMPTS):
            done = self._orders.ask(numbered, ORDER_SECONDS)
            if done and done.error:
                raise StoreError(done.error)
            if done:
                return done.rows
        raise StoreError("the writer restarted repeatedly during an order; the next archive run will retry it")

    def progressed(self, progress: ArchiveProgress) -> None:
        """Report the progress to the kernel and read its messages, at most once per PROGRESS_SECONDS."""
        if self._clock.now() - self._last_report < PROGRESS_SECONDS:
            return
        self._last_report = self._clock.now()
        self._link.send(progress)
        self._receive(0.0)
        if self._is_over():
            raise _Interrupted

    def warn(self, problem: str) -> None:
        """Write the problem to the diagnostics."""
        logger.warning(problem)

    def _is_over(self) -> bool:
        return self._finishing or self._link.ended

    def _receive(self, timeout: float) -> None:
        for message in self._link.wait(timeout):
            match message:
                case Finish():
                    self._finishing = True
                case GetReport():
                    self._link.send(self._report())
                case ArchiveNow():
                    self._requested.append(message)
                case SetLogsConfig(logs):
                    self._set_config(logs)
                case _:
                    logger.error("the kernel sent the archiver a %s", type(message).__name__)

    def _work(self) -> None:
        """Do the runs that were requested, and the one that is due."""
        while self._requested and not self._is_over():
            request = self._requested.popleft()
            self._link.send(self._archiver.run(replace(self._logs, retention=request.retention), vacuum=request.vacuum))
        if self._clock.now() >= self._next_run and not self._is_over():
            self._next_run = self._clock.now() + self._logs.archive_interval
            self._archiver.run(self._logs, vacuum=False)

    def _set_config(self, logs: LogsConfig) -> None:
        """Use a new configuration; the next run is at once if the last one is longer ago than the new interval."""
        last = self._next_run - self._logs.archive_interval
        self._logs = logs
        self._next_run = last + self._logs.archive_interval

    def _report(self) -> ArchiverReport:
        wait_ms = round((self._next_run - self._clock.now()) * 1000)
        with LogReader(self._db) as reader:
            last, up_to = last_run(reader), archived_up_to(reader)
        return ArchiverReport(
            last.ts if last else None, self._clock.stamp().ts + wait_ms, up_to, self._archiver.problems
        )


def main(context: ChildContext) -> None:
    """Archive until told to finish, or until the kernel is gone (child)."""
    link = bootstrap.enter(context)
    queue = EventSender(bootstrap.lane_of(context), Unguarded())
    orders = OrderClient(context.boot.workspace.event_socket)
    try:
        ArchiverWorker(context, link, queue, orders, SystemClock()).serve()
    except NerveError as error:
        logger.error("%s", error)  # noqa: TRY400 - one line is enough
        raise SystemExit(1) from None
    finally:
        queue.close()
        orders.close()
