"""The pool, the parent's side: who is idle, who runs what until when, and who has died; in the kernel."""

from __future__ import annotations

import logging
import signal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nerve.errors import WireError
from nerve.events.model import Status
from nerve.processes.child import Child, describe_exit
from nerve.processes.messages import Failed, Finish, FromChild, Ready, Run, RunResult
from nerve.processes.prefetch import PREFETCHING
from nerve.processes.restart import FIRST_DELAY_SECONDS, restart_delay
from nerve.processes.worker_handle import EndedRun, WorkerHandle
from nerve.scheduling.slots import PREFETCH_RUNS, Places

logger = logging.getLogger("nerve.kernel")

TRACE_SECONDS = 0.1
"""How long a worker that is about to be killed has for writing where it hangs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker is replaced between two runs: after so many of them, or with more than `max_rss` bytes."""

    max_runs: int | None = None
    max_rss: int | None = None

    def worn(self, runs: int, rss_bytes: int | None) -> bool:
        """Tell whether a worker is over a limit."""
        over_runs = self.max_runs is not None and runs >= self.max_runs
        return over_runs or (self.max_rss is not None and rss_bytes is not None and rss_bytes > self.max_rss)


_NO_LIMITS = Limits()


@dataclass(slots=True)
class Pool:
    """Long-lived workers, one run each at a time. A worker that dies costs one run, and is replaced.

    Where nobody is idle, quick runs are handed out ahead; what a worker does not come to is taken back, also when
    it dies, and waits in `returned`. `fork` makes a worker; `watch` and `forget` tell the loop about its link.
    """

    fork: Callable[[float], Child]
    watch: Callable[[WorkerHandle], None]
    forget: Callable[[WorkerHandle], None]
    size: int
    limits: Limits = field(default_factory=Limits)
    workers: dict[int, WorkerHandle] = field(default_factory=dict)
    returned: list[Run] = field(default_factory=list)
    """Runs that were handed out ahead, and taken back: they must be dispatched again."""
    _failed_starts: list[float] = field(default_factory=list)
    _fork_at: float = 0.0
    closed: bool = False

    def fill(self, now: float) -> None:
        """Fork the workers that are missing, unless their start is put off."""
        while self._lacks_workers and now >= self._fork_at:
            try:
                worker = WorkerHandle(self.fork(now))
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

    @property
    def _has_too_many(self) -> bool:
        return len(self.workers) > self.size and self._serving > self.size

    def resize(self, size: int, now: float) -> None:
        """Have another number of workers: `fill` forks what is missing, those too many finish once they are idle."""
        self.size = size
        serving = [worker for worker in self.workers.values() if not worker.stopping]
        idle_first = sorted(serving, key=lambda worker: worker.open_run is not None)
        for worker in idle_first[: max(0, len(serving) - size)]:
            self._retire(worker, now)

    @property
    def free(self) -> int:
        """How many runs would begin at once."""
        return sum(worker.is_free for worker in self.workers.values())

    def places(self, is_quick: Callable[[str], bool]) -> Places:
        """Give the places that there are for runs now; `is_quick` tells which senses may wait behind each other."""
        return Places(self.free, sum(self._room().values()), self._ahead_at_most, is_quick)

    @property
    def _ahead_at_most(self) -> int:
        # A worker that may have to be replaced after its run should have nothing before it.
        return PREFETCH_RUNS if PREFETCHING and self.limits == _NO_LIMITS and not self.closed else 0

    def _room(self) -> dict[WorkerHandle, int]:
        """Tell how many further quick runs each worker may have before it."""
        most = self._ahead_at_most
        return {w: most - len(w.ahead) for w in self.workers.values() if w.has_patience and len(w.ahead) < most}

    @property
    def busy(self) -> list[WorkerHandle]:
        """The workers that have a run."""
        return [worker for worker in self.workers.values() if worker.open_run]

    def dispatch(self, runs: deque[Run], now: float, is_quick: Callable[[str], bool]) -> list[Run]:
        """Hand out runs, first due first: to idle workers, and behind busy ones. Those that nobody takes are left.

        Gives those that were to wait behind another, but had no room there.
        """
        idle = deque(worker for worker in self.workers.values() if worker.is_free)
        room = self._room()
        while runs:
            quick = is_quick(runs[0].sense)
            if idle:
                worker = idle.popleft()
                room[worker] = self._ahead_at_most if quick else 0
            else:
                knowing = [worker for worker in room if room[worker] and worker.knows(runs[0])] if quick else []
                if not knowing:
                    break
                worker = max(knowing, key=room.__getitem__)
                room[worker] -= 1
            worker.take_on(runs.popleft(), now, quick=quick)
        return [run for worker in self.workers.values() if worker.outgoing for run in worker.hand_over()]

    def hear(self, worker: WorkerHandle, now: float) -> Iterator[EndedRun]:
        """Take what a worker says: the end of its runs."""
        for message in self._received(worker):
            match message:
                case Ready():
                    worker.child.ready = True
                    self._failed_starts = []
                case RunResult() if worker.open_run and message.run_id == worker.open_run.run.run_id:
                    ended = EndedRun(worker.open_run, message, worker.child.pid, died=message.spent)
                    worker.stopping = worker.stopping or message.spent
                    worker.rss_bytes = message.rss_bytes
                    self._release(worker, now)
                    yield ended
                case Failed(message=reason):
                    worker.child.failure = reason
                case _:
                    worker.child.failure = f"it sent an unexpected {type(message).__name__}"
        worker.child.link.flush()
        if worker.child.link.ended:
            self.forget(worker)

    def _received(self, worker: WorkerHandle) -> list[FromChild]:
        """Give a worker's messages; one that says anything else is killed, for its next words would mean as little."""
        try:
            return worker.child.link.receive()
        except WireError as error:
            worker.child.failure = f"what it sent made no sense: {error}"
            worker.child.link.ended = worker.garbled = True
            self._kill(worker)
            return []

    def reap(self, now: float) -> Iterator[EndedRun]:
        """Notice the workers that have ended, and give the runs that ended with them."""
        for pid, worker in list(self.workers.items()):
            code = worker.child.reap()
            if code is None:
                continue
            yield from self.hear(worker, now)  # it may have finished its run just before
            self.returned += worker.left(now)
            if worker.open_run:
                yield from worker.died(code, now)
            elif not worker.stopping:
                logger.warning("the worker (pid %d) died between two runs: %s", pid, describe_exit(code))
                self._put_off(now, started=worker.child.ready)
            del self.workers[pid]
            self.forget(worker)
            worker.child.close()

    def enforce(self, now: float) -> None:
        """Kill the workers whose run is past its timeout and grace period, after asking them where they hang.

        Runs behind one that was expected to be over by now are taken back.
        """
        for worker in self.workers.values():
            if worker.stalls_at is not None and now >= worker.stalls_at:
                self.returned += worker.take_back(now)
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
        moments += [at for worker in self.workers.values() if (at := worker.stalls_at) is not None]
        if self._lacks_workers:
            moments.append(self._fork_at)
        return min(moments, default=None)

    def close(self, now: float) -> None:
        """Take no more runs, and let every worker finish once it is idle. May be called twice."""
        self.closed = True
        for worker in self.workers.values():
            self._retire(worker, now)

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

    def _release(self, worker: WorkerHandle, now: float) -> None:
        if worker.condemned:
            worker.child.crash_trace()  # it has come back after all: where it hung matters no more
        worker.done(now)
        if self.closed or self._has_too_many or self.limits.worn(worker.runs, worker.rss_bytes):
            self._retire(worker, now)

    def _retire(self, worker: WorkerHandle, now: float) -> None:
        """Have a worker finish once it is idle."""
        self.returned += worker.take_back(now)
        if not worker.open_run:
            self._finish(worker)

    def _condemn(self, worker: WorkerHandle, status: Status, now: float) -> None:
        worker.condemned = status
        worker.kill_at = now + TRACE_SECONDS
        worker.child.signal(signal.SIGUSR2)

    def _kill(self, worker: WorkerHandle) -> None:
        worker.stopping = True  # until it is reaped: it must be given nothing, though its last outcome may yet arrive
        worker.child.signal(signal.SIGKILL)

    def _finish(self, worker: WorkerHandle) -> None:
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
