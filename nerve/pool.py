"""The pool, the parent's side: who is idle, who runs what until when, and who has died; in the kernel."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from nerve.children import FIRST_DELAY_SECONDS, Child, describe_exit, restart_delay
from nerve.codebase import Version
from nerve.errors import WireError
from nerve.events import ErrorDetail, Status
from nerve.messages import Failed, Finish, FromChild, Outcome, Ready, Run
from nerve.units import format_duration

logger = logging.getLogger("nerve.kernel")

TRACE_SECONDS = 0.1
"""How long a worker that is about to be killed has for writing where it hangs."""

WorkerState = Literal["idle", "busy", "stopping"]


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that a worker has: since when, and when its worker is killed (monotonic seconds)."""

    run: Run
    started: float
    kill_at: float


@dataclass(slots=True, eq=False)
class Worker:
    """One worker of the pool."""

    child: Child
    open_run: OpenRun | None = None
    stopping: bool = False
    runs: int = 0
    rss_bytes: int | None = None
    versions: dict[str, Version] = field(default_factory=dict)
    """What it was last sent of each sense."""
    condemned: Status | None = None
    """Why it is being killed, which is then how its run ends: timeout or cancelled."""
    kill_at: float | None = None

    @property
    def state(self) -> WorkerState:
        """What it is doing, in the words of `nerve status`."""
        if self.stopping:
            return "stopping"
        return "busy" if self.open_run else "idle"


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended, with the worker that had it; `died` when it cost the worker."""

    open_run: OpenRun
    outcome: Outcome
    pid: int
    died: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker is replaced between two runs: after so many of them, or with more than `max_rss` bytes."""

    max_runs: int | None = None
    max_rss: int | None = None

    def worn(self, runs: int, rss_bytes: int | None) -> bool:
        """Tell whether a worker is over a limit."""
        over_runs = self.max_runs is not None and runs >= self.max_runs
        return over_runs or (self.max_rss is not None and rss_bytes is not None and rss_bytes > self.max_rss)


