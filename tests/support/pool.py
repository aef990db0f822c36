"""A pool of fake children, and what its tests dispatch to them."""

from __future__ import annotations

from collections import deque
from typing import cast

from nerve.events.trigger import Trigger
from nerve.processes.child import Child
from nerve.processes.messages import Ready, Run, RunResult
from nerve.processes.pool import Pool
from nerve.processes.worker_handle import WorkerHandle
from nerve.reload.codebase import Module, Version
from support.children import FakeChild

NOW = 100.0
TIMEOUT, GRACE = 30.0, 5.0
BY_INTERVAL = Trigger("interval", "a-reflex", None, 0, 0)


def run_of(sense: str = "disk", number: int = 1, version: Version | None = None) -> Run:
    """Make a run."""
    return Run(f"{sense}/{number}", sense, version, BY_INTERVAL, TIMEOUT, GRACE, 1000)


def version_of(digest: str) -> Version:
    """Make a version of a sense."""
    return Version(Module("senses.disk", "/senses/disk.py", b"", digest))


def ok(run: Run, signal: str | None = None) -> RunResult:
    """Make the outcome of a run that went well."""
    return RunResult(run.run_id, "ok", 12.0, signal)


class Rig:
    """A pool of fake children, which remembers what it forked, watched and forgot."""

    def __init__(self, size: int = 2) -> None:
        self.children: list[FakeChild] = []
        self.watched: list[int] = []
        self.forgotten: list[int] = []
        self.can_fork = True
        self.pool = Pool(self._fork, self._watch, self._forget, size)

    def start(self, now: float = NOW) -> None:
        """Fill the pool, and have every worker say that it is ready."""
        self.pool.fill(now)
        for worker in self.workers():
            self.child_of(worker).says(Ready())
            assert list(self.pool.hear(worker, NOW)) == []

    def workers(self) -> list[WorkerHandle]:
        """Give the workers that the pool has."""
        return list(self.pool.workers.values())

    def child_of(self, worker: WorkerHandle) -> FakeChild:
        """Give the fake that a worker is."""
        return cast(FakeChild, worker.child)

    def dispatch(self, *runs: Run, now: float = NOW, quick: bool = False) -> list[Run]:
        """Dispatch runs, all of quick senses or none; gives those that nobody took."""
        waiting = deque(runs)
        assert self.pool.dispatch(waiting, now, lambda _sense: quick) == []
        return list(waiting)

    def busy(self, run: Run, now: float = NOW) -> tuple[WorkerHandle, FakeChild]:
        """Dispatch a run; gives who has it."""
        assert self.dispatch(run, now=now) == []
        [worker] = [worker for worker in self.pool.busy if worker.open_run and worker.open_run.run is run]
        return worker, self.child_of(worker)

    def complete(self, worker: WorkerHandle, rss_bytes: int | None = None) -> None:
        """Have a worker end its run well, with so much memory."""
        assert worker.open_run
        outcome = RunResult(worker.open_run.run.run_id, "ok", 1.0, rss_bytes=rss_bytes)
        self.child_of(worker).says(outcome)
        assert [ended.outcome for ended in self.pool.hear(worker, NOW)] == [outcome]

    def serving(self) -> list[WorkerHandle]:
        """Give the workers that are to stay."""
        return [worker for worker in self.workers() if not worker.stopping]

    def _fork(self, now: float) -> Child:
        if not self.can_fork:
            raise OSError(11, "Resource temporarily unavailable")
        self.children.append(FakeChild(now=now))
        return cast(Child, self.children[-1])

    def _watch(self, worker: WorkerHandle) -> None:
        self.watched.append(worker.child.pid)

    def _forget(self, worker: WorkerHandle) -> None:
        self.forgotten.append(worker.child.pid)
