"""The writer: reads the lanes and commits in groups; the only process that writes logs.db."""

from __future__ import annotations

import gc
import logging
import select
import selectors
import time
from collections.abc import Callable, Sequence

from nerve.clock import Clock, SystemClock
from nerve.errors import DiskError, NerveError, StoreError
from nerve.eventqueue import EventReceiver, Gathered
from nerve.eventqueue.group_commit import MAX_GROUP_EVENTS, commit_due, group_seconds
from nerve.eventqueue.lane_file import is_held
from nerve.events import catalog
from nerve.events.model import ErrorDetail, LogEvent
from nerve.ipc.channel import Channel
from nerve.maintenance.checkpoints import Checkpointer
from nerve.maintenance.commit_rate import CommitRate
from nerve.maintenance.order_socket import OrderServer, PendingOrder
from nerve.maintenance.orders import OrderExecutor
from nerve.maintenance.recovery import log_number, recover, remove_lanes
from nerve.processes.child import ChildContext
from nerve.processes.messages import (
    Committed,
    Failed,
    Finish,
    GetReport,
    LaneCorrupt,
    Lanes,
    Ready,
    ToChild,
    WriterReport,
)
from nerve.store.archive.order_messages import Done
from nerve.store.table.writer import LogWriter
from nerve.units import format_size
from nerve.workers import bootstrap

logger = logging.getLogger("nerve.writer")

DISK_RETRY_SECONDS = 0.25
ORPHAN_SECONDS = 1.5
"""The longest time that the writer continues after the kernel has died; the next start writes what is left."""

ORPHAN_LOOK_SECONDS = 0.02
"""How often it then checks whether all producers have exited."""

SECOND_LOOK_SECONDS = 0.002
"""How long the first sleep of an idle writer is at most.

A CPU can delay a store past the next load, so a producer may have missed that it has to wake the writer.
"""