@dataclass(slots=True)
class Pool:
    """Long-lived workers, one run each at a time. A worker that dies costs one run, and is replaced.

    `fork` makes a worker; `watch` and `forget` tell the loop about its link.
    """

    fork: Callable[[float], Child]
    watch: Callable[[Worker], None]
    forget: Callable[[Worker], None]
    size: int
    limits: Limits = field(default_factory=Limits)
    workers: dict[int, Worker] = field(default_factory=dict)
    _failed_starts: list[float] = field(default_factory=list)
    _fork_at: float = 0.0
    closed: bool = False

    def fill(self, now: float) -> None:
        """Fork the workers that are missing, unless their start is put off."""
        while self._lacks_workers and now >= self._fork_at:
            try:
                worker = Worker(self.fork(now))
            except OSError as error:  # no memory or no processes left: it may pass
                logger.warning("can't fork a worker, and will try again: %s", error.strerror)
                self._put_off(now)
                return
            self.workers[worker.child.pid] = worker
            self.watch(worker)

    @property
    def _lacks_workers(self) -> bool:
        return not self.closed and self._serving < self.size

    @property
    def _serving(self) -> int:
        return sum(1 for worker in self.workers.values() if not worker.stopping)

    def resize(self, size: int) -> None:
        """Have another number of workers: `fill` forks what is missing, those too many finish once they are idle."""
        self.size = size
        for worker in list(self.workers.values()):
            if not worker.open_run and self._serving > size:
                self._finish(worker)

    @property
    def free(self) -> int:
        """How many runs could be dispatched now."""
        return sum(1 for worker in self.workers.values() if _is_free(worker))

    @property
    def busy(self) -> list[Worker]:
        """The workers that have a run."""
        return [worker for worker in self.workers.values() if worker.open_run]

    def dispatch(self, run: Run, now: float) -> None:
        """Hand a run to an idle worker (there must be one); with the sense's code, unless the worker has it."""
        worker = next(worker for worker in self.workers.values() if _is_free(worker))
        worker.open_run = OpenRun(run, now, now + run.timeout + run.grace_period)
        worker.runs += 1
        if run.version is not None and worker.versions.get(run.sense) is run.version:
            run = msgspec.structs.replace(run, version=None)
        elif run.version is not None:
            worker.versions[run.sense] = run.version
        worker.child.send(run)

    def hear(self, worker: Worker) -> Iterator[Ended]:
        """Take what a worker says: the end of its run."""
        for message in self._received(worker):
            match message:
                case Ready():
                    worker.child.ready = True
                    self._failed_starts = []
                case Outcome() if worker.open_run and message.run_id == worker.open_run.run.run_id:
                    ended = Ended(worker.open_run, message, worker.child.pid, died=message.spent)
                    worker.stopping = worker.stopping or message.spent
                    worker.rss_bytes = message.rss_bytes
                    self._release(worker)
                    yield ended
                case Failed(message=reason):
                    worker.child.failure = reason
                case _:
                    worker.child.failure = f"it sent an unexpected {type(message).__name__}"
        worker.child.link.flush()
        if worker.child.link.ended:
            self.forget(worker)

    def _received(self, worker: Worker) -> list[FromChild]:
        """Give a worker's messages; one that says anything else is killed, for its next words would mean as little."""
        try:
            return worker.child.link.receive()
        except WireError as error:
            worker.child.failure = f"what it sent made no sense: {error}"
            worker.child.link.ended = True
            self._kill(worker)
            return []

    def reap(self, now: float) -> Iterator[Ended]:
        """Notice the workers that have ended, and give the runs that ended with them."""
        for pid, worker in list(self.workers.items()):
            code = worker.child.reap()
            if code is None:
                continue
            yield from self.hear(worker)  # it may have finished its run just before
            if worker.open_run:
                yield _died(worker, worker.open_run, code, now)
            elif not worker.stopping:
                logger.warning("the worker (pid %d) died between two runs: %s", pid, describe_exit(code))
                self._put_off(now, started=worker.child.ready)
            del self.workers[pid]
            self.forget(worker)
            worker.child.close()

    def enforce(self, now: float) -> None:
        """Kill the workers whose run is past its timeout and grace period, after asking them where they hang."""
        for worker in self.workers.values():
            if worker.kill_at is None and worker.open_run and now >= worker.open_run.kill_at:
                self._condemn(worker, "timeout", now)
            elif worker.kill_at is not None and now >= worker.kill_at and not worker.stopping:
                self._kill(worker)

    def next_moment(self) -> float | None:
        """Give the moment at which `enforce` or `fill` has something to do next."""
        moments = [
            worker.kill_at if worker.kill_at is not None else worker.open_run.kill_at
            for worker in self.workers.values()
            if worker.open_run and not worker.stopping
        ]
        if self._lacks_workers:
            moments.append(self._fork_at)
        return min(moments, default=None)

    def close(self) -> None:
        """Take no more runs, and let every worker finish once it is idle. May be called twice."""
        self.closed = True
        for worker in self.workers.values():
            if not worker.open_run:
                self._finish(worker)

    def interrupt(self) -> None:
        """Interrupt the computes that are still running: the engine stops."""
        for worker in self.busy:
            worker.child.signal(signal.SIGUSR1)

    def condemn(self, now: float) -> None:
        """Kill the workers that are still there: the engine stops."""
        for worker in self.workers.values():
            if worker.open_run and worker.kill_at is None:
                self._condemn(worker, "cancelled", now)
            elif not worker.open_run:
                worker.child.signal(signal.SIGKILL)

    def _release(self, worker: Worker) -> None:
        if worker.condemned:
            worker.child.crash_trace()  # it has come back after all: where it hung matters no more
        worker.open_run = worker.kill_at = worker.condemned = None
        if self.closed or self._serving > self.size or self.limits.worn(worker.runs, worker.rss_bytes):
            self._finish(worker)

    def _condemn(self, worker: Worker, status: Status, now: float) -> None:
        worker.condemned = status
        worker.kill_at = now + TRACE_SECONDS
        worker.child.signal(signal.SIGUSR2)

    def _kill(self, worker: Worker) -> None:
        worker.stopping = True  # until it is reaped: it must be given nothing, though its last outcome may yet arrive
        worker.child.signal(signal.SIGKILL)

    def _finish(self, worker: Worker) -> None:
        if not worker.stopping:
            worker.stopping = True
            worker.child.send(Finish())

    def _put_off(self, now: float, *, started: bool = False) -> None:
        """Wait before the next fork: a little for one that served, longer and longer while none comes to serve."""
        if started:
            self._fork_at = now + FIRST_DELAY_SECONDS
            return
        self._failed_starts = [*self._failed_starts[-20:], now]
        # A pool never gives up: a machine that can't fork now may be able to later.
        self._fork_at = now + (restart_delay(self._failed_starts, 0, now) or 0.0)


def _is_free(worker: Worker) -> bool:
    return worker.child.ready and not worker.open_run and not worker.stopping and not worker.child.link.ended


def _died(worker: Worker, open_run: OpenRun, code: int, now: float) -> Ended:
    """Tell how a run ended whose worker is gone."""
    run, pid = open_run.run, worker.child.pid
    trace = worker.child.crash_trace()
    status: Status = worker.condemned or "died"
    match status:
        case "cancelled":
            error = None
        case "timeout":
            message = (
                f"{run.sense} took longer than its timeout of {format_duration(run.timeout)} and did not react to "
                f"being interrupted: its worker (pid {pid}) was killed"
            )
            error = ErrorDetail("timeout", message, exception="TimeoutError", traceback=trace)
        case _:
            reason = worker.child.failure or describe_exit(code)
            message = f"the worker (pid {pid}) that ran {run.sense} died: {reason}"
            error = ErrorDetail("worker_died", message, traceback=trace, exit_code=code)
    outcome = Outcome(run.run_id, status, (now - open_run.started) * 1000, None, error)
    return Ended(open_run, outcome, pid, died=True)
