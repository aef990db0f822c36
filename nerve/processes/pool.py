"""The pool of compute workers, seen from the kernel: which are idle, which run what until when, and which died."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from nerve.control.status import WorkerStatus
from nerve.errors import WireError
from nerve.events.model import Status
from nerve.processes.child import Child, describe_exit
from nerve.processes.messages import Failed, Finish, FromChild, Ready, RunResult
from nerve.processes.restart import FIRST_DELAY_SECONDS, restart_delay
from nerve.processes.worker_handle import EndedRun, RecordedRun, WorkerHandle
from nerve.reload.codebase import Version

logger = logging.getLogger("nerve.kernel")

TRACE_SECONDS = 0.1
"""How long a worker that is about to be killed has to write its stack."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker is replaced between two runs: after `max_runs` of them, or above `max_rss` bytes of memory."""

    max_runs: int | None = None
    max_rss: int | None = None

    def exceeded(self, runs: int, rss_bytes: int | None) -> bool:
        """Return True if a worker is to be replaced."""
        over_runs = self.max_runs is not None and runs >= self.max_runs
        return over_runs or (self.max_rss is not None and rss_bytes is not None and rss_bytes > self.max_rss)


class Slot(NamedTuple):
    """A reserved place for one run: on an idle worker, or queued on a busy one, which takes a `quick` run."""

    worker: WorkerHandle
    quick: bool


