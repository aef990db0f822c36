"""A pool of fake children, and the runs that its tests dispatch to them."""

from __future__ import annotations

from typing import cast

import msgspec

from nerve.events.trigger import Trigger
from nerve.processes.child import Child
from nerve.processes.messages import Ready, Run, RunResult
from nerve.processes.pool import Pool
from nerve.processes.worker_handle import RecordedRun, WorkerHandle
from nerve.reload.codebase import Module, Version
from support.children import FakeChild

NOW = 100.0
TIMEOUT, GRACE = 30.0, 5.0
BY_INTERVAL = Trigger("interval", "a-reflex", None, 0, 0)


def version_of(digest: str, sense: str = "disk") -> Version:
    """Make a version of a sense."""
    return Version(Module(f"senses.{sense}", f"/senses/{sense}.py", b"", digest))


VERSION = version_of("d")
"""The version of every run of which a test says nothing else."""


def run_of(sense: str = "disk", number: int = 1, version: Version | None = None) -> Run:
    """Make a run as a worker gets it; without a version it is as if the worker had the code."""
    return Run(
        run_id=f"{sense}/{number}",
        sense=sense,
        version=version,
        trigger=BY_INTERVAL,
        timeout=TIMEOUT,
        max_payload=1000,
    )


def recorded(sense: str = "disk", number: int = 1, version: Version = VERSION, *, quick: bool = False) -> RecordedRun:
    """Make a run as the kernel holds it."""
    return RecordedRun(run_of(sense, number), version, GRACE, quick)


def quick_runs(count: int, sense: str = "a") -> list[RecordedRun]:
    """Make `count` quick runs of one sense."""
    return [recorded(sense, number, quick=True) for number in range(count)]


def with_code(run: RecordedRun) -> Run:
    """Return the message that starts a run on a worker that lacks the code."""
    return msgspec.structs.replace(run.run, version=run.version)


def ok(run: RecordedRun | Run, signal: str | None = None) -> RunResult:
    """Make the result of a run that went well."""
    run_id = run.run.run_id if isinstance(run, RecordedRun) else run.run_id
    return RunResult(run_id=run_id, status="ok", duration_ms=12.0, signal=signal)


class PoolRig:
    """A pool of fake children, which remembers the ones it forked, watched and forgot."""

    def __init__(self, size: int = 2) -> None:
        self.children: list[FakeChild] = []
        self.watched: list[int] = []
        self.forgotten: list[int] = []
        self.can_fork = True
        self.pool = Pool(self._fork, self._watch, self._forget, size)

    def start(self, now: float = NOW) -> None:
        """Fill the pool, and have every worker send Ready."""
        self.pool.fill(now)
        for worker in self.workers():
            self.child_of(worker).says(Ready())
            assert self.pool.receive(worker, NOW) == []

    def workers(self) -> list[WorkerHandle]:
        """Return the workers of the pool."""
        return list(self.pool.workers.values())

    def child_of(self, worker: WorkerHandle) -> FakeChild:
        """Return the fake process of a worker."""
        return cast(FakeChild, worker.child)

    @property
    def free(self) -> int:
        """How many workers would begin with a run at once."""
        return sum(worker.is_free for worker in self.workers())

    def dispatch(self, *runs: RecordedRun, now: float = NOW) -> list[RecordedRun]:
        """Reserve slots for runs and dispatch them; return those from the first one on that has no slot."""
        assigned = []
        for run in runs:
            slot = self.pool.reserve(run.run.sense, run.version, quick=run.quick)
            if slot is None:
                break
            assigned.append((run, slot))
        self.pool.dispatch(assigned, now)
        return list(runs[len(assigned) :])

    def has_slot(self, run: RecordedRun) -> bool:
        """Return True if there is a slot for a run; it is not kept."""
        slot = self.pool.reserve(run.run.sense, run.version, quick=run.quick)
        if slot:
            self.pool.release([slot])
        return slot is not None

    def busy(self, run: RecordedRun, now: float = NOW) -> tuple[WorkerHandle, FakeChild]:
        """Dispatch a run to an idle worker, and return that worker."""
        assert self.dispatch(run, now=now) == []
        [worker] = [worker for worker in self.pool.busy if worker.open_run is run]
        return worker, self.child_of(worker)

    def complete(self, worker: WorkerHandle, rss_bytes: int | None = None) -> None:
        """Have a worker end its run well, with `rss_bytes` of memory."""
        assert worker.open_run
        result = RunResult(run_id=worker.open_run.run.run_id, status="ok", duration_ms=1.0, rss_bytes=rss_bytes)
        self.child_of(worker).says(result)
        assert [ended.result for ended in self.pool.receive(worker, NOW)] == [result]

    def serving(self) -> list[WorkerHandle]:
        """Return the workers that are not about to exit."""
        return [worker for worker in self.workers() if not worker.stopping]

    def _fork(self) -> Child:
        if not self.can_fork:
            raise OSError(11, "Resource temporarily unavailable")
        self.children.append(FakeChild())
        return cast(Child, self.children[-1])

    def _watch(self, worker: WorkerHandle) -> None:
        self.watched.append(worker.child.pid)

    def _forget(self, worker: WorkerHandle) -> None:
        self.forgotten.append(worker.child.pid)
