"""The pool's books are in order after every history of runs, deaths, edits, scales and stops."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.children import FakeChild
from support.pool import NOW, Rig, ok, run_of, version_of

from nerve.codebase import Version
from nerve.config import MAX_WORKERS
from nerve.messages import Finish, Outcome, Ready, Run
from nerve.pool import Ended, Limits


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order: every run that was dispatched ends exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(size=3)
        self.now = NOW
        self.open: set[str] = set()
        self.ended: list[str] = []
        self.dispatched = 0
        self.version = version_of("d0")

    def _end(self, endings: Any) -> None:
        for ended in cast(list[Ended], list(endings)):
            self.ended.append(ended.outcome.run_id)
            self.open.remove(ended.outcome.run_id)

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        """Let the loop turn at a later moment."""
        self.now += seconds
        self.rig.pool.fill(self.now)
        self.rig.pool.enforce(self.now)

    @precondition(lambda self: self.rig.pool.free)
    @rule()
    def dispatch(self) -> None:
        """Start a run."""
        self.dispatched += 1
        self.open.add(f"a/{self.dispatched}")
        self.rig.pool.dispatch(run_of("a", self.dispatched, self.version), self.now)

    @rule(digest=st.sampled_from(["d1", "d2"]))
    def edit(self, digest: str) -> None:
        """Have another version from now on."""
        self.version = version_of(digest)

    @rule(size=st.integers(1, 5) | st.integers(1, MAX_WORKERS))
    def scale(self, size: int) -> None:
        """Have another number of workers."""
        self.rig.pool.resize(size)

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
        match what:
            case "ready":
                child.says(Ready())
            case "outcome":
                child.says(ok(run))
            case "spent":
                child.says(Outcome(run.run_id, "error", 1.0, None, None, spent=True))
            case "wrong":
                child.says(ok(run_of("other")))
            case "garbage":
                child.link.garbage = True
            case "hang up":
                child.link.hung_up = True
        self._end(self.rig.pool.hear(worker))

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data(), code=st.sampled_from([0, 1, -9, -11]), outcome=st.booleans())
    def die(self, data: st.DataObject, code: int, *, outcome: bool) -> None:
        """Have a worker die, perhaps right after its outcome."""
        worker = data.draw(st.sampled_from(self.rig.workers()))
        last_words = [ok(worker.open_run.run)] if outcome and worker.open_run else []
        self.rig.child_of(worker).ends(code, *last_words)
        self._end(self.rig.pool.reap(self.now))

    @rule(what=st.sampled_from(["close", "interrupt", "condemn"]))
    def stop(self, what: str) -> None:
        """Stop the engine, or a part of it."""
        match what:
            case "close":
                self.rig.pool.close()
            case "interrupt":
                self.rig.pool.interrupt()
            case "condemn":
                self.rig.pool.condemn(self.now)

    @invariant()
    def books_are_in_order(self) -> None:
        """Open runs are those of busy workers; nobody is both free and busy; only busy ones are ever too many."""
        pool = self.rig.pool
        serving = self.rig.serving()
        assert self.open == {worker.open_run.run.run_id for worker in pool.busy if worker.open_run}
        assert len(self.ended) == len(set(self.ended))
        assert pool.free + len(pool.busy) <= len(pool.workers)
        assert len(serving) <= pool.size or all(worker.open_run for worker in serving)
        for worker in self.rig.workers():
            self.check_told(self.rig.child_of(worker))
        assert not (pool.closed and pool.free)

    def check_told(self, child: FakeChild) -> None:
        """A worker has the code of each of its runs, is told to finish once, and nothing after it."""
        version: Version | None = None
        for message in child.told:
            if isinstance(message, Run):
                assert message.version is not None or version is not None
                assert message.version is not version or version is None
                version = message.version or version
        assert Finish() not in child.told[:-1]

    def teardown(self) -> None:
        """In the end everybody dies, and with that every run has ended."""
        for worker in self.rig.workers():
            self.rig.child_of(worker).ends(-9)
        self._end(self.rig.pool.reap(self.now))
        assert self.open == set()
        assert len(self.ended) == self.dispatched
        assert all(child.closed for child in self.rig.children)


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyHistory = AnyHistory.TestCase
