"""The writer: drains the event queue, commits in groups, acknowledges; the only process that writes logs.db."""

from __future__ import annotations

import gc
import logging
import select
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable

from nerve.clock import Clock, SystemClock
from nerve.errors import DiskError, NerveError, StoreError
from nerve.eventqueue import Done, EventReceiver, Gathered, PendingOrder
from nerve.eventqueue.group_commit import MAX_GROUP_EVENTS, commit_due, group_seconds
from nerve.events import catalog
from nerve.events.model import ErrorDetail, LogEvent
from nerve.ipc.channel import Channel
from nerve.maintenance.checkpoints import Checkpointer
from nerve.maintenance.orders import OrderExecutor
from nerve.processes.child import ChildContext
from nerve.processes.messages import Failed, Finish, GetReport, Ready, ToChild, WriterReport
from nerve.store.table.writer import LogWriter
from nerve.workers import bootstrap

logger = logging.getLogger("nerve.writer")

FIRST_COMMIT_SECONDS = 0.05
"""How long a new writer only reads, from when all who know its predecessor are back: they send again what they hold."""

PATIENCE_SECONDS = 1.0
"""How long it waits for them at most: one may be stopped, or have been killed."""

DISK_RETRY_SECONDS = 0.25
ORPHAN_SECONDS = 1.5
"""How long the writer goes on draining after the kernel has died."""

LANE_MEMORY_SECONDS = 60 * 60.0
"""How long a producer that vanished without a goodbye is remembered: if it lived, it would have been back long ago."""

RATE_SECONDS = 5.0


class Rate:
    """Committed events over the last few seconds."""

    def __init__(self) -> None:
        self._commits: deque[tuple[float, int]] = deque()

    def add(self, now: float, count: int) -> None:
        """Count a commit of `count` events."""
        self._commits.append((now, count))
        self._forget(now)

    def per_second(self, now: float) -> float:
        """Give events a second over the last RATE_SECONDS."""
        self._forget(now)
        return sum(count for _, count in self._commits) / RATE_SECONDS

    def _forget(self, now: float) -> None:
        while self._commits and self._commits[0][0] < now - RATE_SECONDS:
            self._commits.popleft()