@dataclass(slots=True)
class Pool:
    """Long-lived workers, each of which does one run at a time. A worker that dies costs one run, and is replaced.

    While no worker is idle, quick runs are queued on busy ones. Queued runs that a worker does not begin, because its
    current run is slow or because it ends, are taken back: see `take_returned`. `fork` makes a worker; `watch` and
    `forget` have the loop watch its link.
    """

    fork: Callable[[], Child]
    watch: Callable[[WorkerHandle], None]
    forget: Callable[[WorkerHandle], None]
    size: int
    limits: Limits = field(default_factory=Limits)
    workers: dict[int, WorkerHandle] = field(default_factory=dict)
    closed: bool = False
    _returned: list[RecordedRun] = field(default_factory=list)
    _failed_starts: list[float] = field(default_factory=list)
    _fork_at: float = 0.0

    def fill(self, now: float) -> None:
        """Fork the workers that are missing, unless that is delayed after a failure."""
        while self._lacks_workers and now >= self._fork_at:
            try:
                worker = WorkerHandle(self.fork())
            except OSError as error:  # out of memory or processes, which may pass
                logger.warning("can't fork a worker, and will try again: %s", error.strerror)
                self._delay_fork(now)
                return
            self.workers[worker.child.pid] = worker
            self.watch(worker)

    def resize(self, size: int, now: float) -> None:
        """Set the number of workers: `fill` forks the missing ones, surplus ones exit after their current run."""
        self.size = size
        serving = [worker for worker in self.workers.values() if not worker.stopping]
        idle_first = sorted(serving, key=lambda worker: worker.open_run is not None)
        for worker in idle_first[: max(0, len(serving) - size)]:
            self._retire(worker, now)

    # Runs.

    def reserve(self, sense: str, version: Version, *, quick: bool) -> Slot | None:
        """Reserve a slot for one run of this version of a sense; return None if there is none.

        Any run takes an idle worker. If there is none, a quick one is queued on the worker that has most room for it,
        of those that have its code. A slot must be passed to `dispatch` or `release` before anything else happens.
        """
        may_queue = quick and self._may_queue
        best, most = None, 0
        for worker in self.workers.values():
            if worker.is_free:
                worker.reserved, worker.quick = 1, quick
                return Slot(worker, quick)
            if may_queue and worker.versions.get(sense) is version and worker.room > most:
                best, most = worker, worker.room
        if best is None:
            return None
        best.reserved += 1
        return Slot(best, quick)

    def dispatch(self, runs: Iterable[tuple[RecordedRun, Slot]], now: float) -> None:
        """Hand out runs, in order, each to the worker of the slot that was reserved for it."""
        by_worker: dict[WorkerHandle, list[RecordedRun]] = {}
        for recorded, slot in runs:
            by_worker.setdefault(slot.worker, []).append(recorded)
        for worker, handed in by_worker.items():
            returned = worker.hand_over(handed, now)
            if returned:  # the first of them is too large for a pipe: it has to wait for an idle worker
                self._returned += (msgspec.structs.replace(returned[0], quick=False), *returned[1:])

    def release(self, slots: Iterable[Slot]) -> None:
        """Give up reserved slots."""
        for slot in slots:
            slot.worker.reserved = 0

    def take_returned(self) -> list[RecordedRun]:
        """Return the runs that were taken back since the last call; each needs another slot."""
        returned, self._returned = self._returned, []
        return returned

    def receive(self, worker: WorkerHandle, now: float) -> list[EndedRun]:
        """Handle a worker's messages; return the runs that have ended."""
        ended = []
        for message in self._messages(worker):
            match message:
                case Ready():
                    worker.child.ready = True
                    self._failed_starts = []
                case RunResult() if worker.open_run and message.run_id == worker.open_run.run.run_id:
                    ended.append(EndedRun(worker.open_run.run, message, worker.child.pid, died=message.out_of_memory))
                    worker.stopping = worker.stopping or message.out_of_memory
                    worker.rss_bytes = message.rss_bytes
                    self._end_run(worker, now)
                case Failed(message=reason):
                    worker.child.failure = reason
                case _:
                    worker.child.failure = f"it sent an unexpected {type(message).__name__}"
        worker.child.link.flush()
        if worker.child.link.ended:
            self.forget(worker)
        return ended

    def reap(self, now: float) -> list[EndedRun]:
        """Remove the workers that have exited; return the runs that ended before that, or died with them."""
        ended = []
        for pid, worker in list(self.workers.items()):
            code = worker.child.reap()
            if code is None:
                continue
            ended += self.receive(worker, now)  # it may have finished its run just before
            self._returned += worker.unbegun(now)
            if worker.open_run:
                ended += worker.died(code, now)
            elif not worker.stopping:
                logger.warning("the worker (pid %d) died between two runs: %s", pid, describe_exit(code))
                self._delay_fork(now, served=worker.child.ready)
            del self.workers[pid]
            self.forget(worker)
            worker.child.close()
        return ended

    # Deadlines and the end.

    def enforce(self, now: float) -> None:
        """Kill the workers whose run has passed its timeout and grace period, after they could write their stack.

        Take back the runs that are queued behind a run that turned out slow.
        """
        for worker in self.workers.values():
            if worker.stalls_at is not None and now >= worker.stalls_at:
                self._returned += worker.take_back(now)
            if worker.kill_at is None and worker.open_run and now >= worker.deadline:
                self._abort(worker, "timeout", now)
            elif worker.kill_at is not None and now >= worker.kill_at and not worker.stopping:
                self._kill(worker)

    def next_deadline(self) -> float | None:
        """Return when `enforce` or `fill` has something to do next, in monotonic seconds; None for never."""
        moments = [
            worker.deadline if worker.kill_at is None else worker.kill_at
            for worker in self.workers.values()
            if worker.open_run and not worker.stopping
        ]
        moments += [at for worker in self.workers.values() if (at := worker.stalls_at) is not None]
        if self._lacks_workers:
            moments.append(self._fork_at)
        return min(moments, default=None)

    def close(self, now: float) -> None:
        """Accept no further runs, and let every worker exit after its current one. May be called twice."""
        self.closed = True
        for worker in self.workers.values():
            self._retire(worker, now)

    def interrupt(self) -> None:
        """Interrupt the computes that still run, because the engine stops."""
        for worker in self.busy:
            worker.child.signal(signal.SIGUSR1)

    def kill(self, now: float) -> None:
        """Kill all workers, because the engine stops: busy ones after they could write their stack."""
        for worker in self.workers.values():
            if worker.open_run and worker.kill_at is None:
                self._abort(worker, "cancelled", now)
            elif not worker.open_run:
                worker.child.signal(signal.SIGKILL)

    @property
    def busy(self) -> list[WorkerHandle]:
        """The workers that have a run."""
        return [worker for worker in self.workers.values() if worker.open_run]

    def statuses(self) -> list[WorkerStatus]:
        """Return each worker as `nerve status` shows it; the command itself adds the memory."""
        return [
            WorkerStatus(
                pid=worker.child.pid,
                state=worker.state,
                run=worker.open_run.run.run_id if worker.open_run else None,
                sense=worker.open_run.run.sense if worker.open_run else None,
                rss_bytes=None,
                runs=worker.runs,
            )
            for worker in self.workers.values()
        ]

    @property
    def _lacks_workers(self) -> bool:
        return not self.closed and self._serving < self.size

    @property
    def _serving(self) -> int:
        return sum(1 for worker in self.workers.values() if not worker.stopping)

    @property
    def _has_surplus(self) -> bool:
        return len(self.workers) > self.size and self._serving > self.size

    @property
    def _may_queue(self) -> bool:
        # A worker that may have to be replaced after its run should have nothing queued.
        return not self.closed and self.limits.max_runs is None and self.limits.max_rss is None

    def _messages(self, worker: WorkerHandle) -> list[FromChild]:
        """Return a worker's messages; kill it if it sent anything else, for its further bytes mean nothing either."""
        try:
            return worker.child.link.receive()
        except WireError as error:
            worker.child.failure = f"it sent an invalid message: {error}"
            worker.child.link.ended = worker.protocol_error = True
            self._kill(worker)
            return []

    def _end_run(self, worker: WorkerHandle, now: float) -> None:
        if worker.kill_reason:
            worker.child.crash_trace()  # it came back after all: the stack it wrote must not be taken for a later one
        worker.end_run(now)
        if self.closed or self._has_surplus or self.limits.exceeded(worker.runs, worker.rss_bytes):
            self._retire(worker, now)

    def _retire(self, worker: WorkerHandle, now: float) -> None:
        """Let a worker exit after its current run."""
        self._returned += worker.take_back(now)
        if not worker.open_run and not worker.stopping:
            worker.stopping = True
            worker.child.send(Finish())

    def _abort(self, worker: WorkerHandle, reason: Status, now: float) -> None:
        """Ask a worker for its stack, and kill it a moment later."""
        worker.kill_reason = reason
        worker.kill_at = now + TRACE_SECONDS
        worker.child.signal(signal.SIGUSR2)

    def _kill(self, worker: WorkerHandle) -> None:
        worker.stopping = True  # it must be given nothing until it is reaped, though a result may still arrive
        worker.child.signal(signal.SIGKILL)

    def _delay_fork(self, now: float, *, served: bool = False) -> None:
        """Wait before the next fork: shortly after a worker that `served`, longer and longer while none gets to."""
        if served:
            self._fork_at = now + FIRST_DELAY_SECONDS
            return
        self._failed_starts = [*self._failed_starts[-20:], now]
        # A pool never gives up: a machine that can't fork now may be able to later.
        self._fork_at = now + (restart_delay(self._failed_starts, 0, now) or 0.0)