class Writer:
    """One loop over the lanes, the kernel's link and the archiver's orders; commits are its only blocking work."""

    def __init__(self, context: ChildContext, link: Channel[ToChild], store: LogWriter, clock: Clock) -> None:
        if context.wakeup is None:
            raise TypeError("the writer needs the wakeup")
        self._link = link
        self._store = store
        self._clock = clock
        self._wakeup = context.wakeup
        self._folder = context.boot.workspace.lanes_dir
        self._selector = selectors.DefaultSelector()
        self._receiver = EventReceiver(
            self._folder, log_number(store.log_id), store.position, clock, self._report_violation
        )
        self._orders = OrderServer(context.boot.listener, self._selector, self._report_violation)
        self._selector.register(link, selectors.EVENT_READ, self._receive)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._wakeup.clear)
        self._own: list[LogEvent] = []
        self._reported: set[str] = set()
        self._oldest: float | None = None
        self._looked = False
        self._last_commit = 0.0
        self._gather = 0.0
        self._lag_ms = 0.0
        self._outage: str | None = None
        self._rate = CommitRate()
        self._upkeep = OrderExecutor(store, clock, self._hears_of_the_end)
        self._wal = Checkpointer(store, clock, self._record)
        self._deadline: float | None = None
        self._finishing = False

    def run(self) -> None:
        """Serve until the kernel sends Finish, and then until everything is committed.

        If the kernel has died, return when no producer is left, or at a deadline; the next start writes what is left.
        """
        while not self._finished():
            self._turn()
        self._remove_ended()
        self._receiver.close()
        self._orders.close()

    def _turn(self) -> None:
        """Wait for what comes next, and do what is due."""
        self._wait()
        if self._oldest is not None and self._commit_at() <= self._clock.now():
            self._commit()
        self._remove_ended()
        if self._orders.pending:
            self._serve(self._orders.pending[0])
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
        if self._finishing:
            for lane in self._receiver.lanes:
                lane.gone = True
        nothing_waits = self._oldest is None and not self._orders.pending and not self._receiver.has_news
        return nothing_waits and (self._finishing or (self._deadline is not None and self._all_ended()))

    def _all_ended(self) -> bool:
        """Return True if no producer is left, after the death of the kernel."""
        for lane in self._receiver.lanes:
            lane.gone = lane.gone or not is_held(lane.path)
        return all(lane.gone for lane in self._receiver.lanes) and not self._receiver.has_news

    def _commit_at(self) -> float:
        if self._finishing or self._oldest is None:
            return 0.0
        if self._receiver.waiting >= MAX_GROUP_EVENTS or self._receiver.is_pressed:
            return self._oldest
        return commit_due(self._oldest, self._last_commit, self._gather)

    def _wait(self) -> None:
        timeout = self._timeout()
        if timeout != 0.0:
            timeout = self._before_sleep(timeout)
        for key, _mask in self._selector.select(timeout):
            act: Callable[[], None] = key.data
            act()
        if self._oldest is None and (self._own or self._receiver.waiting or self._receiver.has_news):
            self._oldest = self._clock.now()

    def _timeout(self) -> float | None:
        """Return for how many seconds there is nothing to do; None without a limit."""
        if self._orders.pending or self._finishing or self._is_idle():
            return 0.0
        moments = [self._wal.next_deadline()] if self._deadline is None else [self._clock.now() + ORPHAN_LOOK_SECONDS]
        if self._oldest is not None:
            moments.append(self._commit_at())
        due = min((moment for moment in moments if moment is not None), default=None)
        return None if due is None else max(0.0, due - self._clock.now())

    def _before_sleep(self, timeout: float | None) -> float | None:
        """Have producers wake the writer, and return how long it may sleep.

        While events are gathered, only a producer that needs space wakes it.
        """
        if self._oldest is not None:
            self._receiver.wake_when_pressed()
            return 0.0 if self._receiver.is_pressed else timeout
        self._receiver.wake_on_publish()
        if self._receiver.has_news:
            return 0.0
        if self._looked:
            return timeout
        self._looked = True
        return SECOND_LOOK_SECONDS if timeout is None else min(SECOND_LOOK_SECONDS, timeout)

    def _receive(self) -> None:
        for message in self._link.receive():
            match message:
                case Lanes(live, gone):
                    self._follow(live, gone)
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

    def _follow(self, live: Sequence[str], gone: Sequence[str]) -> None:
        """Open the lanes of new producers, and mark those whose producers have exited."""
        for producer in live:
            if self._receiver.open(producer) is None:
                self._report_corrupt_lane(producer, "its file is missing or is not a lane")
        for producer in gone:
            lane = self._receiver.open(producer)
            if lane:
                lane.gone = True

    def _report_corrupt_lane(self, producer: str, reason: str) -> None:
        """Have the kernel replace the producer of a corrupt lane, once."""
        if producer not in self._reported:
            self._reported.add(producer)
            self._link.send(LaneCorrupt(producer, reason))

    def _remove_ended(self) -> None:
        """Remove the drained lanes of producers that are gone."""
        ended = self._receiver.ended()
        if ended:
            try:
                remove_lanes(self._receiver, ended, self._store, self._clock)
            except DiskError as error:
                logger.warning("a corrupt lane can't be reported yet: %s", error)

    def _hears_of_the_end(self) -> bool:
        """Hear the kernel in the middle of long work, and tell whether that must end."""
        self._receive()
        return self._finishing or self._link.ended

    def _commit(self) -> None:
        """Commit what was made before this call, up to a full group; later events belong to the next commit."""
        began = self._clock.now()
        cutoff = self._clock.stamp().mono
        self._receive()  # so that every lane is open whose events can have caused others before the cutoff
        self._receiver.drain(MAX_GROUP_EVENTS)
        gathered = self._receiver.take(cutoff, MAX_GROUP_EVENTS)
        gathered, self._own = Gathered([*gathered.events, *self._own], gathered.positions), []
        if gathered.events or gathered.positions:
            self._append(gathered)
            if self._receiver.acknowledge(gathered.positions):
                self._link.send(Committed())
        for lane in self._receiver.lanes:
            if lane.corrupt is not None:
                self._report_corrupt_lane(lane.producer, lane.corrupt)
        now = self._last_commit = self._clock.now()
        self._gather = group_seconds(now - began)
        self._wal.committed()
        self._rate.add(now, len(gathered.events))
        if gathered.events:
            self._lag_ms = (self._clock.stamp().mono - gathered.events[0].mono) / 1e6
        waits = self._receiver.waiting or self._own or self._receiver.has_news
        self._oldest, self._looked = now if waits else None, False

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
                    raise self._giving_up(error) from error
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
        self._receive()
        return self._finishing or (self._deadline is not None and self._clock.now() >= self._deadline)

    def _giving_up(self, why: DiskError) -> StoreError:
        """Return the error for a stop on a full disk: it says where the events are."""
        size = format_size(self._receiver.uncommitted)
        return StoreError(
            f"the log can't be written ({why}): {size} of events wait in {self._folder}, the next start writes them"
        )

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
            self._orders.answer(request, done)

    def _reclaim(self) -> None:
        try:
            self._upkeep.reclaim()
        except StoreError as error:
            logger.warning("unused space is not given back before the archiver's next run: %s", error)

    def _report_violation(self, message: str) -> None:
        self._record(ErrorDetail("wire", message))

    def _record(self, detail: ErrorDetail) -> None:
        """Have an error of the writer's own committed with what comes next, or else alone."""
        logger.warning(detail.message)
        self._own.append(catalog.error(self._clock.stamp(), "writer", detail))
        if self._oldest is None:
            self._oldest = self._clock.now()

    def _report(self) -> WriterReport:
        now = self._clock.now()
        lanes = tuple(self._receiver.backlog())
        waited_ms = 0.0 if self._oldest is None else (now - self._oldest) * 1000
        return WriterReport(
            committed=self._store.committed,
            events_per_s=self._rate.per_second(now),
            lag_ms=max(self._lag_ms, waited_ms),
            queue_depth=self._receiver.waiting,
            wal_bytes=self._store.wal_bytes(),
            outage=self._outage,
            lanes=lanes,
        )


def main(context: ChildContext) -> None:
    """Open the log, write and settle what an earlier boot has left, and write until told to finish (child)."""
    link = bootstrap.enter(context)
    gc.set_threshold(100_000)  # batches that wait for their commit are many objects, and none of them garbage
    clock = SystemClock()
    try:
        store = LogWriter.open(context.boot.workspace.logs_db)
        try:
            recover(store, context.boot.workspace.lanes_dir, clock, context.boot.boot_id)
            store.begin_boot(context.boot.boot_id, clock.stamp())
            writer = Writer(context, link, store, clock)
            link.send(Ready())
            writer.run()
        finally:
            store.close()
    except NerveError as error:
        link.send(Failed(str(error)))
        raise SystemExit(1) from None
