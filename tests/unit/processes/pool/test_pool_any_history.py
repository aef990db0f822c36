"""The pool's books are in order after every history of runs, deaths, edits, scales and stops."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.pool import NOW, Rig, ok, run_of, version_of

from nerve.config.config import MAX_WORKERS
from nerve.processes.messages import Finish, Ready, Run, RunResult
from nerve.processes.pool import Limits
from nerve.processes.worker_handle import EndedRun, WorkerHandle
from nerve.reload.codebase import Version


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order: every run that was dispatched ends exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(size=3)
        self.now = NOW
        self.open: set[str] = set()
        self.versions: dict[str, Version] = {}
        self.known: dict[int, Version] = {}
        self.heard: dict[int, int] = {}
        self.held: deque[Run] = deque()
        self.ended: list[str] = []
        self.dispatched = 0
        self.version = version_of("d0")

    def _end(self, endings: Any) -> None:
        for ended in cast(list[EndedRun], list(endings)):
            self.ended.append(ended.outcome.run_id)
            self.open.remove(ended.outcome.run_id)

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        """Let the loop turn at a later moment."""
        self.now += seconds
        self.rig.pool.fill(self.now)
        self.rig.pool.enforce(self.now)

    @rule(number=st.integers(1, 12), quick=st.booleans())
    def dispatch(self, number: int, *, quick: bool) -> None:
        """Start runs, as many as there are places for; those that were taken back come first."""
        self.held.extendleft(reversed(self.rig.pool.returned))
        self.rig.pool.returned.clear()
        places = self.rig.pool.places(lambda _sense: quick)
        if not self.held:
            for _ in range(number):
                if places.claim("a"):
                    self.dispatched += 1
                    self.open.add(f"a/{self.dispatched}")
                    self.versions[f"a/{self.dispatched}"] = self.version
                    self.held.append(run_of("a", self.dispatched, self.version))
        self.held.extendleft(reversed(self.rig.pool.dispatch(self.held, self.now, lambda _sense: quick)))

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """Have a worker begin with what it is to do."""
        self.begin(data.draw(st.sampled_from(self.rig.workers())))

    def begin(self, worker: WorkerHandle) -> None:
        """Take the run that a worker has to do, wherever it was put, if that was not done before."""
        prefetch = self.rig.child_of(worker).prefetch
        if worker.open_run and prefetch.waiting and prefetch.waiting[0].run_id == worker.open_run.run.run_id:
            self.see(worker, prefetch.take())

    def see(self, worker: WorkerHandle, message: Run) -> None:
        """Note the code that a worker has been handed: it must be that of each run that it sees."""
        version = message.version or self.known[worker.child.pid]
        assert version is self.versions[message.run_id]
        self.known[worker.child.pid] = version

    @rule(digest=st.sampled_from(["d1", "d2"]))
    def edit(self, digest: str) -> None:
        """Have another version from now on."""
        self.version = version_of(digest)

    @rule(size=st.integers(1, 5) | st.integers(1, MAX_WORKERS))
    def scale(self, size: int) -> None:
        """Have another number of workers."""
        self.rig.pool.resize(size, self.now)

    @rule(max_runs=st.none() | st.integers(1, 3))
    def limit(self, max_runs: int | None) -> None:
        """Replace workers after so many runs."""
        self.rig.pool.limits = Limits(max_runs)

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data(), what=st.sampled_from(["ready", "outcome", "spent", "wrong", "garbage", "hang up"]))
    def speak(self, data: st.DataObject, what: str) -> None:
        """Have a worker say something."""
        worker = data.draw(st.sampled_from(self.rig.workers()))
        child = self.rig.child_of(worker)
        run = worker.open_run.run if worker.open_run else run_of("none")
        self.begin(worker)  # it has nothing to say of a run that it has not seen
        match what:
            case "ready":
                child.says(Ready())
            case "outcome":
                child.says(ok(run))
            case "spent":
                child.says(RunResult(run.run_id, "error", 1.0, None, None, spent=True))
            case "wrong":
                child.says(ok(run_of("other")))
            case "garbage":
                child.link.garbage = True
            case "hang up":
                child.link.hung_up = True
        self._end(self.rig.pool.hear(worker, self.now))

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data(), code=st.sampled_from([0, 1, -9, -11]), outcome=st.booleans())
    def die(self, data: st.DataObject, code: int, *, outcome: bool) -> None:
        """Have a worker die, perhaps right after its outcome."""
        worker = data.draw(st.sampled_from(self.rig.workers()))
        last_words = [ok(worker.open_run.run)] if outcome and worker.open_run else []
        if last_words:
            self.begin(worker)
        self.rig.child_of(worker).ends(code, *last_words)
        self._end(self.rig.pool.reap(self.now))

    @rule(what=st.sampled_from(["close", "interrupt", "condemn"]))
    def stop(self, what: str) -> None:
        """Stop the engine, or a part of it."""
        match what:
            case "close":
                self.rig.pool.close(self.now)
            case "interrupt":
                self.rig.pool.interrupt()
            case "condemn":
                self.rig.pool.condemn(self.now)

    @invariant()
    def books_are_in_order(self) -> None:
        """Open runs are those of busy workers; nobody is both free and busy; only busy ones are ever too many."""
        pool = self.rig.pool
        serving = self.rig.serving()
        given = [run.run_id for worker in pool.busy for run in self.runs_of(worker)]
        given += [run.run_id for run in (*self.held, *pool.returned)]
        assert len(given) == len(set(given))
        assert self.open == set(given)
        assert len(self.ended) == len(set(self.ended))
        assert pool.free + len(pool.busy) <= len(pool.workers)
        assert all(not worker.ahead or worker.open_run for worker in pool.workers.values())
        assert not any(worker.outgoing for worker in pool.workers.values())
        assert len(serving) <= pool.size or all(worker.open_run for worker in serving)
        for worker in self.rig.workers():
            self.check_told(worker)
        assert not (pool.closed and pool.free)

    def runs_of(self, worker: WorkerHandle) -> list[Run]:
        """Give what a worker has to do."""
        return [*([worker.open_run.run] if worker.open_run else []), *worker.ahead]

    def check_told(self, worker: WorkerHandle) -> None:
        """A worker is told to finish once, and nothing after it; it sees at once what comes by its link."""
        told = self.rig.child_of(worker).told
        for message in told[self.heard.get(worker.child.pid, 0) :]:
            if isinstance(message, Run):
                self.see(worker, message)
        self.heard[worker.child.pid] = len(told)
        assert Finish() not in told[:-1]

    def teardown(self) -> None:
        """In the end everybody dies, and with that every run has ended."""
        for worker in self.rig.workers():
            self.rig.child_of(worker).ends(-9)
        self._end(self.rig.pool.reap(self.now))
        left = {run.run_id for run in (*self.held, *self.rig.pool.returned)}
        assert self.open == left
        assert len(self.ended) == self.dispatched - len(left)
        assert all(child.closed for child in self.rig.children)


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyHistory = AnyHistory.TestCase