class Writer:
    """One loop over the lanes, the kernel's link and the archiver's orders; commits are its only blocking work."""

    def __init__(self, context: ChildContext, link: Channel[ToChild], store: LogWriter, clock: Clock) -> None:
        self._link = link
        self._store = store
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._receiver = EventReceiver(
            context.boot.listener, self._selector, clock, store.position, self._forget, self._offended
        )
        self._selector.register(link, selectors.EVENT_READ, self._obey)
        self._receiver.expect(store.producers())
        self._own: list[LogEvent] = []
        self._oldest: float | None = None
        self._last_commit = 0.0
        self._gather = 0.0
        self._hold_until = clock.now() + FIRST_COMMIT_SECONDS
        self._patient_until = clock.now() + PATIENCE_SECONDS
        self._lag_ms = 0.0
        self._outage: str | None = None
        self._rate = Rate()
        self._upkeep = OrderExecutor(store, clock, self._hears_of_the_end)
        self._wal = Checkpointer(store, clock, self._record)
        self._deadline: float | None = None
        self._finishing = False

    def run(self) -> None:
        """Serve until told to finish, or until the kernel is gone; then drain, commit and return."""
        while not self._finished():
            self._turn()
        self._commit(last=True)
        self._receiver.close()

    def _turn(self) -> None:
        """Wait for what comes next, and do what is due."""
        self._wait()
        if self._oldest is not None and self._commit_at() <= self._clock.now():
            self._commit()
        if self._receiver.requests:
            self._serve(self._receiver.requests[0])
        elif self._is_idle():
            self._reclaim()
        if not self._finishing and self._deadline is None:
            self._wal.maintain()

    def _is_idle(self) -> bool:
        """There is unused space to give back, and nothing else to do."""
        return self._upkeep.reclaiming and self._oldest is None and not self._finishing and self._deadline is None

    def _finished(self) -> bool:
        if self._deadline is not None and self._clock.now() >= self._deadline:
            return True
        nothing_waits = self._oldest is None and not self._receiver.requests
        nobody_sends = self._finishing or (self._deadline is not None and self._receiver.producers == 0)
        return nothing_waits and nobody_sends

    def _commit_at(self) -> float:
        if self._finishing or self._oldest is None:
            return 0.0
        if self._clock.now() < self._hold_until:
            return self._hold_until
        return commit_due(self._oldest, self._last_commit, self._gather, self._receiver.waiting)

    def _wait(self) -> None:
        upkeep = self._wal.next_deadline() if self._deadline is None else self._deadline
        moments = [] if upkeep is None else [upkeep]
        if self._oldest is not None:
            moments.append(self._commit_at())
        if self._receiver.requests or self._finishing or self._is_idle():
            timeout: float | None = 0.0
        else:
            timeout = max(0.0, min(moments) - self._clock.now()) if moments else None
        for key, _mask in self._selector.select(timeout):
            act: Callable[[], None] = key.data
            act()
        self._welcome_back()
        if self._finishing:
            self._receiver.drain()
        if self._oldest is None and (self._receiver.waiting or self._own):
            self._oldest = self._clock.now()

    def _welcome_back(self) -> None:
        """Put the first commit off while somebody is missing: what they hold may come before what is there."""
        now = self._clock.now()
        if not self._last_commit and now < self._patient_until and self._receiver.awaits():
            self._hold_until = now + FIRST_COMMIT_SECONDS

    def _obey(self) -> None:
        for message in self._link.receive():
            match message:
                case Finish():
                    self._finishing = True
                case GetReport():
                    self._link.send(self._report())
                case _:
                    logger.error("the kernel sent the writer a %s", type(message).__name__)
        self._link.flush()
        if self._link.ended and self._deadline is None:
            self._selector.unregister(self._link)
            self._deadline = self._clock.now() + ORPHAN_SECONDS

    def _hears_of_the_end(self) -> bool:
        """Hear the kernel in the middle of long work, and tell whether that must end."""
        self._obey()
        return self._finishing or self._link.ended

    def _commit(self, *, last: bool = False) -> None:
        """Commit everything stamped up to now; what arrives meanwhile belongs to the next commit, if there is one."""
        began = self._clock.now()
        cutoff, most = (sys.maxsize, sys.maxsize) if last else (self._clock.stamp().mono, MAX_GROUP_EVENTS)
        self._receiver.drain()
        gathered = self._receiver.take(cutoff, most)
        gathered, self._own = Gathered([*gathered.events, *self._own], gathered.positions), []
        if gathered.events or gathered.positions:
            self._append(gathered)
            self._receiver.acknowledge(gathered.positions)
        self._receiver.forget_absent(LANE_MEMORY_SECONDS)
        now = self._last_commit = self._clock.now()
        self._gather = group_seconds(now - began)
        self._wal.committed()
        self._rate.add(now, len(gathered.events))
        if gathered.events:
            self._lag_ms = (self._clock.stamp().mono - gathered.events[0].mono) / 1e6
        self._oldest = now if self._receiver.waiting or self._own else None

    def _append(self, gathered: Gathered) -> None:
        """Append, as often as it takes: a full disk makes producers wait, it never loses what they handed over."""
        started = self._clock.now()
        while True:
            try:
                self._store.append(gathered.events, gathered.positions)
            except DiskError as error:
                if self._outage is None:
                    logger.error("can't write the log, producers wait: %s", error)  # noqa: TRY400 - it is one line
                self._outage = str(error)
                if self._gave_up():
                    raise self._giving_up(gathered, error) from error
                self._pause()
                continue
            if self._outage:
                self._recovered(self._outage, self._clock.now() - started)
            return

    def _pause(self) -> None:
        """Leave the disk some time, but hear the kernel at once."""
        if self._link.ended:
            time.sleep(DISK_RETRY_SECONDS)
        else:
            select.select([self._link], [], [], DISK_RETRY_SECONDS)

    def _gave_up(self) -> bool:
        self._obey()
        return self._finishing or (self._deadline is not None and self._clock.now() >= self._deadline)

    def _giving_up(self, gathered: Gathered, why: DiskError) -> StoreError:
        """Count what is lost, as the end has come before the disk let us write."""
        self._receiver.drain()
        lost = len(gathered.events) + self._receiver.waiting
        return StoreError(f"what was waiting to be written is lost (entries: {lost}): {why}")

    def _recovered(self, outage: str, seconds: float) -> None:
        self._outage = None
        message = f"the log could not be written for {seconds:.1f} s ({outage}); producers waited, nothing is lost"
        self._record(ErrorDetail("disk", message))

    def _serve(self, request: PendingOrder) -> None:
        """Carry out one bounded step of the order at the head, between two commits."""
        try:
            done = self._upkeep.step(request)
        except StoreError as error:
            done = Done(request.order.request, 0, str(error))
        if done is not None:
            self._receiver.answer(request, done)

    def _reclaim(self) -> None:
        try:
            self._upkeep.reclaim()
        except StoreError as error:
            logger.warning("unused space is not given back before the archiver's next run: %s", error)

    def _forget(self, producer: str) -> None:
        try:
            self._store.forget(producer)
        except DiskError as error:
            logger.warning("the position of %s is kept until the next start: %s", producer, error)

    def _offended(self, message: str) -> None:
        self._record(ErrorDetail("wire", message))

    def _record(self, detail: ErrorDetail) -> None:
        """Have an error of the writer's own committed with what comes next, or else alone."""
        logger.warning(detail.message)
        self._own.append(catalog.error(self._clock.stamp(), "writer", detail))
        if self._oldest is None:
            self._oldest = self._clock.now()

    def _report(self) -> WriterReport:
        now = self._clock.now()
        waited_ms = 0.0 if self._oldest is None else (now - self._oldest) * 1000
        return WriterReport(
            committed=self._store.committed,
            events_per_s=self._rate.per_second(now),
            lag_ms=max(self._lag_ms, waited_ms),
            queue_depth=self._receiver.waiting,
            wal_bytes=self._store.wal_bytes(),
            outage=self._outage,
        )


def main(context: ChildContext) -> None:
    """Open the log, settle what an earlier boot left open, and write until told to finish (child)."""
    link = bootstrap.enter(context)
    gc.set_threshold(100_000)  # batches that wait for their commit are many objects, and none of them garbage
    clock = SystemClock()
    try:
        store = LogWriter.open(context.boot.workspace.logs_db)
        try:
            store.begin_boot(context.boot.boot_id, clock.stamp())
            writer = Writer(context, link, store, clock)
            link.send(Ready())
            writer.run()
        finally:
            store.close()
    except NerveError as error:
        link.send(Failed(str(error)))
        raise SystemExit(1) from None
